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
from mdnet.data.views import as_strips, picture_strip
from mdnet.errors import ConfigurationError, WeightsError
from mdnet.inference.decoding_config import DecodingConfig
from mdnet.inference.finding import AspectEvidence, AspectFinding, Finding, ReportFinding, Unusualness
from mdnet.inference.reading import ReadStudy, StudyReader, images_of
from mdnet.inference.sections import SectionWriter, of_first_views
from mdnet.models.calibration import Calibration, FeatureReference
from mdnet.models.image_module import ImageFeatures
from mdnet.models.mdnet import MDNet

if TYPE_CHECKING:
    from mdnet.data.statements import StatementReader
    from mdnet.data.study import Study
    from mdnet.inference.reading import ImageLike, StudyLike

__all__ = ["Predictor"]

_log = logging.getLogger(__name__)
_NO_PICTURE = np.zeros((0, 0, 3), np.uint8)


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
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> Predictor:
        """A predictor from a name of `mdnet.list_weights()`, a run or model folder, or a hub id.

        The other arguments are those of `Predictor` and of `MDNet.from_pretrained`.

        Raises:
            WeightsError: Not found, damaged, or incomplete.
        """
        model = MDNet.from_pretrained(
            name, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only
        )
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
        self,
        studies: Iterable[StudyLike | ReadStudy],
        *,
        decoding: DecodingConfig | None = None,
        maps: bool = True,
    ) -> Iterator[Finding]:
        """Findings one by one, computed in batches; memory does not grow with their number.

        Args:
            studies: As `__call__` takes them, or read already by `reader()`.
            decoding: As `__call__` takes it.
            maps: Give evidence, attention and images, too. Without, a finding is made quicker and holds no
                more than `Finding.to_dict` tells.
        """
        return (finding for finding, _ in self._stream(studies, decoding, maps=maps))

    def stream_with_features(
        self, studies: Iterable[StudyLike], *, decoding: DecodingConfig | None = None
    ) -> Iterator[tuple[Finding, ImageFeatures]]:
        """As `stream`, each finding with the C(I) it was made of: a batch of one, without blocks."""
        return (
            (finding, features.of_study(row))
            for finding, (features, row) in self._stream(studies, decoding, maps=True)
        )

    def reader(self, *, keep_pictures: bool = True) -> StudyReader:
        """Reads studies for `stream`, in another process if need be; `keep_pictures` is for maps."""
        return StudyReader(self.preprocessing, self.model.views, keep_pictures)

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
        return self._strips(arrays, views or self.model.views)

    def _strips(
        self, arrays: Sequence[Sequence[npt.NDArray[np.uint8]]], views: int
    ) -> tuple[Tensor, Tensor | None]:
        """As `strips`, of images (C, rows, columns) as `Preprocessing.to_array` gives them."""
        strips, present = as_strips(arrays, views)
        return (
            self.preprocessing.normalise(torch.from_numpy(strips).to(self.device)).to(self.model.dtype),
            None if present is None else torch.from_numpy(present).to(self.device),
        )

    def _stream(
        self, studies: Iterable[StudyLike | ReadStudy], decoding: DecodingConfig | None, *, maps: bool
    ) -> Iterator[tuple[Finding, tuple[ImageFeatures, int]]]:
        """Findings, each with C(I) of its batch and its row there."""
        writer = SectionWriter(self.model, decoding or self.decoding, self.statements, maps=maps)
        remaining = enumerate(studies)
        while batch := list(islice(remaining, self.batch_size)):
            yield from self._findings(batch, writer, maps=maps)

    @torch.inference_mode()
    def _findings(
        self, batch: Sequence[tuple[int, StudyLike | ReadStudy]], writer: SectionWriter, *, maps: bool
    ) -> Iterator[tuple[Finding, tuple[ImageFeatures, int]]]:
        views, reader = self.model.views, self.reader(keep_pictures=maps)
        read = [
            study if isinstance(study, ReadStudy) else reader.read(study, number) for number, study in batch
        ]
        for study in read:
            for warning in study.warnings:
                _log.warning("%s", warning)
        pixel_values, present = self._strips([study.arrays for study in read], views)
        output = self.model(pixel_values, present=present)
        assert output.features is not None
        evidence = {
            name: [block.cpu().numpy() for block in blocks]
            for name, blocks in (self.model.evidence(output.features) if maps else {}).items()
        }
        logits = {name: scores.cpu().double() for name, scores in (output.logits or {}).items()}
        calibration = self.model.calibration or Calibration({})
        unusual = self._unusual(calibration.reference, output.features, [study.source for study in read])
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
        sections = writer.write(output, aspects, views=[len(study.arrays) for study in read])
        for row, study in enumerate(read):
            finding = Finding(
                source=study.source,
                image=picture_strip(study.pictures) if maps else _NO_PICTURE,
                views=study.pictures if maps else (),
                label_space=space,
                aspects=aspects[row],
                report=ReportFinding(sections[row]),
                aspect_evidence={
                    name: AspectEvidence(
                        {
                            block: of_first_views(own[row], len(study.arrays), views)
                            for block, own in zip(self.model.config.block_names, blocks, strict=True)
                        },
                        self._bias(name),
                    )
                    for name, blocks in evidence.items()
                },
                model=self.name,
                unusualness=unusual[row],
            )
            yield finding, (output.features, row)

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
