"""Maps put to the proof: numbers that hold for any map, however it was made."""
