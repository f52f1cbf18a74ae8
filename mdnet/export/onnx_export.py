"""A model as two ONNX graphs and a manifest, so that it runs without mdnet and without PyTorch.

`image.onnx` reads an image, `step.onnx` writes one word of every section (`mdnet.export.onnx_graphs`).
Decoding is a loop around the steps, and stays outside: runtimes differ most in how they run loops.
`onnx.json` says how the two are joined.

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
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor

import mdnet
from mdnet.data.quiet import Quiet
from mdnet.errors import ConfigurationError, MissingExtraError
from mdnet.export.onnx_graphs import Graph, Value, image_graph, step_graph
from mdnet.files import write_bytes, write_text
from mdnet.models.mdnet import MDNet

if TYPE_CHECKING:
    import onnx

__all__ = ["MANIFEST", "OPSETS", "export_onnx"]

MANIFEST = "onnx.json"
OPSETS = (18, 19, 20, 21, 22, 23)  # what the exporter of torch 2.11 to 2.13 writes

# torch copies a tree specification of its own by a deprecated name (FutureWarning from copyreg), and
# onnxscript logs a warning for each class weight's Split that it leaves as it is.
_QUIET = Quiet("copyreg", logger="onnxscript.optimizer._constant_folding")


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


def translate(graph: Graph, opset: int) -> onnx.ModelProto:
    """The graph as torch's exporter gives it."""
    dimensions: dict[str, Any] = {}

    def dimension(name: str) -> Any:
        multiple, _, base = name.rpartition("*")
        free = dimensions.setdefault(base, torch.export.Dim(base))
        return int(multiple) * free if multiple else free

    shapes = {
        value.name: {axis: dimension(size) for axis, size in enumerate(value.shape) if isinstance(size, str)}
        for value in graph.inputs
    }
    single = isinstance(graph.example[0], Tensor)
    with _QUIET, torch.no_grad():
        program = torch.export.export(
            graph.module.eval(),
            graph.example,
            dynamic_shapes=tuple(shapes.values()) if single else (shapes,),
        )
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
    config, heads = model.config, model.heads
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
        "decoding": decoding(model, *graphs) if model.report is not None else None,
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


def decoding(model: MDNet, image: Graph, step: Graph) -> dict[str, Any]:
    """How a loop around the steps writes a report.

    A step takes each name of `state` and gives it as `next_` and the name. Before the first word the state is
    `first_state`: a number, or name by name the output of the image graph that holds it. Where the image
    graph gives `closed`, a section for which it is true is not to be written.
    """
    config, tokenizer = model.config, model.tokenizer
    unknown = [tokenizer.unknown_id] if tokenizer is not None else []
    state = [value.name.removeprefix("next_") for value in step.outputs if value.name.startswith("next_")]
    given = {value.name for value in image.outputs}
    first = {name: f"first_{name}" for name in state if f"first_{name}" in given}
    return {
        "sections": [
            {"name": section, "aspect": config.section_aspects[section], "begin_id": begin}
            for section, begin in zip(config.sections, config.begin_ids, strict=True)
        ],
        "end_id": config.end_id,
        "pad_id": config.pad_id,
        "never_written": sorted({config.pad_id, *config.begin_ids, *unknown}),
        "maximum_words": config.maximum_words,
        "state": state,
        "first_state": first or 0.0,
    }


def entry(value: Value) -> dict[str, Any]:
    """A value in the manifest; what it does not belong to is left out."""
    return {key: held for key, held in asdict(value).items() if held is not None}


def weights_hash(model: MDNet) -> str:
    """SHA-256 of the weights as `save_pretrained` writes them: that of `model.safetensors` itself."""
    state = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    return hashlib.sha256(safetensors.torch.save(state, metadata={"format": "pt"})).hexdigest()
