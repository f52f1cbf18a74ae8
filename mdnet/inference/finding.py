"""What a model says of one study: diagnosis, aspects, report, and the maps that say why.

A `Finding` holds plain NumPy arrays and strings, no tensor and no model, so it can be kept,
pickled between processes, drawn, or written out long after the model is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mdnet.data.study import Aspect, LabelSpace
from mdnet.errors import ConfigurationError
from mdnet.inference.report_finding import OtherText, ReportFinding, SectionFinding

__all__ = [
    "AspectEvidence",
    "AspectFinding",
    "EvidenceMap",
    "Finding",
    "OtherText",
    "ReportFinding",
    "SectionFinding",
    "Unusualness",
]

FloatArray = npt.NDArray[np.float64]


class EvidenceMap(np.ndarray):
    """An evidence map: a float64 array of logits, (rows, columns), that knows its sum check.

    It is an ordinary array in every respect, with three attributes more.

    Attributes:
        bias: The part of the logit (or of the difference of two) that no position adds.
        total: `sum() + bias`: the logit, or the difference of two logits.
        blocks: The same evidence block by block, each at the block's native resolution
            (a tuple of `BlockMap`); their sums and the bias give `total` too.
    """

    bias: float
    total: float
    blocks: tuple[BlockMap, ...]

    def __array_finalize__(self, source: Any) -> None:
        self.bias = getattr(source, "bias", 0.0)
        self.total = getattr(source, "total", float("nan"))
        self.blocks = getattr(source, "blocks", ())


class BlockMap(np.ndarray):
    """Evidence of one block at its native resolution, (rows, columns); `name` is the block's."""

    name: str

    def __array_finalize__(self, source: Any) -> None:
        self.name = getattr(source, "name", "")


@dataclass(frozen=True)
class AspectEvidence:
    """Evidence of every block for every class of one aspect.

    Attributes:
        blocks: Block name to evidence, (classes, rows, columns) at native resolution, float32.
        bias: (classes,), float32.
    """

    blocks: Mapping[str, npt.NDArray[np.float32]]
    bias: npt.NDArray[np.float32]


@dataclass(frozen=True)
class AspectFinding:
    """What the model says of one aspect.

    Attributes:
        labels: The class, or every class with a probability of at least 0.5 (multi-label).
        probabilities: Class name to probability; they sum to 1 unless the aspect is multi-label. They
            are calibrated where the model is: `softmax(logits / temperature)`.
        logits: Class name to logit, as the evidence adds up to it: calibration leaves it alone.
    """

    aspect: Aspect
    labels: tuple[str, ...]
    probabilities: Mapping[str, float]
    logits: Mapping[str, float]

    @property
    def name(self) -> str:
        return self.aspect.name

    @property
    def label(self) -> str:
        """The class; of a multi-label aspect all of them, joined by ", ", or "none"."""
        return ", ".join(self.labels) or "none"

    @property
    def probability(self) -> float:
        """Probability of the class (the least certain one, of a multi-label aspect)."""
        chosen = [self.probabilities[label] for label in self.labels]
        return min(chosen) if chosen else 1.0 - max(self.probabilities.values())

    def opposite(self, label: str) -> str | None:
        """The class that `label` is read against, as one class's logit alone means little under a softmax.

        The aspect's reference class; for the reference itself, the likeliest other class. None of a
        multi-label aspect, where each class stands by itself.
        """
        if self.aspect.multi_label:
            return None
        if label != self.aspect.reference:
            return self.aspect.reference
        others = [name for name in self.aspect.classes if name != label]
        return max(others, key=lambda name: self.probabilities[name], default=None)


@dataclass(frozen=True)
class Unusualness:
    """How far an image is from those that the model knows.

    Attributes:
        score: Share of the validation images, on which the model was calibrated, that are less
            unusual; in [0, 1).
        distance: Mahalanobis distance of the image's features from theirs, which still tells apart
            what the score cannot.
        beyond_threshold: The image counts as out-of-distribution: an answer to it means little.
    """

    score: float
    distance: float
    beyond_threshold: bool

    def __str__(self) -> str:
        return f"more unusual than {self.score:.1%} of the validation images (distance {self.distance:.1f})"


