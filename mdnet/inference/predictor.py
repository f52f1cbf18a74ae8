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

from mdnet.data.images import as_decoded, as_image
from mdnet.data.study import Aspect, Study
from mdnet.data.views import as_strips, picture_strip
from mdnet.errors import ConfigurationError, WeightsError
from mdnet.inference.decoding_config import DecodingConfig
from mdnet.inference.finding import AspectEvidence, AspectFinding, Finding, ReportFinding, Unusualness
from mdnet.inference.sections import SectionWriter, of_first_views
from mdnet.models.calibration import Calibration, FeatureReference
from mdnet.models.image_module import ImageFeatures
from mdnet.models.mdnet import MDNet

if TYPE_CHECKING:
    from PIL.Image import Image

    from mdnet.data.statements import StatementReader

    ImageLike = str | Path | Image | npt.NDArray[np.uint8]
    StudyLike = ImageLike | Study | Sequence[ImageLike]

__all__ = ["Predictor", "images_of", "source_of"]

_log = logging.getLogger(__name__)


class Predictor:
    """Findings from images.

    >>> predictor = Predictor.from_pretrained("mdnet_tiny/phantom")
    >>> finding = predictor("tile.png")
    >>> finding.diagnosis.label
    >>> findings = predictor([["frontal.png", "lateral.png"], ["frontal2.png"]])  # a model of two views

    Args:
        model: A model with its vocabulary and preprocessing; it is put into evaluation mode.
        name: What findings call it.
        device: Where to compute; the best there is unless named.
        batch_size: Studies computed at once.
        decoding: How reports are written, where a call does not say; greedily unless given.
        statements: Reads what a section states, for constrained decoding; synthetic reports need none.

    Raises:
        WeightsError: The model lacks its preprocessing or its tokenizer.
        ConfigurationError: There is no such device, or no study in a batch.
    """

    def __init__(
        self,
        model: MDNet,
        *,
        name: str = "",
        device: str | torch.device | None = None,
        batch_size: int = 32,
        decoding: DecodingConfig | None = None,
        statements: StatementReader | None = None,
    ) -> None:
        if model.preprocessing is None:
            raise WeightsError(
                f"{name or 'model'}: no preprocessor_config.json; save it with its preprocessing"
            )
        if model.report is not None and model.tokenizer is None:
            raise WeightsError(f"{name or 'model'}: no tokenizer.json; save it with its tokenizer")
        if batch_size < 1:
            raise ConfigurationError(f"batch size {batch_size}: give 1 or more")
        self.device = checked_device(device) if device is not None else best_device()
        model.to(self.device)  # type: ignore[arg-type]  # transformers wraps it without its types
        self.model = model.eval()
        self.preprocessing = model.preprocessing
        self.name = name
        self.batch_size = batch_size
        self.decoding = decoding or DecodingConfig()
        self.statements = statements

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        device: str | torch.device | None = None,
        batch_size: int = 32,
        decoding: DecodingConfig | None = None,
        statements: StatementReader | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> Predictor:
        """A predictor from a name of `mdnet.list_weights()`, a run or model folder, or a hub id.

        The other arguments are those of `Predictor` and of `MDNet.from_pretrained`.

        Raises:
            WeightsError: Not found, damaged, or incomplete.
        """
        model = MDNet.from_pretrained(name, revision=revision, local_files_only=local_files_only)
        return cls(
            model,
            name=str(name),
            device=device,
            batch_size=batch_size,
            decoding=decoding,
            statements=statements,
        )

    @overload
    def __call__(self, images: ImageLike | Study, *, decoding: DecodingConfig | None = None) -> Finding: ...
    @overload
    def __call__(
        self, images: list[StudyLike] | tuple[StudyLike, ...], *, decoding: DecodingConfig | None = None
    ) -> list[Finding]: ...
    def __call__(
        self,
        images: ImageLike | Study | list[StudyLike] | tuple[StudyLike, ...],
        *,
        decoding: DecodingConfig | None = None,
    ) -> Finding | list[Finding]:
        """One finding for a study, a list of findings for a list.

        Args:
            images: A path (PNG, JPEG, TIFF, BMP, WebP, DICOM, NIfTI), a PIL image, or a uint8 array
                (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) in [0, 255]; or a `Study`, of whose images
                the first `model.views` are used; or a list of such, in which a list in its turn is one
                study of several images.
            decoding: How the reports are written; the predictor's own way unless given.

        Raises:
            ImageError: An image that cannot be decoded.
            ConfigurationError: A list of no image, or of more than the model has views; or decoding is
                constrained, and nothing says what a section states.
        """
        if isinstance(images, (list, tuple)):
            return list(self.stream(images, decoding=decoding))
        return next(self.stream([images], decoding=decoding))

    def stream(
        self, studies: Iterable[StudyLike], *, decoding: DecodingConfig | None = None
    ) -> Iterator[Finding]:
        """Findings one by one, computed in batches; memory does not grow with their number."""
        return (finding for finding, _ in self.stream_with_features(studies, decoding=decoding))

    def stream_with_features(
        self, studies: Iterable[StudyLike], *, decoding: DecodingConfig | None = None
    ) -> Iterator[tuple[Finding, ImageFeatures]]:
        """As `stream`, each finding with the C(I) it was made of: a batch of one, without blocks."""
        writer = SectionWriter(self.model, decoding or self.decoding, self.statements)
        remaining = enumerate(studies)
        while batch := list(islice(remaining, self.batch_size)):
            yield from self._findings(batch, writer)

    @torch.inference_mode()
    def pooled_features(self, studies: Iterable[StudyLike]) -> Iterator[npt.NDArray[np.float32]]:
        """C(I) of every study, pooled over positions: (D,); no report is written."""
        remaining = iter(studies)
        while batch := list(islice(remaining, self.batch_size)):
            features = self.model.encode(*self.strips([self.decoded(study) for study in batch]))
            yield from features.pooled().float().cpu().numpy()

    def decoded(self, study: StudyLike) -> list[npt.NDArray[np.uint8]]:
        """The images of a study that the model looks at, (H, W, 3) each."""
        return [as_image(image) for image in images_of(study, self.model.views)]

    def pixel_values(
        self, studies: Sequence[npt.NDArray[np.uint8] | Sequence[npt.NDArray[np.uint8]]]
    ) -> Tensor:
        """Studies that lack no view as the model takes them: (B, channels, H, V W), on its device.

        Args:
            studies: Decoded images (H, W, 3), one a study or all its views.

        Raises:
            ConfigurationError: A study has fewer images than the model has views.
        """
        strips, present = self.strips([[s] if isinstance(s, np.ndarray) else s for s in studies])
        if present is not None:
            raise ConfigurationError(
                f"the model looks at {self.model.views} images of a study, and a study has fewer: "
                "give all of them"
            )
        return strips

    def strips(
        self, studies: Sequence[Sequence[npt.NDArray[np.uint8]]], *, views: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Studies of decoded images (H, W, 3) as `MDNet.encode` takes them: pixel values, and `present`.

        Args:
            studies: 1 to `views` images each.
            views: The model's own unless given.
        """
        arrays = [[self.preprocessing.to_array(picture) for picture in pictures] for pictures in studies]
        strips, present = as_strips(arrays, views or self.model.views)
        return (
            self.preprocessing.normalise(torch.from_numpy(strips).to(self.device)),
            None if present is None else torch.from_numpy(present).to(self.device),
        )

    @torch.inference_mode()
    def _findings(
        self, batch: Sequence[tuple[int, StudyLike]], writer: SectionWriter
    ) -> Iterator[tuple[Finding, ImageFeatures]]:
        views = self.model.views
        decoded_images = [[as_decoded(image) for image in images_of(study, views)] for _, study in batch]
        pictures = [[image.pixels for image in images] for images in decoded_images]
        sources = [source_of(images_of(study, views), number) for number, study in batch]
        for (number, study), images in zip(batch, decoded_images, strict=True):
            for image, found in zip(images_of(study, views), images, strict=True):
                if warning := self.preprocessing.warning_for(found.pixels, kind=found.kind):
                    _log.warning("%s: %s", source_of(image, number), warning)
        pixel_values, present = self.strips(pictures)
        output = self.model(pixel_values, present=present)
        assert output.features is not None
        evidence = {
            name: [block.cpu().numpy() for block in blocks]
            for name, blocks in self.model.evidence(output.features).items()
        }
        logits = {name: scores.cpu().double() for name, scores in (output.logits or {}).items()}
        calibration = self.model.calibration or Calibration({})
        unusual = self._unusual(calibration.reference, output.features, sources)
        space = self.model.config.space
        aspects = [
            {
                a.name: aspect_finding(
                    a, logits[a.name][row], temperature=calibration.temperatures.get(a.name, 1.0)
                )
                for a in space.aspects
            }
            for row in range(len(batch))
        ]
        sections = writer.write(output, aspects, views=[len(own) for own in pictures])
        for row, (source, own) in enumerate(zip(sources, pictures, strict=True)):
            finding = Finding(
                source=source,
                image=picture_strip(own),
                views=tuple(own),
                label_space=space,
                aspects=aspects[row],
                report=ReportFinding(sections[row]),
                aspect_evidence={
                    name: AspectEvidence(
                        {
                            block: of_first_views(maps[row], len(own), views)
                            for block, maps in zip(self.model.config.block_names, blocks, strict=True)
                        },
                        self._bias(name),
                    )
                    for name, blocks in evidence.items()
                },
                model=self.name,
                unusualness=unusual[row],
            )
            yield finding, output.features.of_study(row)

    def _unusual(
        self, reference: FeatureReference | None, features: ImageFeatures, sources: Sequence[str]
    ) -> list[Unusualness | None]:
        """How unusual every study of a batch is, from its C(I); says which ones are too much so."""
        if reference is None:
            return [None] * len(sources)
        distances = reference.distance(features.pooled().cpu().double().numpy())
        found: list[Unusualness | None] = []
        for source, distance, score in zip(sources, distances, reference.score(distances), strict=True):
            unusual = Unusualness(float(score), float(distance), bool(score >= reference.threshold))
            if unusual.beyond_threshold:
                _log.warning(
                    "%s: out of distribution, %s; look at the image before you trust its finding",
                    source,
                    unusual,
                )
            found.append(unusual)
        return found

    def _bias(self, aspect: str) -> npt.NDArray[np.float32]:
        assert self.model.heads is not None
        return self.model.heads[aspect].bias.detach().float().cpu().numpy()


def images_of(study: StudyLike, views: int) -> tuple[ImageLike, ...]:
    """The images of a study that a model of so many views looks at.

    Raises:
        ConfigurationError: A list of no image, or of more than `views`; of a `Study` the first are taken.
    """
    if isinstance(study, Study):
        return study.images[:views]
    if isinstance(study, str) or not isinstance(study, Sequence):
        return (study,)
    if not 1 <= len(study) <= views:
        raise ConfigurationError(
            f"a study of {len(study)} images: the model looks at {views} a study; give 1 to {views}"
        )
    return tuple(study)


def source_of(images: ImageLike | Sequence[ImageLike], number: int) -> str:
    """What a finding calls a study: its image's path (all of them, joined by " + "), else its number."""
    several = (images,) if isinstance(images, str) or not isinstance(images, Sequence) else images
    paths = [str(image) for image in several if isinstance(image, (str, Path))]
    return " + ".join(paths) or f"image {number}"


def aspect_finding(aspect: Aspect, logits: Tensor, *, temperature: float = 1.0) -> AspectFinding:
    """The finding of one aspect from its logits (classes,); the temperature changes no label."""
    if aspect.multi_label:
        probabilities = (logits / temperature).sigmoid()
        labels = tuple(name for name, z in zip(aspect.classes, logits, strict=True) if z >= 0)
    else:
        probabilities = (logits / temperature).softmax(dim=0)
        labels = (aspect.classes[int(logits.argmax())],)
    return AspectFinding(
        aspect,
        labels,
        dict(zip(aspect.classes, probabilities.tolist(), strict=True)),
        dict(zip(aspect.classes, logits.tolist(), strict=True)),
    )


def checked_device(device: str | torch.device) -> torch.device:
    """The device of that name.

    Raises:
        ConfigurationError: This machine has none, or it takes no numbers.
    """
    try:
        torch.zeros(1, device=device).cpu()
        return torch.device(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigurationError(f"device {device}: not on this machine; give cpu, cuda or mps") from error


def best_device() -> torch.device:
    """CUDA where there is one, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
