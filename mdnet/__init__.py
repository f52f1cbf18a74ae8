"""mdnet: image models whose diagnosis, report and maps come from the same numbers.

Names are loaded when first used, so that `import mdnet` and `mdnet --help` stay quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdnet import data, evaluation, explain, export, inference, metrics, models, report, training
    from mdnet.inference.decoding_config import DecodingConfig
    from mdnet.inference.predictor import Predictor
    from mdnet.models.configuration import MDNetConfig
    from mdnet.models.mdnet import MDNet
    from mdnet.models.registry import create_model, list_models
    from mdnet.models.weights import get_weights, list_weights

__version__ = "0.1.0"

_HOME = {
    "DecodingConfig": "mdnet.inference.decoding_config",
    "MDNet": "mdnet.models.mdnet",
    "MDNetConfig": "mdnet.models.configuration",
    "Predictor": "mdnet.inference.predictor",
    "create_model": "mdnet.models.registry",
    "get_weights": "mdnet.models.weights",
    "list_models": "mdnet.models.registry",
    "list_weights": "mdnet.models.weights",
}
_PACKAGES = (
    "data",
    "evaluation",
    "explain",
    "export",
    "inference",
    "metrics",
    "models",
    "report",
    "training",
)

__all__ = [
    "DecodingConfig",
    "MDNet",
    "MDNetConfig",
    "Predictor",
    "__version__",
    "create_model",
    "data",
    "evaluation",
    "explain",
    "export",
    "get_weights",
    "inference",
    "list_models",
    "list_weights",
    "metrics",
    "models",
    "report",
    "training",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
