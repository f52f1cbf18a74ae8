"""What is explained: one number that the model gives, as a function of the image.

A `ClassTarget` is an aspect's logit, or the difference of two; a `WordTarget` is the log-probability
of one word of the report, a `SectionTarget` that of a section's text, a `ReportTarget` that of all.
`Scorer` makes any of them a module from images to numbers, which is all that the methods of this
package, captum's among them, need to know of a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mdnet.data.text import join_words
from mdnet.errors import ConfigurationError
from mdnet.inference.finding import Finding, SectionFinding
from mdnet.models.mdnet import MDNet

__all__ = ["ClassTarget", "ReportTarget", "Scorer", "SectionTarget", "Target", "TextTarget", "WordTarget"]


@dataclass(frozen=True)
class ClassTarget:
    """The logit of a class, or its difference from that of another class.

    Attributes:
        aspect: Aspect name; the one that concludes unless named.
        label: Class name; the model's own answer to each image unless named.
        against: A second class, whose logit is taken off.
    """

    aspect: str | None = None
    label: str | None = None
    against: str | None = None

    def resolved(self, finding: Finding) -> ClassTarget:
        """The same target with the names that were left open taken from what the model said.

        A class that was left open is explained against the aspect's reference class, and the
        reference against the likeliest other class, as a finding's page does: one class's logit
        alone means little under a softmax.

        Raises:
            ConfigurationError: A name that the label space lacks, or no answer to explain.
        """
        name = self.aspect or finding.diagnosis.name
        aspect = finding.label_space[name]
        for label in (self.label, self.against):
            if label is not None:
                aspect.index(label)
        if self.label is not None:
            return replace(self, aspect=name)
        answer = finding.aspects[name]
        if aspect.multi_label:
            label = max(answer.probabilities, key=lambda c: answer.probabilities[c])
            return ClassTarget(name, label, self.against if self.against != label else None)
        against = self.against if self.against != answer.label else None
        return ClassTarget(name, answer.label, against or answer.opposite(answer.label))

    @property
    def unit(self) -> str:
        return "logit"

    def weights(self, model: MDNet) -> tuple[int, Tensor]:
        """Position of the aspect, and (classes,) weights: +1 for the class, -1 for the other.

        Raises:
            ConfigurationError: A name left open or that the model lacks, or a class against itself.
        """
        space = model.config.space
        if self.aspect is None or self.label is None:
            raise ConfigurationError("name the aspect and the class, or take them from a finding: resolved()")
        aspect = space[self.aspect]
        if self.label == self.against:
            raise ConfigurationError(f"{self}: a class against itself is 0 everywhere; name another class")
        weights = torch.zeros(len(aspect.classes))
        weights[aspect.index(self.label)] += 1.0
        if self.against is not None:
            weights[aspect.index(self.against)] -= 1.0
        return space.names.index(aspect.name), weights

    def score(self, model: MDNet, pixel_values: Tensor) -> Tensor:
        """The number of each image, (B,)."""
        logits = model(pixel_values).logits[self.aspect]  # (B, classes)
        return logits @ self.weights(model)[1].to(logits)

    def __str__(self) -> str:
        against = f" against {self.against}" if self.against else ""
        return f"{self.aspect or 'diagnosis'}: {self.label or 'the answer'}{against}"


class TextTarget:
    """Base of the targets that are words of the report, given an image and the words before each."""

    @property
    def unit(self) -> str:
        return "log-probability"

    @property
    def texts(self) -> Mapping[str, tuple[str, ...]]:
        """Section name to its words."""
        raise NotImplementedError

    def tokens(self, model: MDNet, studies: int, device: torch.device) -> Tensor:
        """The words as the model's forward pass takes them, (studies, S, T), other sections empty.

        Raises:
            ConfigurationError: The model writes no such section, does not know a word, or there is none.
        """
        sections = model.config.sections
        if not sections:
            raise ConfigurationError("the model writes no report: there is no word to explain")
        ids = {}
        for section, words in self.texts.items():
            if model.tokenizer is None or section not in sections:
                raise ConfigurationError(
                    f"no section {section!r}; the model's sections: {', '.join(sections)}"
                )
            ids[section] = [model.tokenizer.id_of(word) for word in words]
        length = max((len(numbers) for numbers in ids.values()), default=0)
        if not length:
            raise ConfigurationError(f"{self}: there is no word to explain; name at least one")
        tokens = torch.full((len(sections), length), model.config.pad_id, device=device)
        for section, numbers in ids.items():
            tokens[sections.index(section), : len(numbers)] = torch.tensor(numbers, device=device)
        return tokens.expand(studies, -1, -1)

    def log_probabilities(self, model: MDNet, pixel_values: Tensor) -> Tensor:
        """Log p of each word, (B, S, T); 0 where there is none."""
        tokens = self.tokens(model, len(pixel_values), pixel_values.device)
        # beta = eta = 1: the language's gradient reaches the image unscaled (formula 6)
        output = model(pixel_values, tokens=tokens, beta=1.0, eta=1.0)
        log_p = output.report_logits.log_softmax(dim=-1).gather(-1, tokens[..., None]).squeeze(-1)
        return log_p.masked_fill(tokens == model.config.pad_id, 0.0)

    def score(self, model: MDNet, pixel_values: Tensor) -> Tensor:
        """The number of each image, (B,): the words' log-probability together."""
        return self.log_probabilities(model, pixel_values).sum(dim=(1, 2))


