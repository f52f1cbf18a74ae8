"""What a run checks of itself when it has finished, in words and in `checks.json`.

A model can write good reports and point well without its attention mattering to a single word
(docs/results.md). So the attention is replaced on the val split: if the true reports become no less
likely, neither with uniform attention nor with another image's, the check fails.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mdnet.data.study import Study
from mdnet.explain.attention_use import AttentionUse, measure_attention_use
from mdnet.files import write_text
from mdnet.inference.predictor import Predictor
from mdnet.models.mdnet import MDNet

__all__ = ["attention_check", "check_run"]

_log = logging.getLogger(__name__)

_REPLACEMENTS = ("uniform", "other image")


def check_run(run: Path, studies: Sequence[Study]) -> dict[str, Any]:
    """Checks a run's best weights on studies that it was not trained on; writes `checks.json`.

    Returns:
        Check to its result; a check that needs more than there is (reports of two patients) is left
        out, and where none is left no file is written.
    """
    model = Predictor.from_pretrained(run).model
    checks = {}
    if (result := attention_check(model, studies)) is not None:
        checks["attention_used"] = result
    if checks:
        write_text(run / "checks.json", json.dumps(checks, indent=2) + "\n")
    return checks


def attention_check(model: MDNet, studies: Sequence[Study]) -> dict[str, Any] | None:
    """Whether the attention matters to the reports: `passed`, and the fall by each replacement.

    A failure is logged as a warning.

    Returns:
        None where it cannot be told: no report is written, or fewer than two patients have one.
    """
    told = [s for s in studies if any(s.report.get(name) for name in model.config.sections)]
    if len({study.patient or study.id for study in told}) < 2:
        return None
    uses = measure_attention_use(model, told, replacements=_REPLACEMENTS)
    passed = any(use.matters for use in uses.values())
    if not passed:
        _log.warning(
            "check failed: the attention is not used. On %d val studies the true report is no less likely "
            "%s; the attention maps of this model say nothing about its text",
            len(told),
            " or ".join(_in_words(use) for use in uses.values()),
        )
    return {"passed": passed} | {name: _record(use) for name, use in uses.items()}


def _record(use: AttentionUse) -> dict[str, Any]:
    """Without the words, which are hundreds."""
    return {name: value for name, value in use.to_dict().items() if name != "words"}


def _in_words(use: AttentionUse) -> str:
    fall = use.report
    attention = {"uniform": "with uniform attention", "other image": "with another image's"}[use.replacement]
    return (
        f"{attention} (log-likelihood falls by {fall.mean:.3f}, interval {fall.low:.3f} to {fall.high:.3f})"
    )
