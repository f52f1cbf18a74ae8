"""Sections that agree with the predicted class: the best hypothesis that states it.

What a text states is read by rule (`mdnet.data.statements`), from the whole text. So a filter on the
hypotheses of a search is exact, which words that are forbidden or forced on the way are not ("no", "not
completely lost"). It chooses among what the search has found, no more: where no hypothesis agrees the best is
written, and the finding says so (`SectionFinding.agrees`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mdnet.data import phantom
from mdnet.data.statements import PhantomReader, StatementReader
from mdnet.errors import ConfigurationError
from mdnet.inference.decoding import Agreement
from mdnet.models.mdnet import MDNet

__all__ = ["SectionStatements"]


class SectionStatements:
    """Reads whether sections state the class of their aspect.

    Attributes:
        aspects: Section name to the aspect that it is read for: the one whose evidence guides it, if the
            reader knows that one.

    Args:
        model: Names its sections, and has their words.
        reader: Reads them; unless given, the exact one of synthetic reports, if the model is of such.

    Raises:
        ConfigurationError: There is no reader, or it knows no aspect of a section.
    """

    def __init__(self, model: MDNet, reader: StatementReader | None) -> None:
        config = model.config
        if reader is None and config.space == phantom.LABEL_SPACE:
            reader = PhantomReader()
        if reader is None:
            raise ConfigurationError(
                "constrained decoding has to read what a section states, and nothing says how: give the "
                "phrases of every class (--phrases, or Predictor(statements=PhraseReader.from_yaml(...)))"
            )
        known = reader.read({})
        self.aspects = {
            section: aspect for section, aspect in (config.section_aspects or {}).items() if aspect in known
        }
        if not self.aspects:
            raise ConfigurationError(
                f"constrained decoding: the reader knows {', '.join(known) or 'no aspect'}, and no section "
                "is guided by that; give phrases for the aspects of the sections"
            )
        self._model, self._reader = model, reader

    def agreement(self, answers: Sequence[Mapping[str, str | tuple[str, ...]]]) -> Agreement:
        """Whether hypotheses (B, S, N, T) state what they should: (B, S, N), all of a section not read.

        Args:
            answers: Aspect name to the predicted class, or classes, one a study.
        """
        tokenizer = self._model.tokenizer
        assert tokenizer is not None
        due = [self._reader.due(labels) for labels in answers]

        def agree(tokens: Tensor) -> Tensor:
            rows = tokens.tolist()
            agrees = torch.ones(tokens.shape[:3], dtype=torch.bool)
            stated: dict[tuple[str, str], frozenset[str] | None] = {}  # many a text stands many times
            for column, section in enumerate(self._model.config.sections):
                if (aspect := self.aspects.get(section)) is None:
                    continue
                for study, labels in enumerate(due):
                    label = labels[aspect]
                    expected = frozenset((label,) if isinstance(label, str) else label)
                    for place, ids in enumerate(rows[study][column]):
                        text = tokenizer.decode(ids)
                        if (section, text) not in stated:
                            stated[section, text] = self._reader.read({section: text})[aspect]
                        agrees[study, column, place] = stated[section, text] == expected
            return agrees.to(tokens.device)

        return agree
