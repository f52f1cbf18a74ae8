"""What a synthetic tile shows: its aspects, how they are drawn, and the rule of the conclusion.

The aspects are those of the bladder reports of Zhang et al., "MDNet", CVPR 2017 (arXiv
1707.02485), section 4. Each class of an aspect owns a range of drawn parameters, and the ranges of
neighbouring classes leave a gap between them, so that every class can be told from the picture.

Lengths are fractions of the tile's side: a tile of any number of pixels shows the same field of
about 125 micrometres, in which a normal nucleus measures 9 micrometres.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mdnet.data.study import Aspect, LabelSpace

__all__ = [
    "CONCLUSION",
    "FEATURES",
    "INSUFFICIENT",
    "LABEL_SPACE",
    "NORMAL_RADIUS",
    "RANGES",
    "SECTIONS",
    "NuclearParameters",
    "PhantomSpec",
    "TissueParameters",
    "conclude",
    "draw_study",
    "generator",
    "score",
]

CONCLUSION = "conclusion"
INSUFFICIENT = "insufficient information"

LABEL_SPACE = LabelSpace(
    aspects=(
        Aspect("pleomorphism", ("mild", "moderate", "severe"), ordered=True),
        Aspect("crowding", ("absent", "moderate", "severe"), ordered=True),
        Aspect("polarity", ("preserved", "partially lost", "lost"), ordered=True),
        Aspect("mitosis", ("absent", "rare", "frequent"), ordered=True),
        Aspect("nucleoli", ("inconspicuous", "prominent"), ordered=True),
        Aspect(CONCLUSION, ("normal", "low grade", "high grade", INSUFFICIENT)),
    ),
    diagnosis=CONCLUSION,
)
SECTIONS: tuple[str, ...] = LABEL_SPACE.names
FEATURES: tuple[str, ...] = tuple(name for name in SECTIONS if name != CONCLUSION)

NORMAL_RADIUS = 0.036
"""Radius of the circle that has a normal nucleus's area; 4.6 px in a tile of 128 px."""

# Points towards a higher grade, by class in order of severity.
_POINTS: dict[str, tuple[int, ...]] = {
    "pleomorphism": (0, 1, 2),
    "crowding": (0, 1, 2),
    "polarity": (0, 1, 2),
    "mitosis": (0, 1, 2),
    "nucleoli": (0, 2),
}
_LOW_GRADE, _HIGH_GRADE = 3, 6  # fewest points of each
_BORDERLINE = (_LOW_GRADE, _HIGH_GRADE)  # totals that are never drawn

# Probability of each level given the latent grade (row) of the study.
_LEVELS = np.array([[0.62, 0.32, 0.06], [0.27, 0.46, 0.27], [0.08, 0.30, 0.62]])
_TWO_LEVELS = np.array([[0.88, 0.12], [0.5, 0.5], [0.12, 0.88]])

_CONCLUSION_SHARES = (0.3, 0.3, 0.3, 0.1)
_FIGURE_SHARES = {"absent": {0: 1.0}, "rare": {1: 0.75, 2: 0.25}, "frequent": {5: 0.5, 6: 0.5}}

_TILT = np.pi / 6.0  # farthest that the lumen lies from straight above

Quality = Literal["good", "blurred", "empty", "washed"]
_POOR: tuple[Quality, ...] = ("blurred", "empty", "washed")

RANGES: dict[str, dict[str, dict[str, tuple[float, float]]]] = {
    "pleomorphism": {
        "mild": {"size_spread": (0.03, 0.06), "irregularity": (0.01, 0.02), "tone_spread": (0.04, 0.07)},
        "moderate": {"size_spread": (0.34, 0.40), "irregularity": (0.09, 0.11), "tone_spread": (0.12, 0.15)},
        "severe": {"size_spread": (0.66, 0.72), "irregularity": (0.17, 0.20), "tone_spread": (0.20, 0.24)},
    },
    "crowding": {
        "absent": {"coverage": (0.20, 0.24)},
        "moderate": {"coverage": (0.41, 0.46)},
        "severe": {"coverage": (0.74, 0.82)},
    },
    "polarity": {
        "preserved": {"disordered_share": (0.0, 0.0)},
        "partially lost": {"disordered_share": (0.45, 0.55)},
        "lost": {"disordered_share": (1.0, 1.0)},
    },
    "mitosis": {
        name: {"figures": (float(min(shares)), float(max(shares)))} for name, shares in _FIGURE_SHARES.items()
    },
    "nucleoli": {
        "inconspicuous": {"nucleoli_share": (0.0, 0.0)},
        "prominent": {"nucleoli_share": (0.65, 0.85)},
    },
}
"""Aspect to class to drawn parameter to its (lowest, highest) value."""


