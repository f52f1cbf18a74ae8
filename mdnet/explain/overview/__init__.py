"""A model over a data set: what lies near what, which block decides, a rule in its place, its errors."""
