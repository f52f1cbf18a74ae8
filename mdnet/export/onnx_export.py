"""A model as two ONNX graphs and a manifest, so that it runs without mdnet and without PyTorch.

`image.onnx`: pixel values to the logits of every aspect, the evidence maps of every aspect and block,
C(I), and the evidence c of every section's class (formulas 2, 3 and 5 of docs/method.md).
`step.onnx`: one word of every section (formula 4). Decoding is a loop around it, and stays outside:
runtimes differ most in how they run loops. `onnx.json` says how the two are joined.

References:
    1. ONNX, operator set 20, https://onnx.ai/onnx/operators/
    2. torch.onnx.export(dynamo=True); the TorchScript exporter is deprecated, and has no LSTMCell
       (pytorch/pytorch#24788).
"""

from __future__ import annotations

import ast
import copy
import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor, nn

import mdnet
from mdnet.data.quiet import Quiet
from mdnet.errors import ConfigurationError, MissingExtraError
from mdnet.files import write_bytes, write_text
from mdnet.models.attention import Prepared
from mdnet.models.mdnet import MDNet
from mdnet.models.report_lstm import LSTMState, ReportLSTM

if TYPE_CHECKING:
    import onnx

__all__ = ["MANIFEST", "OPSETS", "ImageGraph", "StepGraph", "export_onnx"]

MANIFEST = "onnx.json"
OPSETS = (18, 19, 20, 21, 22, 23)  # what the exporter of torch 2.11 to 2.13 writes

# torch copies a tree specification of its own by a deprecated name (FutureWarning from copyreg), and
# onnxscript logs a warning for each class weight's Split that it leaves as it is.
_QUIET = Quiet("copyreg", logger="onnxscript.optimizer._constant_folding")


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
    """What is exported as one file: a module, example inputs, and what goes in and comes out."""

    name: str
    module: nn.Module
    examples: tuple[Tensor, ...]
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
        logits = model.heads(features.blocks)[0] if model.heads is not None else {}
        outputs = {f"logits.{aspect}": scores for aspect, scores in logits.items()}
        for aspect, maps in model.evidence(features).items():
            for block, evidence in zip(model.config.block_names, maps, strict=True):
                outputs[f"evidence.{aspect}.{block}"] = evidence
        outputs["grid"] = features.grid
        if model.report is not None:
            prepared = model.prepare(features, model.guides(logits))
            outputs["section_evidence"] = prepared.evidence
            if prepared.projected is not None:
                outputs["projected"] = prepared.projected
        return outputs


class StepGraph(nn.Module):
    """One word of every section: h_{t-1} and x_{t-1} to log p(x_t), a_t and h_t."""

    def __init__(self, report: ReportLSTM) -> None:
        super().__init__()
        self.report = report

    def forward(
        self,
        words: Tensor,
        hidden: Tensor,
        cell: Tensor,
        grid: Tensor,
        section_evidence: Tensor,
        projected: Tensor | None = None,
    ) -> dict[str, Tensor]:
        report = self.report
        prepared = Prepared(section_evidence, projected)
        state, attention = report.step(report.embedding(words), LSTMState(hidden, cell), grid, prepared)
        return {
            "log_probabilities": report.output(state.hidden).log_softmax(dim=-1),
            "attention": attention,
            "next_hidden": state.hidden,
            "next_cell": state.cell,
        }


def export_onnx(
    model: MDNet,
    folder: str | PathLike[str],
    *,
    name: str = "mdnet",
    licence: str | None = None,
    opset: int = 20,
) -> list[Path]:
    """Writes the model as ONNX: `image.onnx`, `step.onnx` where it writes reports, and `onnx.json`.

    The tokenizer's and the preprocessing's own files stand beside them. The number of studies is
    free in both graphs, and that of sections in the step. The image may have any size that is a
    multiple of the model's stride, unless the attention has weights for a fixed grid (`mdnet`) or the
    configured size is no such multiple; the manifest gives the shapes.

    Args:
        model: Any; a copy in float32, in evaluation mode, on the CPU is exported.
        folder: Made if it is not there.
        name: What the files call the model.
        licence: SPDX identifier of the weights, if known.
        opset: Version of ONNX's operator set, one of `OPSETS`.

    Returns:
        The files written.

    Raises:
        ConfigurationError: An opset that cannot be written.
        MissingExtraError: onnx or onnxscript is not installed.
    """
    if opset not in OPSETS:
        raise ConfigurationError(f"opset {opset} is none of {', '.join(map(str, OPSETS))}")
    try:
        import onnx
        import onnxscript  # noqa: F401  (torch.onnx needs it)
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "onnx") from error

    model = copy.deepcopy(model).cpu().float().eval()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    graphs = [image_graph(model)] + ([step_graph(model)] if model.report is not None else [])
    record = manifest(model, graphs, name=name, licence=licence, opset=opset)
    files = []
    for graph in graphs:
        proto = translate(graph, opset)
        describe(proto, graph, record)
        onnx.checker.check_model(proto, full_check=True)  # with shape inference
        files.append(write_bytes(folder / graph.file, proto.SerializeToString()))
    if model.tokenizer is not None:
        model.tokenizer.save(folder)
        files += [folder / "tokenizer.json", folder / "tokenizer_config.json"]
    if model.preprocessing is not None:
        model.preprocessing.save(folder)
        files.append(folder / "preprocessor_config.json")
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    return [*files, write_text(folder / MANIFEST, text)]


