"""An explanation comes back from disk as it was, and says what its map leaves out."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from mdnet.errors import DataError
from mdnet.explain.explanation import Explanation


@pytest.fixture
def explanation() -> Explanation:
    random = np.random.default_rng(3)
    return Explanation(
        map=random.normal(size=(5, 7)),
        image=random.integers(0, 256, (10, 14, 3), dtype=np.uint8),
        method="evidence",
        target="mitosis: rare against absent",
        unit="logit",
        score=1.25,
        offset=-0.5,
        model="small",
        source="a tile.png",
        parameters={"block": None, "window": 16},
        seconds=0.125,
    )


def test_the_residual_is_what_map_and_offset_leave_of_the_score(explanation):
    assert explanation.residual == pytest.approx(1.25 - (explanation.map.sum() - 0.5))
    assert replace(explanation, offset=None).residual is None


def test_npz_gives_everything_back_to_the_bit(explanation, tmp_path):
    for each in (explanation, replace(explanation, offset=None, score=float("-inf"))):
        loaded = Explanation.load_npz(each.save_npz(tmp_path / "deep" / "map.npz"))
        assert loaded.map.tobytes() == each.map.tobytes()
        assert loaded.image.tobytes() == each.image.tobytes()
        assert loaded.to_dict() == each.to_dict()


def test_the_record_is_json_and_holds_no_array(explanation):
    assert json.loads(json.dumps(explanation.to_dict()))["parameters"] == {"block": None, "window": 16}


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut", None])
def test_a_file_that_is_no_explanation_is_one_line(tmp_path, content):
    path = tmp_path / "map.npz"
    if content is None:
        np.savez(path, map=np.zeros((2, 2)))
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"map\.npz: no explanation"):
        Explanation.load_npz(path)
    with pytest.raises(DataError, match=r"none\.npz: no explanation"):
        Explanation.load_npz(tmp_path / "none.npz")
