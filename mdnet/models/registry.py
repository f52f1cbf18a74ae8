"""The zoo's names: one file and one decorator a model, as in timm and torchvision's `models/_api.py`.

A registered function gives an `Architecture`: the arguments of its configuration and, where they are not
MDNet's own, the classes of its parts. `create_model` adds the label space, the sections and the vocabulary of
a data set, and builds it. Every file of `mdnet.models.zoo` is loaded when a name is first asked for; so are
the modules that installed packages name as entry points of the group `mdnet.models`. Any other model of a
user is registered by importing the file that defines it.
"""

from __future__ import annotations

import fnmatch
import importlib
import importlib.metadata
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from mdnet.errors import ConfigurationError, did_you_mean

if TYPE_CHECKING:
    from mdnet.data.preprocessing import Preprocessing
    from mdnet.data.study import LabelSpace
    from mdnet.data.text import ReportTokenizer
    from mdnet.models.configuration import MDNetConfig
    from mdnet.models.heads import Heads
    from mdnet.models.image_module import ImageModule
    from mdnet.models.mdnet import MDNet
    from mdnet.models.report_module import ReportModule

__all__ = [
    "Architecture",
    "check_options",
    "create_model",
    "describe_model",
    "get_architecture",
    "list_models",
    "register_model",
    "report_options",
]


@dataclass(frozen=True)
class Architecture:
    """A member of the zoo: what it is made of.

    Attributes:
        options: `MDNetConfig` arguments.
        paper: Where it was published.
        image: Makes the image module D; None: MDNet's own, or that of a backbone.
        heads: Makes the classification module M; None: decoupled heads.
        report: Makes the language module L; None: MDNet's report LSTM.
        writes: Whether it has a language module at all. One that has none leaves reports out.
    """

    options: dict[str, Any]
    paper: str
    image: Callable[[MDNetConfig], ImageModule] | None = None
    heads: Callable[[MDNetConfig], Heads] | None = None
    report: Callable[[MDNetConfig], ReportModule] | None = None
    writes: bool = True


_ARCHITECTURES: dict[str, Callable[[], Architecture]] = {}


def register_model(function: Callable[[], Architecture]) -> Callable[[], Architecture]:
    """Registers an architecture under its function's name; a name that is taken raises."""
    name = function.__name__
    if name in _ARCHITECTURES:
        raise ConfigurationError(f"model {name!r} is registered already")
    _ARCHITECTURES[name] = function
    return function


def list_models(pattern: str = "*") -> list[str]:
    """Names of all models that match a shell pattern, sorted."""
    _load_zoo()
    return sorted(fnmatch.filter(_ARCHITECTURES, pattern))


def get_architecture(name: str) -> Architecture:
    """The architecture of a registered model.

    Raises:
        ConfigurationError: There is no such model; it names them all.
    """
    _load_zoo()
    try:
        return _ARCHITECTURES[name]()
    except KeyError:
        names = list_models()
        raise ConfigurationError(
            f"no model {name!r}{did_you_mean(str(name), names)}; the models: {', '.join(names)}; one of your "
            "own is there once the file that registers it is imported; weights: MDNet.from_pretrained"
        ) from None


def describe_model(name: str) -> str:
    """The first sentence of what a registered model's file says of it."""
    get_architecture(name)  # is there
    return (inspect.getdoc(_ARCHITECTURES[name]) or "").partition("\n\n")[0].replace("\n", " ")


@cache
def _load_zoo() -> None:
    """Imports every file of the zoo, so that a new one needs no list to stand in, and of packages."""
    from mdnet.models import zoo

    for module in pkgutil.iter_modules(zoo.__path__):
        importlib.import_module(f"{zoo.__name__}.{module.name}")
    for entry in importlib.metadata.entry_points(group="mdnet.models"):
        try:
            entry.load()
        except ImportError as error:
            package = entry.dist.name if entry.dist is not None else "an installed package"
            raise ConfigurationError(
                f"{package}: its models in {entry.value} cannot be imported ({error}); mend or uninstall it"
            ) from error


def create_model(
    name: str,
    *,
    label_space: LabelSpace | None = None,
    sections: tuple[str, ...] = (),
    tokenizer: ReportTokenizer | None = None,
    preprocessing: Preprocessing | None = None,
    **overrides: Any,
) -> MDNet:
    """A new model: random weights, but for a pretrained backbone's (`backbone_weights`).

    Trained ones are loaded by `MDNet.from_pretrained`, and taken to other labels, sections and words by
    `mdnet.models.transfer.adapt`; both need no name of a model, which the weights know.

    Args:
        name: One of `list_models()`.
        label_space: Aspects and diagnosis; none means a model without heads.
        sections: Section names; none means a model that writes no report. One that never writes leaves
            them out, and the tokenizer with them.
        tokenizer: Vocabulary of the reports; needed where there are sections.
        preprocessing: Saved with the model; needed by `Predictor`. A pretrained backbone wants images
            normalised as `mdnet.models.backbones.shapes.IMAGENET_MEAN` and `IMAGENET_STD` say.
        **overrides: Any `MDNetConfig` argument. An unknown one raises `ConfigurationError`.
    """
    from mdnet.models.configuration import MDNetConfig
    from mdnet.models.mdnet import MDNet

    architecture = get_architecture(name)
    arguments = architecture.options | overrides
    check_options(arguments)
    arguments["architecture"] = name
    if label_space is not None:
        arguments["label_space"] = label_space.to_dict()
    if not architecture.writes:
        sections, tokenizer = (), None
    config = MDNetConfig(**arguments | report_options(sections, tokenizer))
    model = MDNet(config, tokenizer=tokenizer, preprocessing=preprocessing)
    if config.backbone is not None and config.backbone_weights is not None:
        from mdnet.models.backbones.weights import load_backbone_weights

        load_backbone_weights(model.image, config.backbone, config.backbone_weights)
    return model


def check_options(options: Iterable[str]) -> None:
    """Raises `ConfigurationError` where a name is no `MDNetConfig` argument, or the zoo's own."""
    from mdnet.models.configuration import MDNetConfig

    names = [name for name in MDNetConfig.__annotations__ if name != "architecture"]
    unknown = sorted(set(options) - set(names))
    if unknown:
        near = did_you_mean(unknown[0], names)
        raise ConfigurationError(
            f"unknown model option {', '.join(unknown)}{near}; the options: {', '.join(names)}"
        )


def report_options(sections: Sequence[str], tokenizer: ReportTokenizer | None) -> dict[str, Any]:
    """The `MDNetConfig` arguments that come from the sections and their vocabulary."""
    if not sections:
        return {}
    if tokenizer is None:
        raise ConfigurationError("a model that writes sections needs a tokenizer")
    return {
        "sections": list(sections),
        "vocabulary_size": len(tokenizer),
        "begin_ids": [tokenizer.begin_id(section) for section in sections],
        "end_id": tokenizer.end_id,
        "pad_id": tokenizer.pad_id,
    }