@dataclass(frozen=True)
class WordTarget(TextTarget):
    """log p(word | image, the section's words before it).

    Attributes:
        section: Section name.
        words: The section's words, up to the one explained.
    """

    section: str
    words: tuple[str, ...]

    @classmethod
    def of(cls, finding: Finding, section: str, position: int) -> WordTarget:
        """A word that the model wrote itself; `position` counts from 0.

        Raises:
            ConfigurationError: No such section or word.
        """
        words = section_of(finding, section).words
        if not 0 <= position < len(words):
            raise ConfigurationError(
                f"section {section!r} has {len(words)} words: there is no word {position + 1} in it"
            )
        return cls(section, words[: position + 1])

    @property
    def texts(self) -> Mapping[str, tuple[str, ...]]:
        return {self.section: self.words}

    def score(self, model: MDNet, pixel_values: Tensor) -> Tensor:
        """The number of each image, (B,): that of the last word alone."""
        log_p = self.log_probabilities(model, pixel_values)
        return log_p[:, model.config.sections.index(self.section), -1]

    def __str__(self) -> str:
        return f"{self.section}: word {len(self.words)}" + (f", {self.words[-1]!r}" if self.words else "")


@dataclass(frozen=True)
class SectionTarget(TextTarget):
    """log p(the section's words | image).

    Attributes:
        section: Section name.
        words: Its words.
    """

    section: str
    words: tuple[str, ...]

    @classmethod
    def of(cls, finding: Finding, section: str) -> SectionTarget:
        """A section as the model wrote it.

        Raises:
            ConfigurationError: No such section.
        """
        return cls(section, section_of(finding, section).words)

    @property
    def texts(self) -> Mapping[str, tuple[str, ...]]:
        return {self.section: self.words}

    def __str__(self) -> str:
        return f"{self.section}: {join_words(self.words)}"


@dataclass(frozen=True)
class ReportTarget(TextTarget):
    """log p(the report's words | image), all sections.

    Attributes:
        sections: (section name, words) of each.
    """

    sections: tuple[tuple[str, tuple[str, ...]], ...]

    @classmethod
    def of(cls, finding: Finding) -> ReportTarget:
        """The report as the model wrote it."""
        return cls(tuple((name, section.words) for name, section in finding.report.sections.items()))

    @property
    def texts(self) -> Mapping[str, tuple[str, ...]]:
        return dict(self.sections)

    def __str__(self) -> str:
        return f"report: {' '.join(join_words(words) for _, words in self.sections if words)}"


def section_of(finding: Finding, section: str) -> SectionFinding:
    """A section of a finding's report, or an error that names the sections there are."""
    finding.attention(section)
    return finding.report.sections[section]


Target = ClassTarget | WordTarget | SectionTarget | ReportTarget


class Scorer(nn.Module):
    """From normalised images (B, channels, H, W) to the target's number of each, (B,).

    Attributes:
        model: In evaluation mode, or the number would depend on the batch.
        target: Resolved: every name given.
    """

    def __init__(self, model: MDNet, target: Target) -> None:
        super().__init__()
        self.model = model
        self.target = target

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.target.score(self.model, pixel_values)
