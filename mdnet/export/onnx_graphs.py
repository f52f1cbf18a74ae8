"""The two graphs that a model is exported as: what goes in, what comes out, and the names of both.

`image`: pixel values to the logits of every aspect, the evidence maps of every aspect and block, C(I), and
what the report module keeps of a study (formulas 2, 3 and 5 of docs/method.md). `step`: one word of every
section (formula 4), from the state before it. A report module's state and what it keeps are named tuples of
its own; the graphs' values go by their fields.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mdnet.models.image_module import ImageFeatures
from mdnet.models.mdnet import MDNet
from mdnet.models.prepared import Prepared
from mdnet.models.report_module import ReportModule

__all__ = ["Graph", "ImageGraph", "StepGraph", "Value", "image_graph", "step_graph"]

_EVIDENCE = "section_evidence"  # what the field `evidence` is called beside the maps of the aspects
_AXES: dict[str, tuple[str | None, ...]] = {  # None: of a fixed size
    _EVIDENCE: ("studies", "sections", "positions"),
    "projected": ("studies", "positions", None),
    "slot_weights": ("studies", "sections", "positions"),
    "slot": ("studies", "sections", None),
    "stop": ("studies", "sections"),
    "closed": ("studies", "sections"),
    "grid": ("studies", "positions", None),
    "attention": ("studies", "sections", "positions"),
}
_NOT_OF_A_WORD = ("stop", "closed")  # what the loop around the steps reads, and no step


@dataclass(frozen=True)
class Value:
    """An input or output of a graph.

    Attributes:
        name: In the graph.
        shape: Numbers, and names of the axes that may have any size; `8*rows` is a multiple of 8.
        dtype: As NumPy names it.
        aspect: The aspect that a logit or an evidence map belongs to.
        block: The block that an evidence map belongs to.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str = "float32"
    aspect: str | None = None
    block: str | None = None


@dataclass(frozen=True)
class Graph:
    """What is exported as one file: a module, its argument for an example, and what goes in and comes out."""

    name: str
    module: nn.Module
    example: tuple[Tensor] | tuple[dict[str, Tensor]]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    says: str

    @property
    def file(self) -> str:
        return f"{self.name}.onnx"


