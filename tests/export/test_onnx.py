"""onnxruntime must give the numbers and the words that PyTorch gives, from the exported folder alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("onnxruntime", reason="needs the extra onnx")
pytest.importorskip("onnxscript", reason="needs the extra onnx")

import onnx
from onnx_runner import OnnxRunner
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from mdnet.cli.main import main
from mdnet.data.phantom import LABEL_SPACE
from mdnet.data.study import Aspect, LabelSpace
from mdnet.errors import ConfigurationError, MissingExtraError
from mdnet.export.onnx_export import export_onnx
from mdnet.inference.decoding import decode_greedily
from mdnet.inference.predictor import Predictor
from mdnet.models.mdnet import MDNet
from mdnet.models.registry import create_model, list_models
from mdnet.models.weights import get_weights

SHIPPED = "mdnet_tiny/phantom"
SAMPLE = sorted((Path(__file__).parents[2] / "data/sample/images").glob("*.png"))[:7]
TOLERANCE = 1e-4
RUNTIME_ERRORS = (Fail, InvalidArgument, RuntimeException)  # onnxruntime's have no common base
FEW = {  # an export takes seconds, and most of them by the number of maps
    "widths": [4, 6],
    "depths": [1, 1],
    "strides": [1, 2],
    "label_space": LabelSpace(
        (
            Aspect("cell.type", ("odd", "plain"), reference="plain"),
            Aspect("findings", ("oedema", "effusion", "nodule"), multi_label=True),
        ),
        diagnosis="cell.type",
    ),
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """The shipped weights, exported by the command line."""
    out = tmp_path_factory.mktemp("onnx") / "shipped"
    with pytest.raises(SystemExit) as exit_:
        main(["export", "--weights", SHIPPED, "--onnx", "--out", str(out)])
    assert not exit_.value.code
    return out


@pytest.fixture(scope="session")
def runner(folder) -> OnnxRunner:
    return OnnxRunner(folder)


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    return Predictor.from_pretrained(SHIPPED, device="cpu")


@torch.inference_mode()
def expected(model: MDNet, pixel_values: np.ndarray) -> dict[str, np.ndarray]:
    """What `image.onnx` must give, from the model's own methods."""
    output = model(torch.from_numpy(pixel_values))
    values = {f"logits.{aspect}": logits for aspect, logits in (output.logits or {}).items()}
    for aspect, blocks in model.evidence(output.features).items():
        first = len(model.config.widths) - len(blocks) + 1  # a plain network's only block is its last stage
        values |= {f"evidence.{aspect}.block{m}": block for m, block in enumerate(blocks, start=first)}
    values["grid"] = output.features.grid
    if model.report is not None:
        prepared = model.prepare(output.features, model.guides(output.logits))
        values["section_evidence"] = prepared.evidence
        for name in ("projected", "slot_weights", "slot", "stop", "closed"):
            if getattr(prepared, name) is not None:
                values[name] = getattr(prepared, name)
        if prepared.start is not None:
            state = model.report.initial_state(prepared)
            values |= {f"first_{name}": tensor for name, tensor in state._asdict().items()}
    return {name: value.numpy() for name, value in values.items()}


def assert_same(runner: OnnxRunner, model: MDNet, pixel_values: np.ndarray, *, relative: float = 0.0) -> None:
    """Equal to `TOLERANCE`, or to the share `relative` of an output's greatest value where that is more."""
    given, wanted = runner.run("image", {"pixel_values": pixel_values}), expected(model, pixel_values)
    assert list(given) == list(wanted)
    for name, value in wanted.items():
        assert given[name].dtype == value.dtype, name
        tolerance = max(TOLERANCE, relative * float(np.abs(value).max()))
        np.testing.assert_allclose(np.float64(given[name]), value, atol=tolerance, rtol=0, err_msg=name)


def test_the_folder_holds_what_a_stranger_needs(folder):
    held = {path.name for path in folder.iterdir()}
    assert held == {
        "image.onnx", "step.onnx", "onnx.json", "tokenizer.json", "tokenizer_config.json",
        "preprocessor_config.json",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("studies", "rows", "columns"), [(1, 128, 128), (3, 128, 128), (7, 64, 136), (2, 8, 8)]
)
def test_image_graph_gives_the_models_numbers_for_any_batch_and_size(
    runner, predictor, studies, rows, columns
):
    random = np.random.default_rng(studies)
    assert_same(runner, predictor.model, random.normal(size=(studies, 3, rows, columns)).astype(np.float32))


@pytest.mark.parametrize("side", [121, 124, 127, 132])
def test_a_size_that_is_no_multiple_of_the_stride_is_refused_or_right_but_never_wrong(
    runner, predictor, side
):
    pixel_values = np.random.default_rng(side).normal(size=(1, 3, side, side)).astype(np.float32)
    if side == 127:  # all groups pool evenly, as those of 128 do
        assert_same(runner, predictor.model, pixel_values)
        return
    with pytest.raises(RUNTIME_ERRORS):
        runner.run("image", {"pixel_values": pixel_values})


