"""`Predictor`: from pictures, as people have them, to findings."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mdnet.data.images import as_image
from mdnet.data.study import Aspect
from mdnet.errors import WeightsError
from mdnet.inference.decoding import Decoded, decode_greedily
from mdnet.inference.finding import AspectEvidence, AspectFinding, Finding, ReportFinding, SectionFinding
from mdnet.models.mdnet import MDNet
from mdnet.models.outputs import MDNetOutput

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageLike = str | Path | Image | npt.NDArray[np.uint8]

__all__ = ["Predictor"]

_log = logging.getLogger(__name__)


class Predictor:
    """Findings from images.

    >>> predictor = Predictor.from_pretrained("mdnet_tiny/phantom")
    >>> finding = predictor("tile.png")
    >>> finding.diagnosis.label

    Args:
        model: A model with its vocabulary and preprocessing; it is put into evaluation mode.
        name: What findings call it.
        device: Where to compute; the best there is unless named.
        batch_size: Images computed at once.
    """

    def __init__(
        self, model: MDNet, *, name: str = "", device: str | torch.device | None = None, batch_size: int = 32
    ) -> None:
        if model.preprocessing is None:
            raise WeightsError(
                f"{name or 'model'}: no preprocessor_config.json; save it with its preprocessing"
            )
        if model.report is not None and model.tokenizer is None:
            raise WeightsError(f"{name or 'model'}: no tokenizer.json; save it with its tokenizer")
        self.device = torch.device(device) if device is not None else best_device()
        model.to(self.device)  # type: ignore[arg-type]  # transformers wraps it without its types
        self.model = model.eval()
        self.preprocessing = model.preprocessing
        self.name = name
        self.batch_size = batch_size

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        device: str | torch.device | None = None,
        batch_size: int = 32,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> Predictor:
        """A predictor from a name of `mdnet.list_weights()`, a run or model folder, or a hub id.

        Raises:
            WeightsError: Not found, damaged, or incomplete.
        """
        model = MDNet.from_pretrained(name, revision=revision, local_files_only=local_files_only)
        return cls(model, name=str(name), device=device, batch_size=batch_size)

    @overload
    def __call__(self, images: ImageLike) -> Finding: ...
    @overload
    def __call__(self, images: list[ImageLike] | tuple[ImageLike, ...]) -> list[Finding]: ...
    def __call__(
        self, images: ImageLike | list[ImageLike] | tuple[ImageLike, ...]
    ) -> Finding | list[Finding]:
        """One finding for an image, a list of findings for a list.

        Args:
            images: A path (PNG, JPEG, TIFF, BMP, WebP, DICOM), a PIL image, or a uint8 array
                (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) in [0, 255]; or a list of such.

        Raises:
            ImageError: An image that cannot be decoded.
        """
        if isinstance(images, (list, tuple)):
            return list(self.stream(images))
        return next(self.stream([images]))

    def stream(self, images: Iterable[ImageLike]) -> Iterator[Finding]:
        """Findings one by one, computed in batches; memory does not grow with their number."""
        remaining = enumerate(images)
        while batch := list(islice(remaining, self.batch_size)):
            yield from self._findings(batch)

    @torch.inference_mode()
    def _findings(self, batch: Sequence[tuple[int, ImageLike]]) -> Iterator[Finding]:
        pictures = [as_image(image) for _, image in batch]
        sources = [
            str(image) if isinstance(image, (str, Path)) else f"image {number}" for number, image in batch
        ]
        for source, picture in zip(sources, pictures, strict=True):
            if warning := self.preprocessing.warning_for(picture):
                _log.warning("%s: %s", source, warning)
        arrays = np.stack([self.preprocessing.to_array(picture) for picture in pictures])
        pixel_values = self.preprocessing.normalise(torch.from_numpy(arrays).to(self.device))

        output = self.model(pixel_values)
        assert output.features is not None
        evidence = {
            name: [block.cpu().numpy() for block in blocks]
            for name, blocks in self.model.evidence(output.features).items()
        }
        logits = {name: scores.cpu().double() for name, scores in (output.logits or {}).items()}
        guides = self.model.guides(output.logits)
        decoded = None
        if self.model.report is not None:
            decoded = decode_greedily(
                self.model, output.features, self.model.prepare(output.features, guides)
            )
            decoded = Decoded(*(tensor.cpu() for tensor in decoded))
        space = self.model.config.space
        for row, (source, picture) in enumerate(zip(sources, pictures, strict=True)):
            aspects = {a.name: aspect_finding(a, logits[a.name][row]) for a in space.aspects}
            yield Finding(
                source=source,
                image=picture,
                label_space=space,
                aspects=aspects,
                report=ReportFinding(self._sections(row, decoded, output, aspects)),
                aspect_evidence={
                    name: AspectEvidence(
                        dict(
                            zip(self.model.config.block_names, (block[row] for block in blocks), strict=True)
                        ),
                        self._bias(name),
                    )
                    for name, blocks in evidence.items()
                },
                model=self.name,
            )

    def _bias(self, aspect: str) -> npt.NDArray[np.float32]:
        assert self.model.heads is not None
        return self.model.heads[aspect].bias.detach().float().cpu().numpy()

    def _sections(
        self, row: int, decoded: Decoded | None, output: MDNetOutput, aspects: dict[str, AspectFinding]
    ) -> dict[str, SectionFinding]:
        """The written sections of one study of a batch."""
        if decoded is None:
            return {}
        tokenizer, config = self.model.tokenizer, self.model.config
        assert tokenizer is not None
        assert output.features is not None
        grid = (output.features.rows, output.features.columns)
        sections = {}
        for column, name in enumerate(config.sections):
            ids = decoded.tokens[row, column]
            count = int(((ids != config.pad_id) & (ids != config.end_id)).sum())
            attention = decoded.attention[row, column, :count].double().numpy()  # (words, P)
            attention = attention / attention.sum(axis=1, keepdims=True)  # exactly 1 in float64
            aspect = config.section_aspects[name]
            sections[name] = SectionFinding(
                name=name,
                text=tokenizer.decode(ids[:count].tolist()),
                words=tokenizer.words(ids[:count].tolist()),
                attention=attention.reshape(count, *grid),
                sharpness=sharpness(attention),
                log_probabilities=decoded.log_probabilities[row, column, :count].double().numpy(),
                aspect=aspect,
                guided_by=aspects[aspect].label if aspect is not None else None,
            )
        return sections


def aspect_finding(aspect: Aspect, logits: Tensor) -> AspectFinding:
    """The finding of one aspect from its logits (classes,)."""
    if aspect.multi_label:
        probabilities = logits.sigmoid()
        labels = tuple(name for name, p in zip(aspect.classes, probabilities, strict=True) if p >= 0.5)
    else:
        probabilities = logits.softmax(dim=0)
        labels = (aspect.classes[int(probabilities.argmax())],)
    return AspectFinding(
        aspect,
        labels,
        dict(zip(aspect.classes, probabilities.tolist(), strict=True)),
        dict(zip(aspect.classes, logits.tolist(), strict=True)),
    )


def sharpness(attention: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """1 - entropy / log(positions) of each row of (words, positions): 0 is flat, 1 a single position."""
    positions = attention.shape[1]
    if positions == 1:
        return np.ones(len(attention))
    entropy = -(attention * np.log(np.where(attention > 0, attention, 1.0))).sum(axis=1)
    return 1.0 - entropy / np.log(positions)


def best_device() -> torch.device:
    """CUDA where there is one, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