@dataclass(frozen=True)
class NuclearParameters:
    """How the nuclei of a tile are drawn; each field belongs to one aspect.

    Attributes:
        size_spread: Nuclear radii are spread evenly, in logarithm, over +-`size_spread` (pleomorphism).
        irregularity: Standard deviation of the outline's departure from an ellipse, in radii (pleomorphism).
        tone_spread: Nuclear stain varies evenly over +- this share from nucleus to nucleus (pleomorphism).
        coverage: Area of all nuclei over the area of the epithelium; overlaps count twice (crowding).
        disordered_share: Share of the nuclei, on one side of the tile, that point in any direction; the
            others stand upright on the basement membrane (polarity).
        figures: Number of mitotic figures (mitosis).
        nucleoli_share: Share of the nuclei that have a nucleolus (nucleoli).
        elongation: Long axis over short axis, at every level of pleomorphism, for an axis that can be
            seen.
    """

    size_spread: float
    irregularity: float
    tone_spread: float
    coverage: float
    disordered_share: float
    figures: int
    nucleoli_share: float
    elongation: float


@dataclass(frozen=True)
class TissueParameters:
    """Where the tissue lies, and how it is stained and focused.

    Attributes:
        direction: Angle of the direction from stroma to lumen, radians from the x axis towards y; within
            30 degrees of straight up.
        membrane: Position of the basement membrane along `direction`, from the tile's centre.
        lumen: Position of the luminal surface along `direction`; beyond the tile where there is none.
        waviness: Amplitude of the undulation of both surfaces.
        hematoxylin: Strength of the nuclear stain; 1 is usual.
        eosin: Strength of the stain of everything else.
        hue: Rotation of the stains' colours, radians.
        defocus: Standard deviation of the blur.
    """

    direction: float
    membrane: float
    lumen: float
    waviness: float
    hematoxylin: float
    eosin: float
    hue: float
    defocus: float


@dataclass(frozen=True)
class PhantomSpec:
    """Everything that decides one synthetic study.

    Attributes:
        seed: Seed of the data set.
        index: Number of the study in it.
        labels: Aspect to class; an insufficient tile has a conclusion only.
        quality: `good`, or what makes the tile insufficient.
        nuclei: How the nuclei are drawn.
        tissue: Layout, stain and focus.
    """

    seed: int
    index: int
    labels: Mapping[str, str]
    quality: Quality
    nuclei: NuclearParameters
    tissue: TissueParameters

    @property
    def id(self) -> str:
        return f"p{self.index:05d}"


def generator(seed: int, index: int, stream: int) -> np.random.Generator:
    """Random numbers of one purpose (`stream`) of one study; independent of every other study's."""
    return np.random.default_rng((seed, index, stream))


def score(labels: Mapping[str, str]) -> int:
    """Points of the five features towards a higher grade, 0 to 10.

    Each feature gives 0, 1 or 2 points by its class in order of severity; prominent nucleoli give 2.
    """
    return sum(_POINTS[name][LABEL_SPACE[name].index(labels[name])] for name in FEATURES)


