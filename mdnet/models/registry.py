"""The zoo's names: one decorator a model, as in torchvision's `models/_api.py` and timm's registry.

A registered function gives the configuration of its architecture; `create_model` adds the label
space, the sections and the vocabulary of a data set, and builds it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mdnet.errors import ConfigurationError
from mdnet.models.backbones.shapes import BACKBONES

if TYPE_CHECKING:
    from mdnet.data.preprocessing import Preprocessing
    from mdnet.data.study import LabelSpace
    from mdnet.data.text import ReportTokenizer
    from mdnet.models.mdnet import MDNet

__all__ = [
    "check_options",
    "create_model",
    "get_architecture",
    "list_models",
    "register_model",
    "report_options",
]

Architecture = Callable[[], dict[str, Any]]
_ARCHITECTURES: dict[str, Architecture] = {}


def register_model(function: Architecture) -> Architecture:
    """Registers an architecture under its function's name; a name that is taken raises."""
    name = function.__name__
    if name in _ARCHITECTURES:
        raise ConfigurationError(f"model {name!r} is registered already")
    _ARCHITECTURES[name] = function
    return function


def list_models(pattern: str = "*") -> list[str]:
    """Names of all models that match a shell pattern, sorted."""
    return sorted(fnmatch.filter(_ARCHITECTURES, pattern))


def get_architecture(name: str) -> dict[str, Any]:
    """`MDNetConfig` arguments of a registered model; `ConfigurationError` names them all."""
    try:
        return _ARCHITECTURES[name]()
    except KeyError:
        raise ConfigurationError(f"no model {name!r}; the models: {', '.join(list_models())}") from None


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

    Args:
        name: One of `list_models()`.
        label_space: Aspects and diagnosis; none means a model without heads.
        sections: Section names; none means a model that writes no report.
        tokenizer: Vocabulary of the reports; needed where there are sections.
        preprocessing: Saved with the model; needed by `Predictor`. A pretrained backbone wants images
            normalised as `mdnet.models.backbones.shapes.IMAGENET_MEAN` and `IMAGENET_STD` say.
        **overrides: Any `MDNetConfig` argument. An unknown one raises `ConfigurationError`.
    """
    from mdnet.models.configuration import MDNetConfig
    from mdnet.models.mdnet import MDNet

    arguments = get_architecture(name) | overrides
    check_options(arguments)
    if label_space is not None:
        arguments["label_space"] = label_space.to_dict()
    config = MDNetConfig(**arguments | report_options(sections, tokenizer))
    model = MDNet(config, tokenizer=tokenizer, preprocessing=preprocessing)
    if config.backbone is not None and config.backbone_weights is not None:
        from mdnet.models.backbones.weights import load_backbone_weights

        load_backbone_weights(model.image, config.backbone, config.backbone_weights)
    return model


def check_options(options: Iterable[str]) -> None:
    """Raises `ConfigurationError` where a name is no `MDNetConfig` argument."""
    from mdnet.models.configuration import MDNetConfig

    unknown = sorted(set(options) - set(MDNetConfig.__annotations__))
    if unknown:
        known = ", ".join(MDNetConfig.__annotations__)
        raise ConfigurationError(f"unknown model option {', '.join(unknown)}; the options: {known}")


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


@register_model
def mdnet_tiny() -> dict[str, Any]:
    """About 0.4 million parameters at 128 px, 16 x 16 grid: trains on two CPU cores in minutes."""
    return {
        "image_size": 128,
        "stem_stride": 2,
        "widths": [16, 40, 64],
        "depths": [1, 3, 2],
        "strides": [1, 2, 2],
        "embedding_size": 64,
        "hidden_size": 128,
    }


@register_model
def mdnet_small() -> dict[str, Any]:
    """About three million parameters at 224 px, 14 x 14 grid."""
    return {
        "image_size": 224,
        "stem_stride": 2,
        "widths": [32, 64, 128, 192],
        "depths": [1, 2, 2, 2],
        "strides": [1, 2, 2, 2],
        "embedding_size": 128,
        "hidden_size": 256,
        "attention_size": 256,
    }


@register_model
def mdnet_base() -> dict[str, Any]:
    """About 22 million parameters, wide as a WRN, at 224 px, 14 x 14 grid."""
    return {
        "image_size": 224,
        "stem_stride": 2,
        "widths": [64, 128, 256, 512],
        "depths": [2, 3, 3, 3],
        "strides": [1, 2, 2, 2],
        "embedding_size": 256,
        "hidden_size": 512,
        "attention_size": 512,
    }


@register_model
def mdnet_resnet18() -> dict[str, Any]:
    """About 13 million parameters, on torchvision's ResNet-18: decoupled from layer2 on, 7 x 7 grid."""
    return {
        "image_size": 224,
        "backbone": "resnet18",
        **BACKBONES["resnet18"].architecture(),
        "embedding_size": 128,
        "hidden_size": 256,
        "attention_size": 256,
    }


@register_model
def mdnet_resnet50() -> dict[str, Any]:
    """About 33 million parameters, on torchvision's ResNet-50: decoupled from layer2 on, 7 x 7 grid."""
    return {
        "image_size": 224,
        "backbone": "resnet50",
        **BACKBONES["resnet50"].architecture(),
        "embedding_size": 256,
        "hidden_size": 512,
        "attention_size": 512,
    }


@register_model
def mdnet_densenet121() -> dict[str, Any]:
    """About 14 million parameters, on DenseNet-121: decoupled from denseblock2 on, 7 x 7 grid."""
    return {
        "image_size": 224,
        "backbone": "densenet121",
        **BACKBONES["densenet121"].architecture(),
        "embedding_size": 256,
        "hidden_size": 512,
        "attention_size": 512,
    }
