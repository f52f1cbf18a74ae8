"""From a configuration to the three modules of the paper: D, M and L, as the zoo's member says."""

from __future__ import annotations

from typing import NamedTuple

from mdnet.models.configuration import MDNetConfig
from mdnet.models.heads import Heads
from mdnet.models.image_module import EnsembleModule, ImageModule, PlainModule
from mdnet.models.registry import Architecture, get_architecture
from mdnet.models.report_lstm import ReportLSTM
from mdnet.models.report_module import ReportModule

__all__ = ["ModelParts", "build_parts"]


class ModelParts(NamedTuple):
    """The image module D; the classification module M, None without aspects; the language module L, None
    without sections.
    """

    image: ImageModule
    heads: Heads | None
    report: ReportModule | None


def build_parts(config: MDNetConfig) -> ModelParts:
    """New modules, with torch's own random weights."""
    member = Architecture({}, "") if config.architecture is None else get_architecture(config.architecture)
    return ModelParts(
        (member.image or _image_module)(config),
        (member.heads or Heads)(config) if config.space.aspects else None,
        (member.report or ReportLSTM)(config) if config.sections else None,
    )


def _image_module(config: MDNetConfig) -> ImageModule:
    if config.backbone is not None:
        from mdnet.models.backbones.module import BackboneModule  # torchvision takes a second to load

        return BackboneModule(config)
    return EnsembleModule(config) if config.decoupled else PlainModule(config)
