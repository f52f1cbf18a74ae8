"""A drawing must show the model as it is: every parameter once, every block, head and arrow."""

from __future__ import annotations

import re
import shutil

import pytest

from mdnet.cli.main import main
from mdnet.data.study import Aspect, LabelSpace
from mdnet.errors import ConfigurationError
from mdnet.export.drawing import draw, render_dot, to_dot, to_mermaid
from mdnet.models.mdnet import MDNet

SMALL = {"image_size": 16, "widths": [4, 6, 8], "depths": [1, 1, 2], "strides": [1, 2, 2]}
OPTIONS = [
    {},
    {"attention": "mdnet", "block": "bottleneck"},
    {"attention": "additive", "strides": [1, 1, 2]},
    {"sections": ()},
    {"label_space": LabelSpace()},
    {"name": "topic_mdnet", **SMALL},
    {"name": "show_attend_tell", **SMALL},
]


@pytest.fixture(scope="session")
def shipped() -> MDNet:
    return MDNet.from_pretrained("mdnet_tiny/phantom")


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_parameters_of_the_boxes_sum_to_the_models(build_model, options):
    model = build_model(**options)
    total = sum(parameter.numel() for parameter in model.parameters())
    drawing = draw(model)
    assert sum(node.parameters for node in drawing.nodes) == total
    assert drawing.title == f"MDNet, {total:,} parameters"


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_arrow_joins_two_boxes_and_every_box_is_joined(build_model, options):
    drawing = draw(build_model(**options))
    names = [node.name for node in drawing.nodes]
    assert len(set(names)) == len(names)
    assert {end for edge in drawing.edges for end in (edge.source, edge.target)} == set(names)


def test_both_writers_say_the_same_numbers_as_the_weights_card(shipped):
    for text in (to_mermaid(shipped), to_dot(shipped)):
        counts = [int(number.replace(",", "")) for number in re.findall(r"([\d,]+) parameters", text)]
        assert counts[0] == 435_503
        assert sum(counts[1:]) == counts[0]


def test_mermaid_shows_stages_heads_and_what_guides_attention(shipped):
    text = to_mermaid(shipped)
    assert text.startswith("---\ntitle: MDNet, 435,503 parameters\n---\nflowchart TB\n")
    assert 'stage2["stage 2<br/>40 channels, 32 x 32<br/>3 x BN-ReLU-conv, two 3x3<br/>' in text
    assert '["mitosis<br/>grades: absent, rare,<br/>frequent<br/>363 parameters"]' in text
    assert "conclusion (diagnosis)" in text
    assert 'evidence -->|"guides"| attention' in text
    assert 'vocabulary -.->|"word before"| embedding' in text
    assert 'block1 -->|"average-pooled"| grid' in text
    assert "block3 --> grid" in text  # it has the grid's size


def test_a_plain_network_is_a_chain_and_what_no_evidence_guides_is_not_said_to_be_guided(build_model):
    drawing = draw(build_model("show_attend_tell", **SMALL))
    edges = {(edge.source, edge.target) for edge in drawing.edges}
    assert {("stage1", "stage2"), ("stage2", "stage3"), ("stage3", "block3"), ("block3", "grid")} <= edges
    assert ("stage1", "stage3") not in edges
    nodes = {node.name: node for node in drawing.nodes}
    assert not {"block1", "block2", "evidence"} & set(nodes)
    assert "with hidden readout" in nodes["lstm"].lines


def test_a_group_that_keeps_its_size_is_not_said_to_be_pooled(build_model):
    edges = {(e.source, e.target): e.label for e in draw(build_model(strides=[1, 1, 2])).edges}
    assert edges["stage1", "stage3"] == ""
    assert edges["block2", "grid"] == "average-pooled"


def test_a_section_guided_by_another_aspect_says_so(build_model):
    nodes = {node.name: node for node in draw(build_model()).nodes}
    assert "remarks (by conclusion)" in " ".join(nodes["evidence"].text)


def test_names_with_marks_of_the_languages_stay_text(build_model):
    space = LabelSpace((Aspect('a "b" <c> #1', ("x\\y", "line\nbreak")),))
    model = build_model(label_space=space, sections=())
    mermaid, dot = to_mermaid(model), to_dot(model)
    assert "a #quot;b#quot; #lt;c#gt; #35;1" in mermaid
    assert r"a \"b\" <c> #1" in dot
    assert r"x\\y" in dot
    for line in (*mermaid.splitlines(), *dot.replace(r"\"", "").splitlines()):
        assert line.count('"') % 2 == 0


def test_without_graphviz_a_picture_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ConfigurationError, match="no `dot` on the PATH; install Graphviz"):
        render_dot("digraph {}", tmp_path / "x.svg")


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz")
def test_graphviz_draws_the_model_and_refuses_what_is_no_graph(shipped, tmp_path):
    picture = render_dot(to_dot(shipped), tmp_path / "x.svg")
    assert "<svg" in picture.read_text()
    with pytest.raises(ConfigurationError, match="dot failed"):
        render_dot("no graph", tmp_path / "y.svg")


def test_the_command_writes_a_file_or_to_stdout(shipped, tmp_path, capsys):
    for words, wanted in ((["mermaid"], to_mermaid(shipped)), (["dot"], to_dot(shipped))):
        with pytest.raises(SystemExit) as exit_:
            main(["export", "--diagram", *words])
        assert not exit_.value.code
        assert capsys.readouterr().out == wanted
    with pytest.raises(SystemExit):
        main(["export", "--diagram", "dot", "--out", str(tmp_path / "m.dot")])
    assert (tmp_path / "m.dot").read_text() == to_dot(shipped)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--diagram", "visio"], "visio is none of mermaid, dot"),
        (["--diagram", "mermaid", "--out", "x.svg"], ".mmd"),
    ],
)
def test_a_diagram_that_cannot_be_made_is_one_line(capsys, words, message):
    with pytest.raises(SystemExit) as exit_:
        main(["export", *words])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
