"""Parts of a run: what counts as written, wherever the writing was stopped."""

from __future__ import annotations

import errno
import os

import pytest

from mdnet.data.study import Fault
from mdnet.inference.bulk import parts
from mdnet.inference.bulk.parts import Part, PartWriter, find_written

BATCHES = {
    0: ("ä first\n", 1, ()),
    2: ("", 0, (Fault("x.png", "damaged", "copy it"), Fault("y.png", "ü", "z"))),
    1: ("second\nthird\n", 2, ()),
}


@pytest.fixture
def part(tmp_path) -> Part:
    return Part(tmp_path / "text", tmp_path / "progress")


def write(part: Part, numbers=tuple(BATCHES)) -> None:
    with PartWriter(part) as writer:
        for number in numbers:
            text, findings, unreadable = BATCHES[number]
            writer.write(number, text, findings=findings, unreadable=unreadable)


def texts(part: Part) -> dict[int, str]:
    return {number: place.read().decode() for number, place in find_written([part]).items()}


def test_what_was_written_is_found(part):
    assert find_written([part]) == {}
    write(part)
    found = find_written([part])
    assert list(found) == [0, 2, 1]
    for number, (text, findings, unreadable) in BATCHES.items():
        place = found[number]
        assert (place.read().decode(), place.findings, place.unreadable) == (text, findings, unreadable)


def test_wherever_either_file_ends_the_rest_is_written_once(part):
    write(part)
    text, progress = part.text.read_bytes(), part.progress.read_bytes()
    for file, whole in ((part.text, text), (part.progress, progress)):
        line_ends = [place for place, byte in enumerate(whole) if byte == ord("\n")]
        for end in {*range(0, len(whole), 9), *line_ends, *(place + 1 for place in line_ends)}:
            part.text.write_bytes(text)
            part.progress.write_bytes(progress)
            file.write_bytes(whole[:end])
            there = find_written([part])
            assert [*there] == [*BATCHES][: len(there)] or file is part.text
            write(part, [number for number in BATCHES if number not in there])
            assert texts(part) == {number: text for number, (text, *_) in BATCHES.items()}
            assert part.text.read_bytes() == text


def test_a_text_that_was_changed_is_not_taken_for_whole(part):
    write(part)
    content = bytearray(part.text.read_bytes())
    content[2] ^= 1  # of the first batch
    part.text.write_bytes(content)
    assert set(find_written([part])) == {1, 2}
    write(part, [0])
    assert texts(part) == {number: text for number, (text, *_) in BATCHES.items()}


@pytest.mark.parametrize("torn", ["text", "progress"])
def test_a_full_disk_costs_the_batch_being_written(part, torn, monkeypatch):
    opened = parts._opened

    class Full:
        """A file on a disk that has room for half of what comes next."""

        def __init__(self, file) -> None:
            self.file, self.writes = file, 0

        def write(self, content) -> int:
            self.writes += 1
            if self.writes == 4:
                return self.file.write(content[: len(content) // 2])
            if self.writes > 4:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(content)

        def __getattr__(self, name):
            return getattr(self.file, name)

    def on_a_full_disk(file, size):
        found = opened(file, size)
        return Full(found) if file.name == torn else found

    write(part, [0, 1])
    before = part.text.read_bytes(), part.progress.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(parts, "_opened", on_a_full_disk)
        with PartWriter(part) as writer:
            for number in range(2, 5):
                writer.write(number, f"{number}\n", findings=1, unreadable=())
            with pytest.raises(
                OSError, match="No space left on device; what was written is kept: free"
            ) as caught:
                writer.write(5, "five\n", findings=1, unreadable=())
    assert caught.value.filename == str(getattr(part, torn))
    assert set(find_written([part])) == {0, 1, 2, 3, 4}
    after = part.text.read_bytes(), part.progress.read_bytes()
    assert after[0].startswith(before[0])
    assert after[1].endswith(b"\n")  # whole lines alone
    with PartWriter(part) as writer:
        writer.write(5, "five\n", findings=1, unreadable=())
    assert part.text.read_bytes() == before[0] + b"2\n3\n4\nfive\n"
