"""A model drawn block by block, as text: Mermaid (which GitHub shows) or Graphviz's DOT.

One graph of nodes and edges, and two writers of it. Every parameter of the model belongs to exactly
one node, so the counts in the boxes sum to the model's.

References:
    1. Mermaid flowcharts, https://mermaid.js.org/syntax/flowchart.html
    2. The DOT language, https://graphviz.org/doc/info/lang.html
"""

from __future__ import annotations

import shutil
import subprocess
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from mdnet.errors import ConfigurationError
from mdnet.files import write_bytes
from mdnet.models.image_module import ResidualFunction
from mdnet.models.mdnet import MDNet

__all__ = ["PICTURES", "Drawing", "Edge", "Node", "draw", "render_dot", "to_dot", "to_mermaid"]

PICTURES = (".svg", ".png", ".pdf")  # what `render_dot` writes

_LINE_WIDTH = 28  # characters in a box; Mermaid breaks longer lines itself, and worse
_LINE_BREAK = r"\n"  # in a label of DOT, two characters
_ATTENTION_FORMULAS = {
    "sharpened": "a = softmax(s c)",
    "mdnet": "a = softmax(W tanh(W h + c))",
    "additive": "Bahdanau, with a slot for softmax(c) C(I)",
    "soft": "Bahdanau",
}


@dataclass(frozen=True)
class Node:
    """One box: what it is, line by line, and how many parameters it holds."""

    name: str
    lines: tuple[str, ...]
    parameters: int = 0

    @property
    def text(self) -> list[str]:
        """The lines of the box, broken where they are long."""
        held = [f"{self.parameters:,} parameters"] if self.parameters else []
        return [part for line in [*self.lines, *held] for part in textwrap.wrap(line, _LINE_WIDTH)]


@dataclass(frozen=True)
class Edge:
    """One arrow, by the names of its nodes; `recurrent` where it carries the step before."""

    source: str
    target: str
    label: str = ""
    recurrent: bool = False


@dataclass
class Drawing:
    """The graph that both writers write.

    Attributes:
        title: One line.
        groups: Group's title to its nodes; the modules D, M and L of the paper.
        edges: Arrows between nodes of any group.
    """

    title: str
    groups: dict[str, list[Node]] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)

    @property
    def nodes(self) -> list[Node]:
        return [node for nodes in self.groups.values() for node in nodes]


def draw(model: MDNet) -> Drawing:
    """The model's blocks: stem, stages, heads, C(I), attention, LSTM and vocabulary."""
    drawing = Drawing(f"MDNet, {count(model):,} parameters")
    _draw_image_module(model, drawing)
    if model.heads is not None:
        _draw_heads(model, drawing)
    if model.report is not None:
        _draw_report(model, drawing)
    return drawing


def _draw_image_module(model: MDNet, drawing: Drawing) -> None:
    """Stem, stages, every block's BN-ReLU, and the grid of C(I)."""
    config, image = model.config, model.image
    side, sizes = config.image_size, config.stage_sizes
    first = len(sizes) - len(config.block_names)  # stage that gives a block
    shape = f"{config.image_channels} x {side} x {side}"
    stem = f"3x3 convolution, stride {config.stem_stride}"
    if config.backbone is not None:
        stem = f"{config.backbone} before {config.decoupled_from}"
    nodes = [
        Node("image", ("image" if config.views == 1 else f"each of {config.views} views", shape)),
        Node("stem", ("stem", stem), count(image.stem)),
    ]
    drawing.edges += [Edge("image", "stem"), Edge("stem", "stage1")]
    kind = "two 3x3" if config.block == "basic" else "1x1, 3x3, 1x1"
    for index, cells in enumerate(sizes):
        stage = f"stage{index + 1}"
        functions = [part for part in image.stages[index].modules() if isinstance(part, ResidualFunction)]
        size = f"{config.widths[index]} channels, {cells} x {cells}"
        made = f"{len(functions)} x BN-ReLU-conv, {kind}"
        if config.backbone is not None:
            made = f"{config.depths[index]} layers of {config.backbone}"
        nodes.append(Node(stage, (f"stage {index + 1}", size, made), count(image.stages[index])))
        if index and config.backbone is not None:  # a backbone's stage reads the block before it
            drawing.edges.append(Edge(f"block{index}", stage))
        elif index and not config.decoupled:  # and a plain one's the stage
            drawing.edges.append(Edge(f"stage{index}", stage))
        else:  # all groups, at the size of the last
            drawing.edges += [
                Edge(f"stage{earlier + 1}", stage, _pooled(sizes[earlier], sizes[index - 1]))
                for earlier in range(index)
            ]
        if index >= first:
            block, activation = f"block{index + 1}", image.activations[index - first]
            name = "BN-ReLU" if count(activation) else "ReLU"
            nodes.append(Node(block, (f"{block}: {name}", size), count(activation)))
            drawing.edges.append(Edge(stage, block))
            drawing.edges.append(Edge(block, "grid", _pooled(cells, config.grid_size)))
    grid = f"{sum(config.block_widths)} channels, {config.grid_size} x {config.grid_size}"
    nodes.append(Node("grid", ("C(I): all blocks, side by side", grid)))
    drawing.groups["Image module D"] = nodes


def _pooled(cells: int, target: int) -> str:
    """Label of an arrow from a map of one size to one of another."""
    return "average-pooled" if cells != target else ""