def test_evidence_and_bias_of_the_manifest_sum_to_the_logits(runner):
    given = runner.run("image", {"pixel_values": runner.pixel_values([Image.open(SAMPLE[0])])})
    for aspect, bias in runner.manifest["bias"].items():
        maps = [value for name, value in given.items() if name.startswith(f"evidence.{aspect}.")]
        assert len(maps) == 3
        total = np.sum([np.float64(m).sum(axis=(2, 3)) for m in maps], axis=0) + bias
        np.testing.assert_allclose(total, given[f"logits.{aspect}"], atol=TOLERANCE)


def test_greedy_decoding_through_the_step_graph_writes_the_predictors_reports(runner, predictor):
    pictures = [Image.open(path) for path in SAMPLE]
    image = runner.run("image", {"pixel_values": runner.pixel_values(pictures)})
    tokens = runner.decode(image)
    findings = predictor(list(SAMPLE))
    for row, finding in enumerate(findings):
        for column, (name, section) in enumerate(finding.report.sections.items()):
            assert runner.manifest["decoding"]["sections"][column]["name"] == name
            assert runner.text(tokens[row, column]) == " ".join(section.words)
        for aspect, answer in finding.aspects.items():
            logits = image[f"logits.{aspect}"][row]
            np.testing.assert_allclose(logits, list(answer.logits.values()), atol=TOLERANCE)
            powers = np.exp(np.float64(logits) / runner.manifest["temperatures"].get(aspect, 1.0))
            probabilities = list(answer.probabilities.values())
            np.testing.assert_allclose(powers / powers.sum(), probabilities, atol=TOLERANCE)
    assert len({finding.report.text for finding in findings}) > 1  # the reports are not all one


@torch.inference_mode()
def test_one_step_takes_any_number_of_sections_and_tells_hidden_from_cell(runner, predictor):
    random = np.random.default_rng(0)
    model, shape = predictor.model, (3, 5)
    inputs = {
        "words": random.integers(236, size=shape),
        "hidden": random.normal(size=(*shape, 128)).astype(np.float32),
        "cell": random.normal(size=(*shape, 128)).astype(np.float32),
        "grid": random.random(size=(3, 21, 120)).astype(np.float32),
        "section_evidence": random.normal(size=(*shape, 21)).astype(np.float32),
    }
    given = runner.run("step", inputs)
    words, hidden, cell, grid, evidence = map(torch.from_numpy, inputs.values())
    report = model.report
    attention = report.attention(hidden, report.attention.prepare(grid, evidence))
    context = torch.einsum("bsp,bpd->bsd", attention, grid)
    joined = torch.cat([report.embedding(words), context], dim=-1)
    next_hidden, next_cell = report.lstm(joined.flatten(0, 1), (hidden.flatten(0, 1), cell.flatten(0, 1)))
    log_p = report.output(next_hidden).log_softmax(dim=-1)
    wanted = (log_p.view(*shape, -1), attention, next_hidden.view(*shape, -1), next_cell.view(*shape, -1))
    for value, reference in zip(given.values(), wanted, strict=True):
        np.testing.assert_allclose(value, reference.numpy(), atol=TOLERANCE)


@pytest.mark.parametrize("name", ["image", "step"])
def test_graphs_are_valid_and_say_what_they_are(folder, name):
    proto = onnx.load(folder / f"{name}.onnx")
    onnx.checker.check_model(proto, full_check=True)
    about = {entry.key: entry.value for entry in proto.metadata_props}
    card = get_weights(SHIPPED)
    assert about["model_name"] == SHIPPED
    assert about["model_license"] == card.licence
    assert about["weights_sha256"] == card.sha256
    names = [node.name for node in proto.graph.node]
    assert len(set(names)) == len(names)
    assert {"image": "image.stem/Conv", "step": "report.embedding/Gather"}[name] in names
    assert str(Path(__file__).parents[2]).encode() not in proto.SerializeToString()  # no folder of ours


def test_the_manifest_describes_the_graphs_as_they_are(folder, runner):
    for name, graph in runner.manifest["graphs"].items():
        proto = onnx.load(folder / graph["file"]).graph
        for listed, held in ((graph["inputs"], proto.input), (graph["outputs"], proto.output)):
            assert [value["name"] for value in listed] == [info.name for info in held], name
            for value, info in zip(listed, held, strict=True):
                axes = info.type.tensor_type.shape.dim
                assert value["shape"] == [axis.dim_param or axis.dim_value for axis in axes]
    outputs = {value["name"]: value for value in runner.manifest["graphs"]["image"]["outputs"]}
    assert outputs["evidence.mitosis.block2"]["shape"] == ["studies", 3, "2*rows", "2*columns"]
    assert outputs["evidence.mitosis.block2"]["aspect"] == "mitosis"
    assert outputs["evidence.mitosis.block2"]["block"] == "block2"
    assert runner.manifest["label_space"] == json.loads(json.dumps(LABEL_SPACE.to_dict()))


