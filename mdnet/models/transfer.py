"""A trained model taken over to other labels, sections and words: the first step of fine-tuning.

The image module stays whole. What belongs to one class, one word or one section is a row of a matrix, and
rows are carried over by name: a class of an aspect, a word, a section's begin token. What has no namesake
begins as in a new model. Where everything has one, the adapted model answers as the original does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from mdnet.data.study import LabelSpace
from mdnet.data.text import BEGIN, END, PAD, UNKNOWN, ReportTokenizer
from mdnet.errors import ConfigurationError
from mdnet.models.configuration import MDNetConfig
from mdnet.models.heads import Heads, copy_rows
from mdnet.models.mdnet import MDNet
from mdnet.models.registry import check_options, get_architecture, report_options
from mdnet.models.report_module import ReportModule

__all__ = ["CHANGEABLE", "HeadTransfer", "TransferRecord", "VocabularyTransfer", "adapt"]

_log = logging.getLogger(__name__)

CHANGEABLE = ("dropout", "maximum_words", "section_aspects", "views")
"""`MDNetConfig` arguments that may differ from the original's: no weight has another shape for them."""


@dataclass(frozen=True)
class HeadTransfer:
    """What became of one aspect's head.

    Attributes:
        aspect: Its name.
        kept: Classes whose weights were carried over.
        new: Classes that begin anew.
        dropped: Classes of the original that the new label space lacks.
    """

    aspect: str
    kept: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.new and not self.dropped:
            return f"aspect {self.aspect!r}: head kept"
        if not self.kept:
            what = "head dropped" if not self.new else "head replaced" if self.dropped else "new head"
            return f"aspect {self.aspect!r}: {what}"
        return f"aspect {self.aspect!r}: {_said(kept=self.kept, new=self.new, dropped=self.dropped)}"


@dataclass(frozen=True)
class VocabularyTransfer:
    """What became of the words; special tokens and begin tokens are not counted.

    Attributes:
        words: Of the new vocabulary.
        kept: Those of them whose embedding and output row were carried over.
        dropped: Words of the original that the new vocabulary lacks.
    """

    words: int
    kept: int
    dropped: int

    def __str__(self) -> str:
        return f"vocabulary: {self.kept} of {self.words} words kept, {self.dropped} dropped"


@dataclass(frozen=True)
class TransferRecord:
    """What was kept, replaced and dropped.

    Attributes:
        heads: One entry for every aspect of the new label space, then for those dropped.
        report: `kept`, `new`, `dropped`, or `none` where neither model writes reports.
        sections: Of a report that was kept: section to `kept`, `new` or `dropped`.
        vocabulary: Of a report that was kept.
        attention: Of a report that was kept: `kept`, or `new` where the lack of labels made it additive.
        calibration: `dropped`, or `none` where there was none.
    """

    heads: tuple[HeadTransfer, ...]
    report: str
    sections: Mapping[str, str]
    vocabulary: VocabularyTransfer | None
    attention: str | None
    calibration: str

    def lines(self) -> list[str]:
        """One line a head and a part, for people."""
        lines = [str(head) for head in self.heads]
        if self.report != "none":
            lines.append(f"report LSTM: {self.report}")
        if self.sections:
            states = {
                state: tuple(name for name, its in self.sections.items() if its == state)
                for state in ("kept", "new", "dropped")
            }
            lines.append(f"sections: {_said(**states)}")
        if self.vocabulary is not None:
            lines.append(str(self.vocabulary))
        if self.attention == "new":
            lines.append("attention: new, of another kind")
        if self.calibration == "dropped":
            lines.append("calibration: dropped, it was of the original's classes and data")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"sections": dict(self.sections)}


def adapt(
    model: MDNet,
    *,
    label_space: LabelSpace,
    sections: Sequence[str],
    tokenizer: ReportTokenizer | None,
    options: Mapping[str, Any] | None = None,
) -> tuple[MDNet, TransferRecord]:
    """A new model of the same architecture, with all of the original's weights that have a namesake.

    Args:
        model: The original; it is not touched.
        label_space: Of the new model.
        sections: Of the new model's reports; none means that it writes none.
        tokenizer: Vocabulary of the new model; needed where there are sections.
        options: `MDNetConfig` arguments that differ from the original's: any of `CHANGEABLE`.

    Returns:
        The model, with the original's preprocessing and no calibration, and what became of its parts; it is
        logged too, a line each.

    Raises:
        ConfigurationError: An option would change the architecture.
    """
    original: MDNetConfig = model.config  # type: ignore[assignment]  # the base class's type
    if original.architecture is not None and not get_architecture(original.architecture).writes:
        sections = ()
    tokenizer = tokenizer if sections else None
    config = _configuration(original, label_space, sections, tokenizer, dict(options or {}))
    adapted = MDNet(config, tokenizer=tokenizer, preprocessing=model.preprocessing)
    nn.Module.to(adapted, model.device, model.dtype).train(model.training)
    adapted.image.load_state_dict(model.image.state_dict())
    report, sections_now, vocabulary, attention = "none", {}, None, None
    if model.report is not None and adapted.report is not None:
        assert model.tokenizer is not None
        assert tokenizer is not None
        report = "kept"
        attention = _carry_report(model.report, adapted.report)
        vocabulary = _carry_words(model, adapted, model.tokenizer, tokenizer)
        sections_now = _compared(model.tokenizer.sections, config.sections)
    elif model.report is not None:
        report = "dropped"
    elif adapted.report is not None:
        report = "new"
    record = TransferRecord(
        heads=_carry_heads(model.heads, adapted.heads),
        report=report,
        sections=sections_now,
        vocabulary=vocabulary,
        attention=attention,
        calibration="none" if model.calibration is None else "dropped",
    )
    for line in record.lines():
        _log.info("%s", line)
    return adapted, record


