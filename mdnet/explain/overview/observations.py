"""One pass over the images of a data set: of every study one small row, from which the overview is made.

No evidence map is kept, only what each block adds to the contrasts that are asked for later, so
memory grows by some tens of kilobytes a study.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from tqdm import tqdm

from mdnet.data.study import Study
from mdnet.evaluation.record import StudyRecord
from mdnet.inference.finding import Finding, FloatArray
from mdnet.inference.predictor import Predictor
from mdnet.models.image_module import ImageFeatures, stack_studies
from mdnet.models.mdnet import MDNet

__all__ = ["BlockContrast", "Observation", "block_contrasts", "observe", "section_states"]

PIXEL_SIDE = 16  # of the downsized image that stands for its pixels
_PADDING = (128, 128, 128)  # about thumbnails of images that are not square


@dataclass(frozen=True)
class BlockContrast:
    """What each of the M blocks adds to one contrast of one study (formula 3).

    Attributes:
        aspect: Its name.
        label: The class that is spoken for.
        against: The class that is taken off; None for a class of a multi-label aspect.
        signed: (M,) sums of the blocks' maps; with the bias they give the difference of the logits.
        absolute: (M,) sums of the maps' magnitudes.
        bias: What no position adds.
    """

    aspect: str
    label: str
    against: str | None
    signed: FloatArray
    absolute: FloatArray
    bias: float


@dataclass(frozen=True)
class Observation:
    """What the overview keeps of one study.

    Attributes:
        record: Truth and answers; its `features` are C(I), pooled over positions, (D,).
        pixels: (PIXEL_SIDE, PIXEL_SIDE, 3) uint8, the whole image downsized.
        states: (S, H), the report LSTM's mean hidden state of each section; None without a report.
        thumbnail: (side, side, 3) uint8, the whole image in its own proportions.
        contrasts: One for each class that is true or predicted.
    """

    record: StudyRecord
    pixels: npt.NDArray[np.uint8]
    states: npt.NDArray[np.float32] | None
    thumbnail: npt.NDArray[np.uint8]
    contrasts: tuple[BlockContrast, ...]


def observe(
    predictor: Predictor, studies: Sequence[Study], *, thumbnail_side: int = 48, progress: bool = True
) -> list[Observation]:
    """Looks at the images of every study, as many as the model has views, once.

    Args:
        predictor: The model.
        studies: What to look at.
        thumbnail_side: Pixels.
        progress: Show a bar where stderr is a terminal.
    """
    observations: list[Observation] = []
    found = predictor.stream_with_features(studies)
    with tqdm(total=len(studies), disable=None if progress else True, unit="study") as bar:
        while batch := list(islice(found, predictor.batch_size)):
            findings = [finding for finding, _ in batch]
            stacked = stack_studies([features for _, features in batch])
            states = (
                None if predictor.model.report is None else section_states(predictor.model, stacked, findings)
            )
            for row, (finding, features) in enumerate(batch):
                study = studies[len(observations)]
                observations.append(
                    Observation(
                        record=_record(finding, study, features),
                        pixels=_squashed(finding.image),
                        states=None if states is None else states[row],
                        thumbnail=_thumbnail(finding.image, thumbnail_side),
                        contrasts=tuple(block_contrasts(finding, study)),
                    )
                )
            bar.update(len(batch))
    return observations


@torch.inference_mode()
def section_states(
    model: MDNet, features: ImageFeatures, findings: Sequence[Finding]
) -> npt.NDArray[np.float32]:
    """Mean of h_t over the words of each section that the model wrote, (B, S, H); 0 for an empty one.

    It is what the language module held while it wrote: unlike the text it tells apart studies that are
    described by the same words, and unlike C(I) it is what the words are chosen from.

    Args:
        model: In evaluation mode, with a language module.
        features: C(I); its grid is looked at.
        findings: What the model said of the same B studies.
    """
    report, tokenizer, config = model.report, model.tokenizer, model.config
    grids = features.grid  # (B, P, D)
    assert report is not None
    assert tokenizer is not None
    sections = [[f.report.sections[name].words for name in config.sections] for f in findings]
    counts = torch.tensor([[len(words) for words in row] for row in sections], device=grids.device)
    length = int(counts.max())
    inputs = torch.full((*counts.shape, length + 1), config.pad_id, device=grids.device)  # x_0 .. x_T
    inputs[:, :, 0] = torch.tensor(config.begin_ids, device=grids.device)
    for i, row in enumerate(sections):
        for j, words in enumerate(row):
            ids = [tokenizer.id_of(word) for word in words]
            inputs[i, j, 1 : len(ids) + 1] = torch.tensor(ids, dtype=torch.long)
    logits = {
        name: grids.new_tensor([list(finding.aspects[name].logits.values()) for finding in findings])
        for name in config.space.names
    }
    prepared = model.prepare(features, model.guides(logits))
    state = report.initial_state(prepared)
    total = torch.zeros_like(state.hidden)  # (B, S, H)
    for t in range(length):
        state, _ = report.step(report.embedding(inputs[:, :, t]), state, grids, prepared)
        total += state.hidden * (t < counts)[..., None]
    mean: npt.NDArray[np.float32] = (total / counts.clamp_min(1)[..., None]).float().cpu().numpy()
    return mean


def block_contrasts(finding: Finding, study: Study) -> list[BlockContrast]:
    """The contrast of every class that is true or predicted, as a finding's page draws it.

    A class stands against its aspect's reference, the reference against the likeliest other class, a
    class of a multi-label aspect against its absence.
    """
    contrasts = []
    for name, evidence in finding.aspect_evidence.items():
        answer = finding.aspects[name]
        truth = study.labels.get(name) or ()
        labels = {*answer.labels, *([truth] if isinstance(truth, str) else truth)}
        maps = {block: each.astype(np.float64) for block, each in evidence.blocks.items()}
        for label in (each for each in answer.aspect.classes if each in labels):
            against = answer.opposite(label)
            weights = np.zeros(len(answer.aspect.classes))
            weights[answer.aspect.index(label)] += 1.0
            if against is not None:
                weights[answer.aspect.index(against)] -= 1.0
            drawn = [np.tensordot(weights, each, axes=1) for each in maps.values()]
            contrasts.append(
                BlockContrast(
                    aspect=name,
                    label=label,
                    against=against,
                    signed=np.array([each.sum() for each in drawn]),
                    absolute=np.array([np.abs(each).sum() for each in drawn]),
                    bias=float(weights @ evidence.bias),
                )
            )
    return contrasts


def _record(finding: Finding, study: Study, features: ImageFeatures) -> StudyRecord:
    return StudyRecord(
        study=study,
        labels={name: aspect.labels for name, aspect in finding.aspects.items()},
        probabilities={name: tuple(a.probabilities.values()) for name, a in finding.aspects.items()},
        text=finding.report.text if finding.report.sections else None,
        features=features.pooled()[0].float().cpu().numpy(),
    )


def _squashed(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((PIXEL_SIDE, PIXEL_SIDE), Image.Resampling.BOX))


def _thumbnail(image: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    return np.asarray(ImageOps.pad(Image.fromarray(image), (side, side), color=_PADDING))
