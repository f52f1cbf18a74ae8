"""Which scale decides: the table against a plain sum over studies."""

from __future__ import annotations

import numpy as np
import pytest
from overview_records import SPACE, record

from mdnet.explain.overview.observations import BlockContrast, Observation
from mdnet.explain.overview.scales import scale_lines, scale_table

BLOCKS = ("fine", "coarse")
EMPTY = np.zeros((1, 1, 3), np.uint8)


def observations(count: int = 24) -> list[Observation]:
    """Random contrasts for the true and the predicted class of every study."""
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        said, truth = random.choice(SPACE["mitosis"].classes, 2).tolist()
        contrasts = []
        for label in {said, truth}:
            signed = random.normal(size=2)
            absolute = np.abs(signed) + random.uniform(size=2)
            contrasts.append(BlockContrast("mitosis", label, None, signed, absolute, float(random.normal())))
        answer = record(
            number, said={"mitosis": said, "findings": (), "conclusion": "tumor"}, truth={"mitosis": truth}
        )
        made.append(Observation(answer, EMPTY, None, EMPTY, tuple(contrasts)))
    return made


@pytest.mark.parametrize("by", ["truth", "prediction"])
def test_blocks_and_bias_sum_to_the_mean_contrast_of_the_class_s_own_studies(by):
    made = observations()
    rows = scale_table(made, SPACE, BLOCKS, by=by)
    assert [row.label for row in rows] == ["absent", "rare", "frequent"]
    for row in rows:
        totals, shares = [], []
        for each in made:
            own = each.record.study.labels["mitosis"] if by == "truth" else each.record.labels["mitosis"][0]
            if own != row.label:
                continue
            (contrast,) = [c for c in each.contrasts if c.label == own]
            totals.append(contrast.signed[0] + contrast.signed[1] + contrast.bias)
            shares.append(contrast.absolute[1] / (contrast.absolute[0] + contrast.absolute[1]))
        assert row.studies == len(totals)
        assert row.contrast == pytest.approx(np.mean(totals))
        assert sum(row.signed.values()) + row.bias == pytest.approx(np.mean(totals))
        assert row.shares["coarse"] == pytest.approx(np.mean(shares))
        assert sum(row.shares.values()) == pytest.approx(1)
        assert row.decides == ("coarse" if np.mean(shares) > 0.5 else "fine")


def test_no_evidence_is_no_share():
    zeros = np.zeros(2)
    answer = record(0, said={"mitosis": "rare"}, truth={"mitosis": "rare"})
    made = [
        Observation(answer, EMPTY, None, EMPTY, (BlockContrast("mitosis", "rare", None, zeros, zeros, 0.5),))
    ]
    (row,) = scale_table(made, SPACE, BLOCKS)
    assert row.shares == {"fine": 0, "coarse": 0}
    assert row.contrast == 0.5


def test_the_text_has_a_line_a_class():
    lines = list(scale_lines(scale_table(observations(), SPACE, BLOCKS)))
    assert len(lines) == 4
    assert lines[0].split() == ["studies", "fine", "coarse", "bias", "contrast"]
    assert lines[1].startswith("mitosis: absent")
    assert list(scale_lines([])) == []
