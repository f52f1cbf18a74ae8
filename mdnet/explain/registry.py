"""All ways to draw a map, under one name each and one call.

>>> from mdnet.explain.registry import explain, list_methods
>>> explain(predictor, ["tile.png"], method="grad_cam", target=ClassTarget("mitosis"))

A method is one function and one decorator:

    @register_method("saliency", unit="per unit of input")
    def saliency(scorer: Scorer, pixel_values: Tensor) -> Tensor: ...
"""

from __future__ import annotations

import fnmatch
import importlib
import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mdnet.data.views import picture_strip
from mdnet.errors import ConfigurationError
from mdnet.explain.explanation import Explanation
from mdnet.explain.targets import ClassTarget, ReportTarget, Scorer, SectionTarget, Target, WordTarget
from mdnet.inference.finding import Finding
from mdnet.inference.reading import images_of, source_of

if TYPE_CHECKING:
    from mdnet.inference.predictor import Predictor
    from mdnet.inference.reading import StudyLike

__all__ = ["Maps", "Method", "explain", "get_method", "list_methods", "register_method"]

# Where the methods are; imported when first asked for, as captum takes a second.
_MODULES = ("by_design", "words", "activation_maps", "gradients", "perturbation")


@dataclass(frozen=True)
class Maps:
    """What a method that keeps a sum gives: maps (B, rows, columns) and what they leave out, (B,).

    `score` is what map and offset sum to, (B,), where that is not the target's own number.
    """

    maps: Tensor
    offset: Tensor
    score: Tensor | None = None


@dataclass(frozen=True)
class Method:
    """One way to draw a map.

    Attributes:
        name: Its name.
        function: `(scorer, pixel_values (B, channels, H, W), **parameters)` to maps (B, rows,
            columns) on any grid over the whole image, or to `Maps`.
        unit: Unit of the values; "{unit}" stands for the target's.
        targets: Kinds of target it can explain.
        by_design: The map is read off the model's own computation.
        randomised: It draws random numbers: a seed decides.
    """

    name: str
    function: Callable[..., Tensor | Maps]
    unit: str
    targets: tuple[type, ...]
    by_design: bool
    randomised: bool

    @property
    def summary(self) -> str:
        """First line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n", 1)[0]

    @property
    def parameters(self) -> dict[str, Any]:
        """Names and defaults of its settings."""
        return {
            name: parameter.default
            for name, parameter in inspect.signature(self.function).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }

    def draw(self, scorer: Scorer, pixel_values: Tensor, *, seed: int = 0, **settings: Any) -> Tensor | Maps:
        """What the function gives for images (B, channels, H, W), settings left out at their defaults.

        A randomised method begins with `seed`; torch's generator is left as it was.
        """
        with torch.random.fork_rng(enabled=self.randomised):
            if self.randomised:
                torch.manual_seed(seed)
            return self.function(scorer, pixel_values, **(self.parameters | settings))


_METHODS: dict[str, Method] = {}


def register_method(
    name: str,
    *,
    unit: str,
    targets: tuple[type, ...] = (ClassTarget, WordTarget, SectionTarget, ReportTarget),
    by_design: bool = False,
    randomised: bool = False,
) -> Callable[[Callable[..., Tensor | Maps]], Callable[..., Tensor | Maps]]:
    """Adds a function to the registry; its keyword-only arguments are the method's settings."""
    if name in _METHODS:
        raise ConfigurationError(f"method {name!r} is registered already")

    def register(function: Callable[..., Tensor | Maps]) -> Callable[..., Tensor | Maps]:
        _METHODS[name] = Method(name, function, unit, targets, by_design, randomised)
        return function

    return register


def list_methods(pattern: str = "*") -> list[str]:
    """Names of all methods, those by design first; `pattern` as in a shell."""
    _load()
    names = sorted(_METHODS, key=lambda name: (not _METHODS[name].by_design, name))
    return [name for name in names if fnmatch.fnmatch(name, pattern)]


def get_method(name: str) -> Method:
    """The method of a name.

    Raises:
        ConfigurationError: There is none.
    """
    _load()
    if name not in _METHODS:
        raise ConfigurationError(f"no method {name!r}; there are {', '.join(list_methods())}")
    return _METHODS[name]


