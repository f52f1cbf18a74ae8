"""Options of how words are chosen, as `mdnet generate` takes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mdnet.data.statements import StatementReader
    from mdnet.inference.decoding_config import DecodingConfig
    from mdnet.models.mdnet import MDNet

__all__ = [
    "Alternatives",
    "Beams",
    "Best",
    "Constrained",
    "Diversity",
    "Groups",
    "LengthPenalty",
    "NoRepeatNgram",
    "Phrases",
    "Sample",
    "Seed",
    "Temperature",
    "TopK",
    "TopP",
    "decoding_config",
    "phrase_reader",
]


def _option(text: str) -> Any:
    return typer.Option(help=text, show_default=False)


Beams = Annotated[int | None, _option("Beam search with so many beams; with --sample, so many draws.")]
LengthPenalty = Annotated[
    float | None,
    _option("Rank texts by log p / tokens to this power; 0 favours short ones. [default: 1]"),
]
NoRepeatNgram = Annotated[
    int | None, _option("No run of so many words stands twice in a section. [default: 0, no limit]")
]
Best = Annotated[
    int | None, _option("Give so many texts a section, the best first; of as many beams or more.")
]
Groups = Annotated[int | None, _option("Diverse beam search: share the beams out to so many groups.")]
Diversity = Annotated[float | None, _option("What a word costs that the groups before took. [default: 0.5]")]
Sample = Annotated[bool, typer.Option("--sample", help="Draw words at random.")]
Temperature = Annotated[
    float | None, _option("Of draws: under 1 nearer to the likeliest words. [default: 1]")
]
TopK = Annotated[int | None, _option("Draw from so many likeliest words. [default: 0, all]")]
TopP = Annotated[
    float | None, _option("Draw from the likeliest words of this probability together. [default: 1]")
]
Seed = Annotated[int | None, _option("Of draws; they differ from run to run unless given.")]
Alternatives = Annotated[int | None, _option("Give so many likeliest words in place of each word (jsonl).")]
Constrained = Annotated[
    bool,
    typer.Option(
        "--constrained",
        help="Of the beams or draws write the best that states the predicted class.",
    ),
]
Phrases = Annotated[
    Path | None,
    _option("File of phrases, phrases.yaml, by which --constrained reads a section; synthetic needs none."),
]


def decoding_config(*, sample: bool, constrained: bool, **given: Any) -> DecodingConfig:
    """The decoding that the options ask for; what is None was not given.

    Raises:
        ConfigurationError: Options that do not go together, or are out of range.
    """
    from mdnet.errors import ConfigurationError
    from mdnet.inference.decoding_config import DecodingConfig

    options = {name: value for name, value in given.items() if value is not None}
    if sample and "groups" in options:
        raise ConfigurationError("--sample and --groups: draw, or search in groups; leave one out")
    method = "greedy"
    if sample:
        method = "sample"
    elif "groups" in options:
        method = "diverse_beam"
    elif "beams" in options:
        method = "beam"
    return DecodingConfig(method=method, constrained=constrained, **options)


def phrase_reader(phrases: Path | None, model: MDNet) -> StatementReader | None:
    """The reader of a file of phrases for what a model writes; None of no file."""
    if phrases is None:
        return None
    from mdnet.data.statements import PhraseReader

    return PhraseReader.from_yaml(phrases, model.config.space, sections=model.config.sections)
