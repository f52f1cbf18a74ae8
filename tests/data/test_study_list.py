"""`StudyList`: a sequence like any other, whose studies are not in memory."""

from __future__ import annotations

import logging
import multiprocessing
import pickle  # how studies reach loader processes; no file of ours is a pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mdnet.data import study_list as module
from mdnet.data.study import LabelSpace, Study, StudySet
from mdnet.data.study_list import StudyList


def studies(number: int) -> list[Study]:
    return [
        Study(
            f"s{i}",
            (Path(f"/data/images/{i}.png"), Path(f"{i}.png"))[: 1 + i % 2],
            ("train", "val", None)[i % 3],
            None if i % 5 == 0 else f"p{i}",
            {"grade": "höch", "signs": ("a", "b")} if i % 2 else {},
            {"report": (f"Text number {i}. " * 20, "")},
            {"m": Path("/m.png")} if i % 4 else {},
            f"file:{i}",
        )
        for i in range(number)
    ]


@pytest.mark.parametrize("tail", [100, 1 << 20])
def test_it_is_equal_to_the_list_that_it_was_made_of(monkeypatch, tail):
    monkeypatch.setattr(module, "_TAIL", tail)
    plain = studies(30)
    packed = StudyList(plain)
    for each in (packed, pickle.loads(pickle.dumps(packed))):  # noqa: S301
        assert each == plain
        assert plain == each
        assert tuple(plain) == each
        assert each != plain[:-1]
        assert each != [*plain[:-1], plain[0]]
    assert [packed[0], packed[-1], packed[7]] == [plain[0], plain[-1], plain[7]]
    assert packed[3:20:4] == plain[3:20:4]
    assert packed[::-1][2:4] == plain[::-1][2:4]
    assert packed.select([5, 2]).select([1]) == [plain[2]]
    assert packed.select([-1, 3]).select([-2]) == [plain[-1]]
    for wrong in (30, -31):
        with pytest.raises(IndexError):
            packed[wrong]
        with pytest.raises(IndexError):
            packed.select([wrong])


def test_texts_of_numpy_stay_texts_and_anything_else_is_an_error():
    text = np.str_("low")
    [back] = StudyList([Study(text, (Path("a"),), labels={text: text, "b": (text,)}, report={"r": (text,)})])
    assert back == Study("low", (Path("a"),), labels={"low": "low", "b": ("low",)}, report={"r": ("low",)})
    assert type(back.id) is type(back.labels["b"][0]) is str
    for wrong in (np.int64(3), b"low", 3):
        with pytest.raises(TypeError, match="labels and texts are str"):
            StudyList([Study("a", (), labels={"b": wrong})])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_has_the_same_studies(monkeypatch, method):
    monkeypatch.setattr(module, "_TAIL", 100)
    packed = StudyList(studies(30))
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(packed.__getitem__, [29, 3, 17, 3]) == [packed[place] for place in (29, 3, 17, 3)]


def test_a_split_is_a_part_of_the_same_records():
    found = StudySet(Path(), "studies", StudyList(studies(9)), LabelSpace(), ())
    assert found.split("val") == [study for study in studies(9) if study.split == "val"]
    assert isinstance(found.split("val"), StudyList)


def test_studies_take_some_bytes_each_and_not_their_reports():
    packed = StudyList(studies(3000))
    tracemalloc.start(25)
    for study in studies(3000):
        packed.append(study)
    own = tracemalloc.Filter(True, module.__file__, all_frames=True)  # not what other tests' threads take
    traces = tracemalloc.take_snapshot().filter_traces([own]).traces
    tracemalloc.stop()
    taken = sum(trace.size for trace in traces)
    assert taken < 2 * module._TAIL + 16 * 3000
    assert sum(len(study.report["report"][0]) for study in packed) > 1_900_000


def test_without_a_temporary_file_studies_stay_in_memory(monkeypatch, caplog):
    def refuse():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_TAIL", 100)
    monkeypatch.setattr(module.tempfile, "TemporaryFile", refuse)
    with caplog.at_level(logging.WARNING):
        assert StudyList(studies(20)) == studies(20)
    assert len(caplog.records) == 1