class ImageGraph(nn.Module):
    """From pixel values to all that is read off the image; the outputs by name, in order."""

    def __init__(self, model: MDNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        model = self.model
        features = model.encode(pixel_values)
        logits = model.heads(features)[0] if model.heads is not None else {}
        outputs = {f"logits.{aspect}": scores for aspect, scores in logits.items()}
        for aspect, maps in model.evidence(features).items():
            for block, evidence in zip(model.config.block_names, maps, strict=True):
                outputs[f"evidence.{aspect}.{block}"] = evidence
        outputs["grid"] = features.grid
        if model.report is not None:
            prepared = model.prepare(features, model.guides(logits))
            outputs |= dict(_kept(prepared))
            if prepared.start is not None:
                state = model.report.initial_state(prepared)
                outputs |= {f"first_{name}": tensor for name, tensor in _fields(state)}
        return outputs


class StepGraph(nn.Module):
    """One word of every section: x_{t-1}, the state and what is kept to log p(x_t), a_t and the state."""

    def __init__(self, report: ReportModule, state: Any) -> None:
        super().__init__()
        self.report, self.state = report, state  # the class of its named tuple

    def forward(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        report = self.report
        before = self.state(*(values[name] for name in self.state._fields))
        kept: dict[str, Any] = {name: values[name] for name in Prepared._fields if name in values}
        prepared = Prepared(values[_EVIDENCE], **kept)
        state, attention = report.step(report.embedding(values["words"]), before, values["grid"], prepared)
        log_p = report.output(report.readout(state)).log_softmax(dim=-1)
        following = {f"next_{name}": tensor for name, tensor in _fields(state)}
        return {"log_probabilities": log_p, "attention": attention} | following


@torch.inference_mode()
def image_graph(model: MDNet) -> Graph:
    """The image module with its heads, and an example that leaves free what is free."""
    config = model.config
    strides = [config.stem_stride * math.prod(config.strides[: m + 1]) for m in range(len(config.strides))]
    strides, total = strides[-len(config.block_names) :], strides[-1]
    free = config.attention != "mdnet" and config.image_size % total == 0
    # Sizes that differ, and none of which is 1: the exporter takes equal sizes for the same, 1 for fixed.
    rows, columns = (3 * total, 2 * total) if free else (config.image_size, config.image_size)
    pixel_values = torch.zeros(2, config.image_channels, rows, config.views * columns)

    def named(tensor: Tensor, names: Mapping[int, str]) -> tuple[int | str, ...]:
        """The tensor's shape with names for the free axes."""
        names = {0: "studies"} | (dict(names) if free else {})
        return tuple(names.get(axis, size) for axis, size in enumerate(tensor.shape))

    def image_axes(cells: int) -> dict[int, str]:
        """Names of the axes of a map with so many cells a cell of the grid."""
        sides = (2, "rows", cells), (3, "columns", config.views * cells)
        return {axis: f"{count}*{side}" if count > 1 else side for axis, side, count in sides}

    def value(name: str, tensor: Tensor) -> Value:
        kind, _, rest = name.partition(".")
        if kind == "logits":
            return Value(name, named(tensor, {}), aspect=rest)
        if kind == "evidence":
            aspect, _, block = rest.rpartition(".")
            cells = total // strides[config.block_names.index(block)]
            return Value(name, named(tensor, image_axes(cells)), aspect=aspect, block=block)
        cells = "*".join(image_axes(1).values())
        names = {axis: cells for axis, of in enumerate(_AXES.get(name, ())) if of == "positions"}
        return Value(name, named(tensor, names), _dtype(tensor))

    module = ImageGraph(model)
    made = module(pixel_values)
    groups = ("logits.", "evidence.")
    order = [name for group in groups for name in made if name.startswith(group)]
    order += [name for name in made if not name.startswith(groups)]
    outputs = tuple(value(name, made[name]) for name in order)
    inputs = (Value("pixel_values", named(pixel_values, image_axes(total))),)
    says = "Normalised images to logits, evidence maps, C(I) and what is kept of them for each section."
    return Graph("image", module, (pixel_values,), inputs, outputs, says)


@torch.inference_mode()
def step_graph(model: MDNet) -> Graph:
    """One decoding step, and an example that leaves free what is free."""
    assert model.report is not None
    config, report = model.config, model.report
    literal = config.attention == "mdnet"
    # Sizes that differ, and none of which is 1, as in `image_graph`.
    studies, sections, cells = 2, 3, config.positions if literal else 5
    grid = torch.zeros(studies, cells, sum(config.block_widths))
    features = ImageFeatures((), grid, rows=cells, columns=1)
    prepared = report.prepare(features, torch.zeros(studies, sections, cells))
    state = report.initial_state(prepared)
    kept = {name: tensor for name, tensor in _kept(prepared) if name not in _NOT_OF_A_WORD}

    # Clones: the exporter takes one tensor that stands twice for one input.
    example = {"words": torch.zeros(studies, sections, dtype=torch.long)}
    example |= {name: tensor.clone() for name, tensor in _fields(state)} | {"grid": grid} | kept
    module = StepGraph(report, type(state))
    made = module(example)

    def value(name: str, tensor: Tensor) -> Value:
        axes = _AXES.get(name, ("studies", "sections"))  # words and the state, their width behind these
        named = {axis: of for axis, of in enumerate(axes) if of is not None}
        if literal:
            named = {axis: of for axis, of in named.items() if of != "positions"}
        shape = tuple(named.get(axis, size) for axis, size in enumerate(tensor.shape))
        return Value(name, shape, _dtype(tensor))

    inputs = tuple(value(name, tensor) for name, tensor in example.items())
    outputs = tuple(value(name, tensor) for name, tensor in made.items())
    says = "One word of every section: the word before it and the state to log p, attention and the state."
    return Graph("step", module, (example,), inputs, outputs, says)


def _kept(prepared: Prepared) -> Iterator[tuple[str, Tensor]]:
    """The tensors of what is kept of a study, by name; a state to start from has an output of its own."""
    for name, tensor in _fields(prepared):
        if name != "start" and tensor is not None:
            yield _EVIDENCE if name == "evidence" else name, tensor


def _fields(record: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of a named tuple."""
    return zip(record._fields, record, strict=True)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
