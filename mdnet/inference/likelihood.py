"""log p(report | image): every text on every image, teacher-forced.

Formula 4 of docs/method.md. The sections of a report are written independently of each other given
the image, so each distinct section text is scored once on each image and a report is their sum. The
texts of one image run through the LSTM together, as its sections do when it writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mdnet.errors import ConfigurationError
from mdnet.models.image_module import ImageFeatures
from mdnet.models.mdnet import MDNet

__all__ = ["EncodedImage", "report_log_likelihoods"]

_TEXTS_AT_ONCE = 256


class EncodedImage(NamedTuple):
    """What the language module needs of a study's images.

    Attributes:
        features: C(I), as `Predictor.stream_with_features` gives it: a batch of one.
        guides: The classes that guide attention, as `MDNet.guides` gives them for a batch of one.
    """

    features: ImageFeatures
    guides: Mapping[str, Tensor]


@torch.inference_mode()
def report_log_likelihoods(
    model: MDNet, images: Sequence[EncodedImage], reports: Sequence[Mapping[str, str]]
) -> npt.NDArray[np.float64]:
    """Natural logarithms of p(report | image).

    Args:
        model: In evaluation mode, with a language module.
        images: Encoded once, however many texts there are.
        reports: Section name to text, one a report. A section that is missing or empty costs nothing,
            so only reports with the same sections can be compared on one image.

    Returns:
        (reports, images).

    Raises:
        ConfigurationError: The model writes no report, or a section is none of its own.
    """
    report, tokenizer, config = model.report, model.tokenizer, model.config
    if report is None or tokenizer is None:
        raise ConfigurationError("the model writes no report, so no text has a likelihood")
    if unknown := {name for texts in reports for name in texts} - set(config.sections):
        raise ConfigurationError(
            f"no section {', '.join(sorted(unknown))}; the model's sections: {', '.join(config.sections)}"
        )
    row_of: dict[tuple[int, str], int] = {}
    members = [
        [
            row_of.setdefault((config.sections.index(name), text), len(row_of))
            for name, text in texts.items()
            if text
        ]
        for texts in reports
    ]
    ids = [[*tokenizer.encode(text), config.end_id] for _, text in row_of]
    sections = torch.tensor([section for section, _ in row_of])
    by_length = sorted(range(len(ids)), key=lambda row: len(ids[row]))  # little padding in a chunk
    result = np.empty((len(row_of), len(images)))
    for start in range(0, len(ids), _TEXTS_AT_ONCE):
        rows = by_length[start : start + _TEXTS_AT_ONCE]
        for column, image in enumerate(images):
            result[rows, column] = _section_log_likelihoods(
                model, image, [ids[row] for row in rows], sections[rows]
            )
    return np.stack([result[rows].sum(axis=0) for rows in members])


def _section_log_likelihoods(
    model: MDNet, image: EncodedImage, ids: Sequence[Sequence[int]], sections: Tensor
) -> npt.NDArray[np.float64]:
    """Log p of section texts (N,) on one image.

    Args:
        model: As in `report_log_likelihoods`.
        image: Likewise.
        ids: Words of every text, the end token last.
        sections: Place of each text's section, (N,).
    """
    config, report = model.config, model.report
    assert report is not None
    grid = image.features.grid  # (1, P, D)
    prepared = model.prepare(image.features, image.guides)
    device = grid.device
    targets = torch.full((len(ids), max(map(len, ids))), config.pad_id)  # (N, T)
    for row, words in enumerate(ids):
        targets[row, : len(words)] = torch.tensor(words)
    begin = torch.tensor(config.begin_ids)[sections][:, None]
    inputs = torch.cat([begin, targets[:, :-1]], dim=1).to(device)
    of_section = prepared.of_sections(sections[None].to(device))  # every text a section, (1, N)
    logits = report(inputs[None], grid, of_section).logits[0]  # (N, T, V)
    losses = F.cross_entropy(
        logits.flatten(0, 1), targets.to(device).flatten(), ignore_index=config.pad_id, reduction="none"
    )
    return -losses.view(targets.shape).double().sum(dim=1).cpu().numpy()
