"""What a member of the zoo is, in a few facts: the rows of `mdnet models`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from mdnet.data.phantom import LABEL_SPACE, SECTIONS
from mdnet.models.configuration import MDNetConfig
from mdnet.models.parts import build_parts
from mdnet.models.registry import describe_model, get_architecture
from mdnet.models.weights import get_weights, list_weights

__all__ = ["ModelSummary", "summarise_model"]

_WORDS = 236  # of the reports on 8,001 synthetic tiles


@dataclass(frozen=True)
class ModelSummary:
    """Facts of one model. Of its data set, it is taken for one of synthetic tissue: six aspects, six
    sections, a vocabulary of 236 words.

    Attributes:
        name: In the registry.
        description: A sentence.
        paper: Where it was published.
        parameters: Their number.
        image_size: Rows and columns of the input, in pixels.
        image_channels: 3 for RGB, 1 for grayscale.
        widths: Channels of each stage.
        grid_size: Rows and columns of the grid on which attention rests.
        decoupled_from: The first stage whose channels stay apart up to the logits.
        backbone: torchvision's name of its image module; None: MDNet's own kind.
        attention: Its form; None where it writes no report.
        writes: `diagnosis` and `report`, what of them it gives.
        weights: Names of the weights of it that ship with the package.
        options: Its `MDNetConfig` arguments.
    """

    name: str
    description: str
    paper: str
    parameters: int
    image_size: int
    image_channels: int
    widths: list[int]
    grid_size: int
    decoupled_from: str
    backbone: str | None
    attention: str | None
    writes: list[str]
    weights: list[str]
    options: dict[str, Any]


def summarise_model(name: str) -> ModelSummary:
    """The facts of a registered model, which is built without memory for its weights.

    Raises:
        ConfigurationError: There is no such model.
    """
    architecture = get_architecture(name)
    sections = SECTIONS if architecture.writes else ()
    config = MDNetConfig(
        **architecture.options,
        architecture=name,
        label_space=LABEL_SPACE.to_dict(),
        sections=sections,
        vocabulary_size=_WORDS,
        begin_ids=list(range(len(sections))),
    )
    with torch.device("meta"), _Unfilled():
        parts = build_parts(config)
    modules = [module for module in parts if module is not None]
    writes = {"diagnosis": parts.heads, "report": parts.report}
    return ModelSummary(
        name=name,
        description=describe_model(name),
        paper=architecture.paper,
        parameters=sum(parameter.numel() for module in modules for parameter in module.parameters()),
        image_size=config.image_size,
        image_channels=config.image_channels,
        widths=list(config.widths),
        grid_size=config.grid_size,
        decoupled_from=config.decoupled_from,
        backbone=config.backbone,
        attention=None if parts.report is None else config.attention,
        writes=[what for what, module in writes.items() if module is not None],
        weights=[weights for weights in list_weights() if get_weights(weights).model == name],
        options=architecture.options,
    )


class _Unfilled(TorchFunctionMode):
    """Leaves out normal numbers: on device `meta` they load a compiler, a second long, and fill nothing."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        return kwargs["tensor"] if function is nn.init.normal_ else function(*args, **kwargs)