def explain(
    predictor: Predictor,
    images: Sequence[StudyLike],
    *,
    method: str = "evidence",
    target: Target | Callable[[Finding], Target] | None = None,
    seed: int = 0,
    **parameters: Any,
) -> list[Explanation]:
    """One map an image, or a study: of several views side by side, those that the study has.

    Args:
        predictor: The model.
        images: As `Predictor.__call__` takes a list of them.
        method: Name of `list_methods()`.
        target: What to explain; the diagnosis, the model's answer against the reference class,
            unless given. Names it leaves open are filled in image by image; a function of what the
            model said gives each image a target of its own.
        seed: Of the methods that draw random numbers.
        **parameters: The method's settings.

    Raises:
        ConfigurationError: No such method, setting or name, or a target that the method cannot explain.
        ImageError: An image that cannot be decoded.
    """
    chosen = get_method(method)
    unknown = sorted(set(parameters) - set(chosen.parameters))
    if unknown:
        allowed = ", ".join(chosen.parameters) or "none"
        raise ConfigurationError(f"{method} has no setting {', '.join(unknown)}; its settings: {allowed}")
    for name, value in parameters.items():
        _check_kind(method, name, value, chosen.parameters[name])
    settings = chosen.parameters | parameters
    views = predictor.model.views
    sources = [source_of(images_of(study, views), number) for number, study in enumerate(images)]
    pictures = [predictor.decoded(study) for study in images]
    resolved = _resolved(predictor, pictures, target or ClassTarget())
    for each in dict.fromkeys(resolved):
        if not isinstance(each, chosen.targets):
            raise ConfigurationError(f"{method} cannot explain a {type(each).__name__}")
        if isinstance(each, ClassTarget):
            each.weights(predictor.model)  # names the aspects and classes there are

    results: list[Explanation | None] = [None] * len(pictures)
    kinds = [(each, len(own)) for each, own in zip(resolved, pictures, strict=True)]
    for each, count in dict.fromkeys(kinds):
        rows = [row for row, other in enumerate(kinds) if other == (each, count)]
        # A method that knows nothing of missing views meets none.
        scorer = Scorer(predictor.model.with_views(count), each)
        for start in range(0, len(rows), predictor.batch_size):
            batch = rows[start : start + predictor.batch_size]
            pixel_values, _ = predictor.strips([pictures[row] for row in batch], views=count)
            began = time.perf_counter()
            drawn = chosen.draw(scorer, pixel_values, seed=seed, **settings)
            maps, offset = (drawn.maps, drawn.offset) if isinstance(drawn, Maps) else (drawn, None)
            values = maps.detach().double().cpu().numpy()
            seconds = (time.perf_counter() - began) / len(batch)
            with torch.inference_mode():
                own = drawn.score if isinstance(drawn, Maps) else None
                scores = (scorer(pixel_values) if own is None else own).double().cpu()
            for position, row in enumerate(batch):
                results[row] = Explanation(
                    map=values[position],
                    image=picture_strip(pictures[row]),
                    method=method,
                    target=str(each),
                    unit=chosen.unit.format(unit=each.unit),
                    score=float(scores[position]),
                    offset=None if offset is None else float(offset[position]),
                    model=predictor.name,
                    source=sources[row],
                    parameters=settings | ({"seed": seed} if chosen.randomised else {}),
                    seconds=seconds,
                )
    return [result for result in results if result is not None]


def _resolved(
    predictor: Predictor,
    pictures: Sequence[list[npt.NDArray[np.uint8]]],
    target: Target | Callable[[Finding], Target],
) -> list[Target]:
    """The target of every picture, no name left open."""
    if not callable(target) and not (
        isinstance(target, ClassTarget) and None in (target.aspect, target.label)
    ):
        return [target] * len(pictures)
    resolved = []
    for finding in predictor.stream(pictures):
        each = target(finding) if callable(target) else target
        resolved.append(each.resolved(finding) if isinstance(each, ClassTarget) else each)
    return resolved


def _check_kind(method: str, name: str, value: Any, default: Any) -> None:
    """Raises `ConfigurationError` for a setting of another kind than its default; None stands for a name."""
    kind = str if default is None else type(default)
    fits = isinstance(value, (list, tuple)) if kind is tuple else isinstance(value, kind)
    fits |= kind is float and isinstance(value, int)
    if isinstance(value, bool) or not (fits or (value is None and default is None)):
        kinds = {int: "a whole number", float: "a number", tuple: "a list", str: "a name"}
        usual = "" if default is None else f", such as {default!r}"
        raise ConfigurationError(f"{method}: {name} is {value!r}: give {kinds[kind]}{usual}")


def _load() -> None:
    for module in _MODULES:
        importlib.import_module(f"mdnet.explain.{module}")