def _draw_heads(model: MDNet, drawing: Drawing) -> None:
    """Every aspect's head, with class weights of its own for every block."""
    assert model.heads is not None
    config = model.config
    nodes = [Node("means", ("means over positions", "block by block, never mixed"))]
    drawing.edges += [Edge(block, "means") for block in config.block_names]
    for index, aspect in enumerate(config.space.aspects):
        nature = "multi-label" if aspect.multi_label else "grades" if aspect.ordered else "classes"
        title = f"{aspect.name} (diagnosis)" if aspect.name == config.space.diagnosis else aspect.name
        lines = (title, f"{nature}: {', '.join(aspect.classes)}")
        nodes.append(Node(f"head{index + 1}", lines, count(model.heads[aspect.name])))
        drawing.edges.append(Edge("means", f"head{index + 1}"))
    drawing.groups["Classification module M"] = nodes


def _draw_report(model: MDNet, drawing: Drawing) -> None:
    """Evidence c, the attention that it guides, the LSTM and its vocabulary."""
    assert model.report is not None
    config, report = model.config, model.report
    words = f"{config.vocabulary_size} words"
    attention = (f"attention: {config.attention}", _ATTENTION_FORMULAS[config.attention])
    embedding = ("embedding E", f"{words}, {config.embedding_size} wide")
    shared = ("embedding", "attention", "output")
    own = {name: part for name, part in report.named_children() if name not in shared and count(part)}
    further = (f"with {name.replace('_', ' ')}" for name in own if name != "lstm")
    lstm = ("LSTM", f"{config.hidden_size} wide, one for all sections", *further)
    nodes = [
        Node("attention", attention, count(report.attention)),
        Node("context", ("z = a C(I)", f"{sum(config.block_widths)} channels")),
        Node("embedding", embedding, count(report.embedding)),
        Node("lstm", lstm, sum(map(count, own.values()))),
        Node("vocabulary", ("output G, softmax", words), count(report.output)),
    ]
    if model.heads is not None and report.guided:
        guides = {section: aspect for section, aspect in (config.section_aspects or {}).items() if aspect}
        named = [
            section if section == aspect else f"{section} (by {aspect})" for section, aspect in guides.items()
        ]
        nodes.insert(
            0, Node("evidence", ("evidence c of the predicted class", f"sections: {', '.join(named)}"))
        )
        heads = sorted({config.space.names.index(aspect) + 1 for aspect in guides.values()})
        drawing.edges += [Edge(f"head{number}", "evidence") for number in heads]
        drawing.edges += [Edge("grid", "evidence"), Edge("evidence", "attention", "guides")]
    if config.attention in ("additive", "soft"):
        drawing.edges.append(Edge("grid", "attention"))
    drawing.edges += [
        Edge("attention", "context"),
        Edge("grid", "context"),
        Edge("context", "lstm"),
        Edge("embedding", "lstm"),
        Edge("lstm", "vocabulary"),
        Edge("lstm", "attention", "state before", recurrent=True),
        Edge("vocabulary", "embedding", "word before", recurrent=True),
    ]
    drawing.groups["Language module L"] = nodes


def count(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def to_mermaid(model: MDNet) -> str:
    """A Mermaid flowchart, for a code block of the language `mermaid`."""
    drawing = draw(model)
    lines = ["---", f"title: {drawing.title}", "---", "flowchart TB"]
    for number, (title, nodes) in enumerate(drawing.groups.items(), start=1):
        lines.append(f'  subgraph module{number}["{_mermaid(title)}"]')
        lines += [f'    {node.name}["{"<br/>".join(map(_mermaid, node.text))}"]' for node in nodes]
        lines.append("  end")
    for edge in drawing.edges:
        arrow = "-.->" if edge.recurrent else "-->"
        label = f'|"{_mermaid(edge.label)}"|' if edge.label else ""
        lines.append(f"  {edge.source} {arrow}{label} {edge.target}")
    return "\n".join(lines) + "\n"


def to_dot(model: MDNet) -> str:
    """A directed graph in Graphviz's DOT."""
    drawing = draw(model)
    lines = [
        "digraph mdnet {",
        f'  label="{_dot(drawing.title)}"; labelloc=t; fontname="Helvetica";',
        '  node [shape=box, style=rounded, fontname="Helvetica"]; edge [fontname="Helvetica"];',
    ]
    for number, (title, nodes) in enumerate(drawing.groups.items(), start=1):
        lines.append(f'  subgraph cluster{number} {{ label="{_dot(title)}";')
        lines += [rf'    {node.name} [label="{_LINE_BREAK.join(map(_dot, node.text))}"];' for node in nodes]
        lines.append("  }")
    for edge in drawing.edges:
        options = f'label="{_dot(edge.label)}"'
        options += ", style=dashed, constraint=false" if edge.recurrent else ""
        lines.append(f"  {edge.source} -> {edge.target} [{options}];")
    return "\n".join([*lines, "}"]) + "\n"


def render_dot(text: str, path: Path) -> Path:
    """Draws DOT as a picture, with Graphviz's own program.

    Args:
        text: As `to_dot` gives it.
        path: Ends in one of `PICTURES`.

    Raises:
        ConfigurationError: There is no `dot` on the PATH, or it failed.
    """
    program = shutil.which("dot")
    if program is None:
        raise ConfigurationError(
            f"{path}: no `dot` on the PATH; install Graphviz, or name a file that ends in .dot"
        )
    kind = path.suffix.lower().removeprefix(".")
    done = subprocess.run([program, f"-T{kind}"], input=text.encode(), capture_output=True, check=False)
    if done.returncode:
        raise ConfigurationError(f"{path}: dot failed: {done.stderr.decode(errors='replace')}")
    return write_bytes(path, done.stdout)


def _mermaid(text: str) -> str:
    """Text for a quoted label: its own marks as entities, in Mermaid's spelling."""
    for mark, entity in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("\n", " ")):
        text = text.replace(mark, entity)
    return text


def _dot(text: str) -> str:
    """Text for a quoted label."""
    return text.replace("\\", "\\\\").replace('"', r"\"").replace("\n", " ")
