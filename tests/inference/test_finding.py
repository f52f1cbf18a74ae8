"""What a finding says of its maps: sums that hold, and one line where there is nothing to say."""

from __future__ import annotations

import pickle  # what multiprocessing sends between processes; no file of ours is a pickle

import numpy as np
import pytest

from mdnet.data.study import Aspect, LabelSpace
from mdnet.errors import ConfigurationError
from mdnet.inference.finding import AspectEvidence, AspectFinding, Finding, ReportFinding, spread

SPACE = LabelSpace(
    (
        Aspect("mitosis", ("absent", "rare", "frequent")),
        Aspect("findings", ("oedema", "nodule"), multi_label=True),
    ),
    "mitosis",
)


def make_finding(rows: int, columns: int, *, found: tuple[str, ...] = ()) -> Finding:
    """Evidence 1, 2, 3, ... on grids of 2 x 3 and 4 x 6; biases 0.5, 1.5, 2.5."""
    blocks = {
        name: np.arange(1, 3 * h * w + 1, dtype=np.float32).reshape(3, h, w) / 100
        for name, (h, w) in {"block1": (4, 6), "block2": (2, 3)}.items()
    }
    evidence = {
        "mitosis": AspectEvidence(blocks, np.array([0.5, 1.5, 2.5], np.float32)),
        "findings": AspectEvidence({name: b[:2] for name, b in blocks.items()}, np.zeros(2, np.float32)),
    }
    numbers = {"absent": 0.2, "rare": 0.3, "frequent": 0.5}
    aspects = {
        "mitosis": AspectFinding(SPACE["mitosis"], ("frequent",), numbers, numbers),
        "findings": AspectFinding(SPACE["findings"], found, {"oedema": 0.4, "nodule": 0.1}, {}),
    }
    image = np.zeros((rows, columns, 3), np.uint8)
    return Finding("a.png", image, SPACE, aspects, ReportFinding({}), evidence)


SIZES = [(4, 6), (128, 96), (37, 53), (3, 2), (1, 1), (1, 200)]


@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_a_map_over_the_image_keeps_the_sum_of_every_block(rows, columns):
    finding = make_finding(rows, columns)
    for number, label in enumerate(SPACE["mitosis"].classes):
        evidence = finding.evidence("mitosis", label)
        sums = [
            block[number].sum(dtype=np.float64)
            for block in finding.aspect_evidence["mitosis"].blocks.values()
        ]
        assert evidence.shape == (rows, columns)
        assert float(evidence.sum()) == pytest.approx(sum(sums), rel=1e-9)
        assert evidence.total == pytest.approx(sum(sums) + 0.5 + number, rel=1e-9)
        assert evidence.bias == 0.5 + number
        assert [block.name for block in evidence.blocks] == ["block1", "block2"]
        assert [float(block.sum()) for block in evidence.blocks] == pytest.approx(sums, rel=1e-6)


@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_a_contrast_is_the_difference_of_two_maps(rows, columns):
    finding = make_finding(rows, columns)
    frequent, rare = (finding.evidence("mitosis", label) for label in ("frequent", "rare"))
    contrast = finding.evidence("mitosis", "frequent", against="rare")
    np.testing.assert_allclose(np.asarray(contrast), np.asarray(frequent) - np.asarray(rare), atol=1e-12)
    assert contrast.total == pytest.approx(frequent.total - rare.total)
    back = finding.evidence("mitosis", "rare", against="frequent")
    np.testing.assert_allclose(np.asarray(back), -np.asarray(contrast), atol=1e-12)
    assert finding.evidence("mitosis", "rare", against="rare").total == 0


@pytest.mark.parametrize(
    ("pixels", "cells"), [(8, 4), (9, 4), (5, 4), (4, 4), (3, 4), (1, 4), (7, 1), (224, 14)]
)
def test_spreading_keeps_sums_and_places(pixels, cells):
    matrix = spread(pixels, cells)
    assert matrix.shape == (pixels, cells)
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=0), 1.0)
    centres = (np.arange(pixels) + 0.5) @ matrix / pixels  # where each cell's evidence comes to lie
    inner = slice(1, -1) if cells > 2 else slice(None)
    np.testing.assert_allclose(centres[inner], ((np.arange(cells) + 0.5) / cells)[inner], atol=0.51 / pixels)


def test_spreading_over_as_many_pixels_as_cells_changes_nothing():
    np.testing.assert_array_equal(spread(5, 5), np.eye(5))


def test_the_model_s_own_answer_is_meant_where_no_class_is_named():
    finding = make_finding(8, 8, found=("nodule",))
    assert finding.evidence("mitosis").total == finding.evidence("mitosis", "frequent").total
    assert finding.evidence("findings").total == finding.evidence("findings", "nodule").total


@pytest.mark.parametrize(("found", "answer"), [((), "none"), (("oedema", "nodule"), "oedema, nodule")])
def test_without_one_answer_a_class_must_be_named(found, answer):
    finding = make_finding(8, 8, found=found)
    with pytest.raises(ConfigurationError, match=f"'findings' is {answer}: name one class of oedema, nodule"):
        finding.evidence("findings")
    assert finding.aspects["findings"].label == answer


def test_what_is_not_there_is_named_with_what_is():
    finding = make_finding(8, 8)
    with pytest.raises(ConfigurationError, match="no aspect 'polarity'; the aspects: mitosis, findings"):
        finding.evidence("polarity")
    with pytest.raises(ConfigurationError, match="no class 'many'; its classes: absent, rare, frequent"):
        finding.evidence("mitosis", "many")
    with pytest.raises(ConfigurationError, match="no class 'none'"):
        finding.evidence("mitosis", "rare", against="none")
    with pytest.raises(ConfigurationError, match="no section 'mitosis'; the report's sections: none"):
        finding.attention("mitosis")


def test_a_finding_survives_pickling_between_processes():
    finding = make_finding(8, 8)
    copy = pickle.loads(pickle.dumps(finding))  # noqa: S301  (our own bytes)
    np.testing.assert_array_equal(copy.evidence("mitosis"), finding.evidence("mitosis"))
    assert copy.evidence("mitosis").total == finding.evidence("mitosis").total


def test_a_map_is_an_ordinary_array_that_knows_its_bias():
    evidence = make_finding(8, 8).evidence("mitosis")
    assert isinstance(evidence, np.ndarray)
    assert evidence.dtype == np.float64
    assert float(np.asarray(evidence).sum()) + evidence.bias == pytest.approx(evidence.total)
