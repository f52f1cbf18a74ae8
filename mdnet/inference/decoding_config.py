"""How words are chosen: `DecodingConfig`, with the names that `transformers.GenerationConfig` made usual.

It needs no PyTorch, so that a command line can say what is wrong with an option before anything is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from mdnet.errors import ConfigurationError

__all__ = ["METHODS", "DecodingConfig"]

METHODS = ("greedy", "beam", "sample", "diverse_beam")

# The methods that look at an option; one that is no key here means something to all of them.
_LOOKED_AT_BY = {
    "beams": ("beam", "sample", "diverse_beam"),
    "best": ("beam", "sample", "diverse_beam"),
    "constrained": ("beam", "sample", "diverse_beam"),
    "length_penalty": ("beam", "sample", "diverse_beam"),
    "temperature": ("sample",),
    "top_k": ("sample",),
    "top_p": ("sample",),
    "seed": ("sample",),
    "groups": ("diverse_beam",),
    "diversity": ("diverse_beam",),
}

# Far beyond what is of use; still more, and scores would be no numbers.
_MOST = {"length_penalty": 10, "temperature": 1000, "diversity": 1000}


@dataclass(frozen=True, kw_only=True)
class DecodingConfig:
    """How a section is written. What is not said stays greedy.

    Attributes:
        method: `greedy`, the likeliest next word each time; `beam`, the best of several kept side by side;
            `sample`, drawn at random; `diverse_beam`, beams in groups that avoid each other's words.
        beams: Texts a section that are kept (`beam`, `diverse_beam`) or drawn (`sample`).
        length_penalty: Exponent a of `score = log p / tokens ** a`, which ranks the texts of a section; the
            end token counts. 0 ranks by probability, 1 by the mean of the log probabilities.
        no_repeat_ngram: A run of so many tokens stands once in a section at most; 0: no such limit.
        temperature: What logits are divided by before a draw; under 1 draws are nearer to greedy.
        top_k: Draw from so many likeliest words; 0: from all.
        top_p: Draw from the likeliest words that hold this much probability together; 1: from all.
        groups: Groups of `diverse_beam`, each of `beams / groups`.
        diversity: What a word costs a group for each text of the groups before it that took it at this step.
        alternatives: Tell so many likeliest words in place of each word.
        best: Texts a section to give, the written one among them.
        constrained: Of the texts of a section write the best that states the predicted class
            (`mdnet.inference.constraints`).
        seed: Of the draws; None: from PyTorch's own generator (`torch.manual_seed`).

    Raises:
        ConfigurationError: A value out of range, or one that the method would not look at.
    """

    method: str = "greedy"
    beams: int = 1
    length_penalty: float = 1.0
    no_repeat_ngram: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    groups: int = 1
    diversity: float = 0.5
    alternatives: int = 0
    best: int = 1
    constrained: bool = False
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigurationError(f"decoding method {self.method!r} is none of {', '.join(METHODS)}")
        for option in fields(self):
            value, methods = getattr(self, option.name), _LOOKED_AT_BY.get(option.name, METHODS)
            if value != option.default and self.method not in methods:
                raise ConfigurationError(
                    f"{option.name} {value}: decoding method {self.method} does not look at it; choose "
                    f"{' or '.join(methods)}, or leave it out"
                )
        for name, least in [("beams", 1), ("best", 1), ("groups", 1)]:
            if getattr(self, name) < least:
                raise ConfigurationError(f"{name} {getattr(self, name)}: give {least} or more")
        for name in ("length_penalty", "no_repeat_ngram", "top_k", "diversity", "alternatives"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(f"{name} {getattr(self, name)}: give 0 or more")
        for name, most in _MOST.items():
            if getattr(self, name) > most:
                raise ConfigurationError(f"{name} {getattr(self, name):g}: give {most:g} at most")
        if not self.temperature > 0:
            raise ConfigurationError(
                f"temperature {self.temperature:g}: give more than 0 (near 0 is method greedy)"
            )
        if not 0 < self.top_p <= 1:
            raise ConfigurationError(f"top_p {self.top_p:g}: give more than 0, and 1 at most")
        if self.beams % self.groups:
            raise ConfigurationError(
                f"{self.beams} beams in {self.groups} groups: give beams that the groups share evenly"
            )
        if self.best > self.beams:
            raise ConfigurationError(
                f"best {self.best} of {self.beams} beams: give as many beams as texts, or more"
            )
        if self.constrained and self.beams < 2:
            raise ConfigurationError("constrained with 1 beam leaves nothing to choose: give 2 beams or more")