def _configuration(
    original: MDNetConfig,
    label_space: LabelSpace,
    sections: Sequence[str],
    tokenizer: ReportTokenizer | None,
    options: dict[str, Any],
) -> MDNetConfig:
    check_options(options)
    for name, value in options.items():
        if name not in CHANGEABLE and getattr(original, name) != value:
            raise ConfigurationError(
                f"{name} is {value!r}, that of the weights {getattr(original, name)!r}: weights keep their "
                f"architecture; leave {name} out, or the weights (what may differ: {', '.join(CHANGEABLE)})"
            )
    if original.attention == "mdnet" and options.get("views", original.views) != original.views:
        raise ConfigurationError(
            f"views is {options['views']}: attention 'mdnet' has weights for the positions of "
            f"{original.views}; leave views out, or the weights"
        )
    arguments = {name: getattr(original, name) for name in MDNetConfig.__annotations__}
    arguments |= {
        "label_space": label_space.to_dict(),
        "sections": [],
        "begin_ids": [],
        "vocabulary_size": 0,
        "section_aspects": {
            section: aspect
            for section, aspect in _chosen_guides(original).items()
            if section in sections and (aspect is None or aspect in label_space)
        },
    }
    return MDNetConfig(**arguments | report_options(sections, tokenizer) | options)


def _chosen_guides(config: MDNetConfig) -> dict[str, str | None]:
    """Sections that somebody gave another guide than they have unless named."""
    names = ("label_space", "sections", "begin_ids")
    plain = MDNetConfig(**{name: getattr(config, name) for name in names}).section_aspects or {}
    return {s: aspect for s, aspect in (config.section_aspects or {}).items() if aspect != plain[s]}


def _carry_heads(old: Heads | None, new: Heads | None) -> tuple[HeadTransfer, ...]:
    """Copies the class weights of namesakes; an aspect that was single-label and is multi-label has none."""
    before = {aspect.name: aspect for aspect in old.space.aspects} if old is not None else {}
    transfers, rows = [], {}
    for aspect in new.space.aspects if new is not None else ():
        namesake = before.pop(aspect.name, None)
        if namesake is None:
            transfers.append(HeadTransfer(aspect.name, new=aspect.classes))
            continue
        same_kind = namesake.multi_label == aspect.multi_label
        shared = [name for name in aspect.classes if same_kind and name in namesake.classes]
        rows[aspect.name] = [(aspect.index(name), namesake.index(name)) for name in shared]
        transfers.append(
            HeadTransfer(
                aspect.name,
                kept=tuple(shared),
                new=tuple(name for name in aspect.classes if name not in shared),
                dropped=tuple(name for name in namesake.classes if name not in shared),
            )
        )
    if old is not None and new is not None:
        new.take_over(old, rows)
    dropped = [HeadTransfer(aspect.name, dropped=aspect.classes) for aspect in before.values()]
    return (*transfers, *dropped)


def _carry_report(old: ReportModule, new: ReportModule) -> str:
    """Copies what has nothing to do with words; what became of the attention."""
    same = type(old.attention) is type(new.attention)
    own = ("embedding.", "output.") if same else ("embedding.", "output.", "attention.")
    kept = {name: tensor for name, tensor in old.state_dict().items() if not name.startswith(own)}
    new.load_state_dict(new.state_dict() | kept)
    return "kept" if same else "new"


@torch.no_grad()
def _carry_words(
    model: MDNet, adapted: MDNet, before: ReportTokenizer, after: ReportTokenizer
) -> VocabularyTransfer:
    """Copies embeddings and output rows of shared tokens, begin tokens of equal section names among them."""
    assert model.report is not None
    assert adapted.report is not None
    old, new = before.fast.get_vocab(), after.fast.get_vocab()
    rows = [(new[token], old[token]) for token in new if token in old]
    copy_rows(model.report.embedding, adapted.report.embedding, rows)
    copy_rows(model.report.output, adapted.report.output, rows)
    words_before, words_after = _words_of(before), _words_of(after)
    kept = len(words_before & words_after)
    return VocabularyTransfer(len(words_after), kept, len(words_before) - kept)


def _words_of(tokenizer: ReportTokenizer) -> set[str]:
    no_words = {PAD, UNKNOWN, END, *(BEGIN.format(section=section) for section in tokenizer.sections)}
    return set(tokenizer.fast.get_vocab()) - no_words


def _compared(before: Sequence[str], after: Sequence[str]) -> dict[str, str]:
    """Every name with `kept`, `new` or `dropped`."""
    states = {name: "kept" if name in before else "new" for name in after}
    return states | {name: "dropped" for name in before if name not in after}


def _said(**names: tuple[str, ...]) -> str:
    """`kept a, b; new c` of what is not empty."""
    return "; ".join(f"{state} {', '.join(which)}" for state, which in names.items() if which)