@torch.inference_mode()
def image_graph(model: MDNet) -> Graph:
    """The image module with its heads, and examples that leave free what is free."""
    config = model.config
    strides = [config.stem_stride * math.prod(config.strides[: m + 1]) for m in range(len(config.strides))]
    total = strides[-1]
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

    module = ImageGraph(model)
    made = module(pixel_values)
    positions = {"grid": 1, "section_evidence": 2, "projected": 1}  # the axis of each
    outputs = [
        Value(key, named(made[key], {}), aspect=aspect)
        for aspect in config.space.names
        for key in [f"logits.{aspect}"]
    ]
    outputs += [
        Value(key, named(made[key], image_axes(total // stride)), aspect=aspect, block=block)
        for aspect in config.space.names
        for block, stride in zip(config.block_names, strides, strict=True)
        for key in [f"evidence.{aspect}.{block}"]
    ]
    outputs += [
        Value(key, named(made[key], {axis: "*".join(image_axes(1).values())}))
        for key, axis in positions.items()
        if key in made
    ]
    inputs = (Value("pixel_values", named(pixel_values, image_axes(total))),)
    says = "Normalised images to logits, evidence maps, C(I) and the evidence that guides each section."
    return Graph("image", module, (pixel_values,), inputs, tuple(outputs), says)


@torch.inference_mode()
def step_graph(model: MDNet) -> Graph:
    """One decoding step, and examples that leave free what is free."""
    assert model.report is not None
    config, report = model.config, model.report
    literal = config.attention == "mdnet"
    cells = config.positions if literal else 5
    positions: int | str = cells if literal else "positions"
    studies, sections = 2, 3
    grid = torch.zeros(studies, cells, sum(config.widths))
    evidence = torch.zeros(studies, sections, cells)
    projected = report.attention.prepare(grid, evidence).projected
    words = torch.zeros(studies, sections, dtype=torch.long)
    # Two tensors for h and c: the exporter takes one that stands twice for one input.
    hidden, cell = (state.clone() for state in report.initial_state(studies, sections))
    examples = [words, hidden, cell, grid, evidence]
    state = ("studies", "sections", config.hidden_size)
    inputs = [
        Value("words", ("studies", "sections"), dtype="int64"),
        Value("hidden", state),
        Value("cell", state),
        Value("grid", ("studies", positions, grid.shape[-1])),
        Value("section_evidence", ("studies", "sections", positions)),
    ]
    if projected is not None:
        examples.append(projected)
        inputs.append(Value("projected", ("studies", positions, projected.shape[-1])))
    outputs = (
        Value("log_probabilities", ("studies", "sections", config.vocabulary_size)),
        Value("attention", ("studies", "sections", positions)),
        Value("next_hidden", state),
        Value("next_cell", state),
    )
    says = "One word of every section: the word before it and the LSTM's state to log p, attention and state."
    return Graph("step", StepGraph(report), tuple(examples), tuple(inputs), outputs, says)


def translate(graph: Graph, opset: int) -> onnx.ModelProto:
    """The graph as torch's exporter gives it."""
    dimensions: dict[str, Any] = {}

    def dimension(name: str) -> Any:
        multiple, _, base = name.rpartition("*")
        free = dimensions.setdefault(base, torch.export.Dim(base))
        return int(multiple) * free if multiple else free

    shapes = tuple(
        {axis: dimension(size) for axis, size in enumerate(value.shape) if isinstance(size, str)}
        for value in graph.inputs
    )
    with _QUIET, torch.no_grad():
        program = torch.export.export(graph.module.eval(), graph.examples, dynamic_shapes=shapes)
        translated = torch.onnx.export(
            program,
            input_names=[value.name for value in graph.inputs],
            output_names=[value.name for value in graph.outputs],
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    assert translated is not None
    proto: onnx.ModelProto = translated.model_proto
    return proto


def describe(proto: onnx.ModelProto, graph: Graph, record: Mapping[str, Any]) -> None:
    """Gives nodes, weights and axes names that a reader knows, and the file what it must say of itself.

    The exporter's notes go: they hold the source lines and folders of the machine that exported.
    """
    from onnx import helper

    body = proto.graph
    body.name = f"{record['name']} {graph.name}"
    proto.doc_string = graph.says
    about = {
        "model_name": record["name"],
        "model_license": record["licence"],  # ONNX's own spelling
        "mdnet_version": record["mdnet_version"],
        "weights_sha256": record["weights_sha256"],
    }
    helper.set_model_props(proto, {key: value for key, value in about.items() if value is not None})
    del body.metadata_props[:]
    del body.value_info[:]  # with names of axes that are the exporter's own
    seen: Counter[str] = Counter()
    for node in body.node:
        notes = {note.key: note.value for note in node.metadata_props}
        scopes = ast.literal_eval(notes.get("pkg.torch.onnx.name_scopes", "['', '']"))
        scope = scopes[-2].removeprefix("model").lstrip(".") if len(scopes) > 1 else ""
        named = scope and not scope.startswith("_")  # torch's own scopes begin with an underscore
        name = f"{scope}/{node.op_type}" if named else node.op_type
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name]}"
        node.input[:] = [source.removeprefix("model.") for source in node.input]
        del node.metadata_props[:]
    for tensor in body.initializer:
        tensor.name = tensor.name.removeprefix("model.")
        del tensor.metadata_props[:]
    for info, value in zip([*body.input, *body.output], [*graph.inputs, *graph.outputs], strict=True):
        assert info.name == value.name, (info.name, value.name)
        del info.metadata_props[:]
        for axis, size in zip(info.type.tensor_type.shape.dim, value.shape, strict=True):
            if isinstance(size, str):
                axis.dim_param = size


def manifest(
    model: MDNet, graphs: list[Graph], *, name: str, licence: str | None, opset: int
) -> dict[str, Any]:
    """What `onnx.json` holds: all that a program needs beside the graphs and the tokenizer."""
    config, heads, tokenizer = model.config, model.heads, model.tokenizer
    unknown = [tokenizer.unknown_id] if tokenizer is not None else []
    decoding = {
        "sections": [
            {"name": section, "aspect": config.section_aspects[section], "begin_id": begin}
            for section, begin in zip(config.sections, config.begin_ids, strict=True)
        ],
        "end_id": config.end_id,
        "pad_id": config.pad_id,
        "never_written": sorted({config.pad_id, *config.begin_ids, *unknown}),
        "maximum_words": config.maximum_words,
        "first_state": 0.0,
    }
    return {
        "name": name,
        "licence": licence,
        "mdnet_version": mdnet.__version__,
        "weights_sha256": weights_hash(model),
        "opset": opset,
        "label_space": config.space.to_dict(),
        "bias": {a: heads[a].bias.tolist() for a in config.space.names} if heads is not None else {},
        "temperatures": dict(model.calibration.temperatures) if model.calibration is not None else {},
        "views": config.views,
        "preprocessing": model.preprocessing.to_dict() if model.preprocessing is not None else None,
        "decoding": decoding if model.report is not None else None,
        "graphs": {
            graph.name: {
                "file": graph.file,
                "says": graph.says,
                "inputs": [entry(value) for value in graph.inputs],
                "outputs": [entry(value) for value in graph.outputs],
            }
            for graph in graphs
        },
    }


def entry(value: Value) -> dict[str, Any]:
    """A value in the manifest; what it does not belong to is left out."""
    return {key: held for key, held in asdict(value).items() if held is not None}


def weights_hash(model: MDNet) -> str:
    """SHA-256 of the weights as `save_pretrained` writes them: that of `model.safetensors` itself."""
    state = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    return hashlib.sha256(safetensors.torch.save(state, metadata={"format": "pt"})).hexdigest()