@pytest.mark.parametrize(
    ("name", "size", "seed"),
    [("mdnet_literal", 16, 5), ("topic_mdnet", 15, 7), ("show_attend_tell", 16, 2), ("ecnet_cifar", 16, 5)],
)
def test_other_members_multi_label_aspects_and_uneven_pooling_give_what_torch_gives(
    build_model, let_sections_end, tmp_path, name, size, seed
):
    model = build_model(name, **FEW, image_size=size, maximum_words=9, seed=seed, dtype=torch.float32)
    pixel_values = np.random.default_rng(1).normal(size=(3, 3, size, size)).astype(np.float32)
    if model.report is not None:
        let_sections_end(model, torch.from_numpy(pixel_values))
    if name == "topic_mdnet":
        let_some_reports_stop(model, pixel_values)
    model.train()
    export_onnx(model, tmp_path)
    assert model.training  # a copy was exported
    runner = OnnxRunner(tmp_path)
    assert_same(runner, model.eval(), pixel_values)
    assert (runner.manifest["decoding"] is None) == (model.report is None)
    if model.report is None:
        return

    tokens = runner.decode(runner.run("image", {"pixel_values": pixel_values}))
    output = model(torch.from_numpy(pixel_values))
    prepared = model.prepare(output.features, model.guides(output.logits))
    wanted = decode_greedily(model, output.features, prepared).tokens.numpy()
    assert len({tuple(section) for study in wanted for section in study}) > 3  # they differ
    np.testing.assert_array_equal(tokens, wanted[:, :, : tokens.shape[-1]])
    assert (wanted[:, :, tokens.shape[-1] :] == model.config.pad_id).all()


@torch.no_grad()
def let_some_reports_stop(model: MDNet, pixel_values: np.ndarray) -> None:
    """So that about a quarter of all sections have a topic to stop at."""
    features = model.encode(torch.from_numpy(pixel_values))
    stop = model.prepare(features, {}).stop
    model.report.stop.bias -= stop.quantile(0.75)
    closed = model.prepare(features, {}).closed
    assert closed.any()
    assert not closed.all()


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({"sections": ()}, id="no report"),
        pytest.param({"label_space": LabelSpace()}, id="no labels", marks=pytest.mark.slow),
    ],
)
def test_a_model_without_report_or_without_labels_exports_what_it_has(build_model, tmp_path, parts):
    model = build_model(**FEW | parts, image_size=15, dtype=torch.float32)
    export_onnx(model, tmp_path)
    assert (tmp_path / "step.onnx").exists() == bool(model.config.sections)
    pixel_values = np.random.default_rng(1).normal(size=(3, 3, 15, 15)).astype(np.float32)
    assert_same(OnnxRunner(tmp_path), model, pixel_values)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_every_model_of_the_zoo_exports_at_its_own_size(tokenizer, tmp_path, name):
    torch.manual_seed(0)
    sections = tuple(tokenizer.sections)
    model = create_model(name, label_space=LABEL_SPACE, sections=sections, tokenizer=tokenizer).eval()
    export_onnx(model, tmp_path)
    size = model.config.image_size
    pixel_values = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
    # An untrained ResNet adds up to a hundred and more, beyond what float32 knows to 1e-4.
    assert_same(OnnxRunner(tmp_path), model, pixel_values, relative=1e-5)


def test_a_missing_extra_is_named(build_model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"onnxscript is not installed: pip install 'mdnet\[onnx\]'"):
        export_onnx(build_model(), tmp_path)


def test_an_opset_that_cannot_be_written_names_those_that_can(build_model, tmp_path):
    with pytest.raises(ConfigurationError, match="opset 11 is none of 18, 19, 20"):
        export_onnx(build_model(), tmp_path, opset=11)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say what to export"),
        (["--onnx", "--diagram", "dot"], "one thing at a time"),
        (["--onnx"], "name a folder with --out"),
    ],
)
def test_a_call_that_says_too_little_or_too_much_is_one_line(capsys, words, message):
    with pytest.raises(SystemExit) as exit_:
        main(["export", *words])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("attention", ["sharpened", "mdnet"])
def test_a_model_of_two_views_takes_strips(build_model, tmp_path, attention):
    model = build_model(**FEW, image_size=16, views=2, attention=attention, dtype=torch.float32)
    export_onnx(model, tmp_path)
    runner = OnnxRunner(tmp_path)
    assert runner.manifest["views"] == 2
    sizes = [(16, 32)] if attention == "mdnet" else [(16, 32), (8, 40)]
    for rows, columns in sizes:
        random = np.random.default_rng(rows)
        assert_same(runner, model, random.normal(size=(3, 3, rows, columns)).astype(np.float32))