def conclude(labels: Mapping[str, str]) -> str:
    """The conclusion that the five features decide; without them, insufficient information.

    A rule in the spirit of the WHO/ISUP grading of urothelial neoplasms, where the grade follows from
    the sum of architectural and cytologic departures: normal below 3 points, low grade from 3, high
    grade from 6. Totals of exactly 3 and 6 are never drawn, so no conclusion hangs on one feature read
    one grade too high or too low.
    """
    if any(name not in labels for name in FEATURES):
        return INSUFFICIENT
    points = score(labels)
    return "high grade" if points >= _HIGH_GRADE else "low grade" if points >= _LOW_GRADE else "normal"


def draw_study(seed: int, index: int) -> PhantomSpec:
    """Draws study `index` of the data set `seed`: labels, and parameters within its labels' ranges."""
    rng = generator(seed, index, 1)
    conclusion = str(rng.choice(LABEL_SPACE[CONCLUSION].classes, p=_CONCLUSION_SHARES))
    if conclusion == INSUFFICIENT:
        features = _draw_features(rng, str(rng.choice(["normal", "low grade", "high grade"])))
        quality = _POOR[rng.integers(len(_POOR))]
        labels = {CONCLUSION: conclusion}
    else:
        features = _draw_features(rng, conclusion)
        quality = "good"
        labels = features | {CONCLUSION: conclusion}
    return PhantomSpec(
        seed=seed,
        index=index,
        labels=labels,
        quality=quality,
        nuclei=_draw_nuclei(rng, features),
        tissue=_draw_tissue(rng, quality),
    )


def _draw_features(rng: np.random.Generator, conclusion: str) -> dict[str, str]:
    """Features around a latent grade, drawn again until they decide `conclusion` clearly."""
    grade = LABEL_SPACE[CONCLUSION].index(conclusion)
    while True:
        labels = {}
        for name in FEATURES:
            classes = LABEL_SPACE[name].classes
            probabilities = (_LEVELS if len(classes) == 3 else _TWO_LEVELS)[grade]
            labels[name] = classes[rng.choice(len(classes), p=probabilities)]
        if conclude(labels) == conclusion and score(labels) not in _BORDERLINE:
            return labels


def _draw_nuclei(rng: np.random.Generator, features: Mapping[str, str]) -> NuclearParameters:
    drawn = {
        parameter: rng.uniform(*limits)
        for name in ("pleomorphism", "crowding", "polarity", "nucleoli")
        for parameter, limits in RANGES[name][features[name]].items()
    }
    shares = _FIGURE_SHARES[features["mitosis"]]
    return NuclearParameters(
        figures=int(rng.choice(list(shares), p=list(shares.values()))),
        elongation=rng.uniform(2.0, 2.25),
        **drawn,
    )


def _draw_tissue(rng: np.random.Generator, quality: Quality) -> TissueParameters:
    # Lumen above, as sections are mounted and shown; images have y downwards.
    direction = -0.5 * np.pi + rng.uniform(-_TILT, _TILT)
    membrane = rng.uniform(-0.36, -0.24)
    lumen = rng.uniform(0.36, 0.46) if rng.random() < 0.4 else 1.0
    hematoxylin, eosin = rng.uniform(0.85, 1.15), rng.uniform(0.8, 1.2)
    defocus = rng.uniform(0.0, 0.004)
    if quality == "empty":
        reach = 0.5 * (abs(np.cos(direction)) + abs(np.sin(direction)))  # from the centre to the last corner
        lumen = -reach + rng.uniform(0.08, 0.14) + 0.1 * abs(np.sin(2.0 * direction))  # more into a corner
        membrane = lumen - rng.uniform(0.04, 0.3)
    elif quality == "washed":
        # So weak that the camera's grain hides what stretching the contrast would bring back.
        hematoxylin, eosin = rng.uniform(0.03, 0.05), rng.uniform(0.10, 0.18)
        defocus = rng.uniform(0.020, 0.028)
    elif quality == "blurred":
        defocus = rng.uniform(0.04, 0.06)
    return TissueParameters(
        direction=direction,
        membrane=membrane,
        lumen=lumen,
        waviness=rng.uniform(0.005, 0.022),
        hematoxylin=hematoxylin,
        eosin=eosin,
        hue=rng.uniform(-0.12, 0.12),
        defocus=defocus,
    )