@dataclass(frozen=True)
class Finding:
    """What a model says of one study.

    Attributes:
        source: Path or name of the image.
        image: The image as decoded, (H, W, 3) uint8. Of several views a strip: those that the study has,
            side by side, each brought to the size of the first; maps over it have as many columns for each.
        label_space: The model's.
        aspects: Aspect name to `AspectFinding`.
        report: The report; it has no section where the model writes none.
        aspect_evidence: Aspect name to `AspectEvidence`, from which `evidence` makes its maps.
        model: Name or path of the weights.
        unusualness: How far the image is from those that the model knows; None where the model was
            not calibrated.
        abstain_below: Probability of the diagnosis below which the finding gives none.
        views: The images of the study as decoded, (H, W, 3) uint8 each; `image` alone unless given.
    """

    source: str
    image: npt.NDArray[np.uint8]
    label_space: LabelSpace
    aspects: Mapping[str, AspectFinding]
    report: ReportFinding
    aspect_evidence: Mapping[str, AspectEvidence]
    model: str = ""
    unusualness: Unusualness | None = None
    abstain_below: float | None = None
    views: tuple[npt.NDArray[np.uint8], ...] = ()

    def __post_init__(self) -> None:
        if not self.views:
            object.__setattr__(self, "views", (self.image,))

    @property
    def out_of_distribution(self) -> float | None:
        """The out-of-distribution score, `unusualness.score`; None where the model was not calibrated."""
        return None if self.unusualness is None else self.unusualness.score

    @property
    def abstained(self) -> bool:
        """The diagnosis is less sure than `abstain_below` asks for: what `diagnosis` holds is no answer."""
        if self.abstain_below is None or self.label_space.diagnosis is None:
            return False
        return self.diagnosis.probability < self.abstain_below

    @property
    def verdict(self) -> str:
        """The diagnosis in words: "high grade (0.97)", or "no diagnosis (0.62, below 0.80)"."""
        probability = self.diagnosis.probability
        if self.abstained:
            return f"no diagnosis ({probability:.2f}, below {self.abstain_below:.2f})"
        return f"{self.diagnosis.label} ({probability:.2f})"

    @property
    def diagnosis(self) -> AspectFinding:
        """The aspect that concludes."""
        if self.label_space.diagnosis is None:
            raise ConfigurationError(
                f"the model {self.model or 'in use'} has no diagnosis: it was trained without labels"
            )
        return self.aspects[self.label_space.diagnosis]

    def attention(self, section: str, *, view: int | None = None) -> FloatArray:
        """Attention of a section's words: (words, rows, columns), each word's map sums to 1.

        Args:
            section: Section name.
            view: Give the maps over this view alone, counted from 0: the shares that it gets.
        """
        if section not in self.report.sections:
            raise ConfigurationError(
                f"no section {section!r}; the report's sections: {', '.join(self.report.sections) or 'none'}"
            )
        maps = self.report.sections[section].attention
        return maps if view is None else maps[..., self._columns_of(view, maps.shape[-1])]

    def evidence(
        self, aspect: str, label: str | None = None, *, against: str | None = None, view: int | None = None
    ) -> EvidenceMap:
        """Evidence for a class, or the contrast of two classes, over the image.

        Formula 3 of docs/method.md. Each block's evidence is spread from its native grid over the
        image's pixels by an interpolation that keeps the sum, so the map and the bias give the
        logit.

        Args:
            aspect: Aspect name.
            label: Class name; the model's own answer unless named (a multi-label aspect can have several).
            against: A second class; the result is then the contrast `label - against`.
            view: Give the map over this image of `views` alone, counted from 0. What the others add then
                stands in `bias`.

        Returns:
            (image rows, image columns), logit per pixel.

        Raises:
            ConfigurationError: No such aspect, class or view.
        """
        space = self.label_space[aspect]
        evidence = self.aspect_evidence[aspect]
        if label is None:
            answers = self.aspects[aspect].labels
            if len(answers) != 1:
                raise ConfigurationError(
                    f"the model's answer to {aspect!r} is {self.aspects[aspect].label}: name one class of "
                    f"{', '.join(space.classes)}"
                )
            label = answers[0]
        weights = np.zeros(len(space.classes))
        weights[space.index(label)] += 1.0
        if against is not None:
            weights[space.index(against)] -= 1.0

        rows, columns = (self.image if view is None else self.views[self._checked(view)]).shape[:2]
        views = len(self.views) if view is None else 1
        bias = float(weights @ evidence.bias)
        pixel_map = np.zeros((rows, columns))
        blocks = []
        for name, block in evidence.blocks.items():
            whole = np.tensordot(weights, block.astype(np.float64), axes=1)  # (rows, columns)
            drawn = whole if view is None else whole[:, self._columns_of(view, whole.shape[1])]
            bias += float(whole.sum() - drawn.sum())
            native = drawn.view(BlockMap)
            native.name = name
            blocks.append(native)
            pixel_map += spread(rows, drawn.shape[0]) @ drawn @ spread(columns, drawn.shape[1], views=views).T

        result = pixel_map.view(EvidenceMap)
        result.bias = bias
        result.total = float(pixel_map.sum() + result.bias)
        result.blocks = tuple(blocks)
        return result

    def _columns_of(self, view: int, columns: int) -> slice:
        """The columns of one view in a map over the strip."""
        each = columns // len(self.views)
        return slice(self._checked(view) * each, (view + 1) * each)

    def _checked(self, view: int) -> int:
        if not 0 <= view < len(self.views):
            raise ConfigurationError(f"no view {view}; the study has {len(self.views)}, counted from 0")
        return view

    def to_dict(self) -> dict[str, Any]:
        """The finding without its maps, for JSON; where it abstains, `diagnosis` is None."""
        diagnosed = self.label_space.diagnosis is not None and not self.abstained
        return {
            "image": self.source,
            "model": self.model,
            "diagnosis": self.diagnosis.label if diagnosed else None,
            "abstained": self.abstained,
            "out_of_distribution": None if self.unusualness is None else asdict(self.unusualness),
            "aspects": {
                name: {"label": a.label, "labels": list(a.labels), "probabilities": dict(a.probabilities)}
                for name, a in self.aspects.items()
            },
            "report": self.report.text,
            "sections": {name: section.text for name, section in self.report.sections.items()},
            **self.report.details(),
        }

    def save_html(self, path: str | Path) -> Path:
        """Writes one self-contained page: image, diagnosis, report, attention a word, contrasts."""
        from mdnet.report.finding_page import write_finding_page

        return write_finding_page(self, Path(path))


def spread(pixels: int, cells: int, *, views: int = 1) -> FloatArray:
    """Matrix (pixels, cells) that spreads values on a grid of cells over pixels and keeps their sum.

    Linear interpolation between cell centres, each column scaled to sum to 1. Where there are fewer
    pixels than cells, each cell goes to the pixels nearest its centre. Of several views side by side,
    nothing is spread from one over another.
    """
    if views > 1:
        return np.asarray(np.kron(np.eye(views), spread(pixels // views, cells // views)), np.float64)
    centres = (np.arange(pixels) + 0.5) * cells / pixels - 0.5  # pixel centres in cell units
    centres = np.clip(centres, 0, cells - 1)
    if pixels >= cells:
        weights = np.clip(1.0 - np.abs(centres[:, None] - np.arange(cells)[None, :]), 0.0, None)
    else:
        positions = np.clip((np.arange(cells) + 0.5) * pixels / cells - 0.5, 0, pixels - 1)
        weights = np.clip(1.0 - np.abs(np.arange(pixels)[:, None] - positions[None, :]), 0.0, None)
    return weights / weights.sum(axis=0, keepdims=True)
