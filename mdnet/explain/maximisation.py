"""Activation maximisation: the image that excites a unit or a class most, under priors that keep it an image.

The image is written as a Fourier spectrum over decorrelated colours [1], a form in which gradient steps
are no longer dominated by high frequencies and by brightness; each step sees it shifted at random
(jitter [1, 3]), and every few steps it is blurred [2]. Colours are those of the data: mean and
correlation of a sample's pixels take the place of ImageNet's.

Own code: torch-lucent, the port of Lucid to torch, had its last release (0.1.8) in May 2021, pins
kornia to 0.4.1 or older, knows RGB only, and leaves its hooks on the model.

References:
    1. Olah, Mordvintsev & Schubert, "Feature Visualization", Distill 2017; and Lucid, `optvis/param`.
    2. Yosinski et al., "Understanding Neural Networks Through Deep Visualization", 2015,
       arXiv 1506.06579.
    3. Mordvintsev, Olah & Tyka, "Inceptionism", Google Research blog, 2015.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mdnet.data.preprocessing import Preprocessing
from mdnet.errors import ConfigurationError
from mdnet.explain.activations import channel_maps
from mdnet.explain.layers import evaluation_mode, watching

__all__ = ["Maximisation", "Sample", "UnitScorer", "maximise", "measure_sample"]

_AMPLITUDE = 0.01  # of the random spectrum at the start, as in Lucid
_DAMPING = 4.0  # Lucid's divisor between spectrum and image: without it colours saturate
_LEAK = 0.1  # share of the gradient that passes a ReLU that is off, while a unit is off everywhere
_EDGE = 1e-3  # keeps a colour off 0 and 1, where the logistic function has no inverse


class UnitScorer(nn.Module):
    """From images (B, channels, H, W) to a unit's activation, (B,): the mean over its map.

    Args:
        model: Any module.
        layer: A name of `list_layers(model)`.
        channel: The layer's channel.
    """

    def __init__(self, model: nn.Module, layer: str, channel: int) -> None:
        super().__init__()
        self.model = model
        self.layer = layer
        self.channel = channel

    def forward(self, pixel_values: Tensor) -> Tensor:
        maps: list[Tensor] = []

        def keep(_: str, output: Tensor) -> None:
            maps.append(channel_maps(output, self.channel, layer=self.layer).clone())

        with watching(self.model, [self.layer], keep):
            self.model(pixel_values)
        return maps[0].mean(dim=(1, 2))


@dataclass(frozen=True)
class Sample:
    """A data sample: what it scores, and how its colours vary.

    Attributes:
        scores: (studies,) the number to be maximised, of each image.
        colour_mean: (channels,) of its pixels, in 0..1.
        colour_root: (channels, channels) square root of the pixels' covariance: it takes
            decorrelated colours to those of the sample.
    """

    scores: npt.NDArray[np.float64]
    colour_mean: npt.NDArray[np.float64]
    colour_root: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Maximisation:
    """An image made to excite, and how that compares with real ones.

    Attributes:
        image: (rows, columns, channels) uint8.
        activation: What `image` itself scores, rounded to uint8 and normalised like any study.
        history: (steps,) score of each step's shifted image; the first is that of the start.
        sample: (studies,) scores of the data sample.
        target: What was maximised, in words.
        parameters: Settings.
    """

    image: npt.NDArray[np.uint8]
    activation: float
    history: npt.NDArray[np.float64]
    sample: npt.NDArray[np.float64]
    target: str
    parameters: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        return {
            "target": self.target,
            "activation": self.activation,
            "start": float(self.history[0]),
            "sample": {
                "studies": len(self.sample),
                "mean": float(self.sample.mean()),
                "maximum": float(self.sample.max()),
                "best_study": int(self.sample.argmax()),
            },
            "parameters": self.parameters,
        }


@torch.no_grad()
def measure_sample(scorer: nn.Module, batches: Iterable[Tensor], preprocessing: Preprocessing) -> Sample:
    """Scores and colours of a data sample, in one pass.

    Args:
        scorer: From pixel values to (B,): a `UnitScorer`, or `targets.Scorer` for a class.
        batches: Pixel values (B, channels, H, W) each; `pixel_batches` makes them from files.
        preprocessing: How they were normalised.

    Raises:
        ConfigurationError: No batch.
    """
    scores: list[Tensor] = []
    count, channels = 0, preprocessing.channels
    first, second = torch.zeros(channels).double(), torch.zeros(channels, channels).double()
    with evaluation_mode(scorer):
        for pixel_values in batches:
            scores.append(scorer(pixel_values).cpu().double())
            pixels = pixel_values.transpose(0, 1).flatten(1).cpu().double()  # (channels, N)
            first += pixels.sum(dim=1)
            second += pixels @ pixels.T
            count += pixels.shape[1]
    if not scores:
        raise ConfigurationError("no image to measure activations and colours on: give at least one batch")
    mean = first / count
    values, vectors = torch.linalg.eigh(second / count - torch.outer(mean, mean))
    std = torch.tensor(preprocessing.std).double()
    root = std[:, None] * vectors * values.clamp_min(0).sqrt()  # of the covariance in 0..1, not normalised
    return Sample(
        torch.cat(scores).numpy(),
        (mean * std + torch.tensor(preprocessing.mean)).numpy(),
        root.numpy(),
    )


def maximise(
    scorer: nn.Module,
    sample: Sample,
    preprocessing: Preprocessing,
    *,
    target: str,
    steps: int = 256,
    learning_rate: float = 0.05,
    jitter: int = 8,
    blur: float = 0.5,
    blur_every: int = 4,
    seed: int = 0,
) -> Maximisation:
    """The image that a scorer scores highest, found by Adam from a nearly even image of the mean colour.

    Args:
        scorer: From pixel values to (B,), as for `measure_sample`; its parameters get no gradient.
        sample: Of the same scorer.
        preprocessing: Size and normalisation of the model's input.
        target: What is maximised, in words; for the record.
        steps: Steps of Adam.
        learning_rate: Adam's.
        jitter: Most pixels by which a step shifts the image, each way; round the edge, as the
            spectrum is periodic.
        blur: Standard deviation in pixels of the Gaussian by which the image is blurred; 0 for none.
        blur_every: Steps between two blurs.
        seed: Of start and jitter; the same seed gives the same image.

    Raises:
        ConfigurationError: A number out of range.
    """
    if steps < 1 or blur_every < 1 or jitter < 0 or blur < 0 or learning_rate <= 0:
        raise ConfigurationError(
            f"steps {steps} and blur_every {blur_every} must be at least 1, learning_rate {learning_rate} "
            f"above 0, jitter {jitter} and blur {blur} at least 0"
        )
    generator = torch.Generator().manual_seed(seed)
    device = next(scorer.parameters()).device
    painter = _Painter(sample, preprocessing, device)
    spectrum = painter.start(generator).requires_grad_()
    optimiser = torch.optim.Adam([spectrum], lr=learning_rate)
    history: list[Tensor] = []

    def ascent(shift: list[int]) -> tuple[Tensor, Tensor]:
        """Score of the image shifted, and its gradient with the sign that Adam, a descent, wants."""
        score = scorer(painter.normalised(painter.image(spectrum)).roll(shift, dims=(2, 3)))
        return score, torch.autograd.grad(-score.sum(), spectrum)[0]

    with evaluation_mode(scorer), torch.enable_grad():
        for step in range(steps):
            shift = torch.randint(-jitter, jitter + 1, (2,), generator=generator).tolist()
            score, spectrum.grad = ascent(shift)
            if not spectrum.grad.any():  # the unit is off everywhere
                with _leaking_relus(scorer):
                    score, spectrum.grad = ascent(shift)
            optimiser.step()
            history.append(score.detach().squeeze(0))
            if blur and (step + 1) % blur_every == 0:
                with torch.no_grad():
                    spectrum *= painter.gaussian(blur)
    with torch.no_grad(), evaluation_mode(scorer):
        image = (painter.image(spectrum) * 255).round().to(torch.uint8)  # (1, channels, rows, columns)
        activation = float(scorer(preprocessing.normalise(image)))
    return Maximisation(
        image=image[0].permute(1, 2, 0).cpu().numpy(),
        activation=activation,
        history=torch.stack(history).cpu().double().numpy(),
        sample=sample.scores,
        target=target,
        parameters={
            "steps": steps,
            "learning_rate": learning_rate,
            "jitter": jitter,
            "blur": blur,
            "blur_every": blur_every,
            "seed": seed,
        },
    )


@contextmanager
def _leaking_relus(model: nn.Module) -> Iterator[None]:
    """Every ReLU hands on a tenth of the gradient where it is off too; no value changes (Lucid, [1])."""

    def leak(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        below = _LEAK * inputs[0].clamp_max(0)
        return output + below - below.detach()

    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    in_place = [relu.inplace for relu in relus]
    handles = [relu.register_forward_hook(leak) for relu in relus]
    try:
        for relu in relus:
            relu.inplace = False  # or its input would be gone
        yield
    finally:
        for relu, handle, inplace in zip(relus, handles, in_place, strict=True):
            handle.remove()
            relu.inplace = inplace


class _Painter:
    """From a spectrum over decorrelated colours to an image in 0..1, and on to the model's input."""

    def __init__(self, sample: Sample, preprocessing: Preprocessing, device: torch.device) -> None:
        self.shape = preprocessing.shape
        rows, columns = self.shape
        down = torch.fft.fftfreq(rows)[:, None]
        across = torch.fft.rfftfreq(columns)[None, :]
        self.frequency = torch.hypot(down, across).to(device)[..., None]  # cycles a pixel, (rows, half, 1)
        # 1/f, as natural images have it: every frequency of the spectrum then moves the image alike
        self.scale = 1.0 / self.frequency.clamp_min(1.0 / max(self.shape))
        root = torch.tensor(sample.colour_root, dtype=torch.float32)
        self.root = (root / root.norm(dim=0).max().clamp_min(_EDGE)).to(device)
        mean = torch.tensor(sample.colour_mean, dtype=torch.float32).clamp(_EDGE, 1 - _EDGE)
        self.offset = mean.logit().view(1, -1, 1, 1).to(device)
        self.mean = torch.tensor(preprocessing.mean, device=device).view(1, -1, 1, 1)
        self.std = torch.tensor(preprocessing.std, device=device).view(1, -1, 1, 1)

    def start(self, generator: torch.Generator) -> Tensor:
        """A random spectrum (1, channels, rows, columns // 2 + 1, 2), next to nothing."""
        shape = (1, len(self.root), *self.frequency.shape[:2], 2)
        return (_AMPLITUDE * torch.randn(shape, generator=generator)).to(self.frequency.device)

    def image(self, spectrum: Tensor) -> Tensor:
        """(1, channels, rows, columns) in 0..1."""
        complex_spectrum = torch.view_as_complex(spectrum * self.scale)
        decorrelated = torch.fft.irfft2(complex_spectrum, s=self.shape, norm="ortho") / _DAMPING
        return (torch.einsum("cd,bdhw->bchw", self.root, decorrelated) + self.offset).sigmoid()

    def normalised(self, image: Tensor) -> Tensor:
        """As `Preprocessing.normalise` does it, for an image in 0..1."""
        return (image - self.mean) / self.std

    def gaussian(self, sigma: float) -> Tensor:
        """What a Gaussian blur of `sigma` pixels multiplies each frequency by."""
        return torch.exp(-2.0 * (torch.pi * sigma * self.frequency) ** 2)
