"""log p(report | image): every text on every image, teacher-forced.

Formula 4 of docs/method.md. The sections of a report are written independently of each other given
the image, so each distinct section text is scored once on each image and a report is their sum. The
texts of one image run through the LSTM together, as its sections do when it writes: what ranks a folder
of images by a query (`mdnet.inference.retrieval`) is the same pass over a batch of images.
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

__all__ = ["EncodedImage", "Texts", "report_log_likelihoods", "text_log_likelihoods"]

_TEXTS_AT_ONCE = 256


class EncodedImage(NamedTuple):
    """What the language module needs of a study's images.

    Attributes:
        features: C(I), as `Predictor.stream_with_features` gives it: a batch of one.
        guides: The classes that guide attention, as `MDNet.guides` gives them for a batch of one.
    """

    features: ImageFeatures
    guides: Mapping[str, Tensor]


class Texts(NamedTuple):
    """N texts as the LSTM is taught them, on the model's device.

    Attributes:
        inputs: The begin token of each text's section, then all its words but the last: (N, T).
        targets: Its words, then padding: (N, T).
        sections: Place of each text's section, (N,).
    """

    inputs: Tensor
    targets: Tensor
    sections: Tensor

    @classmethod
    def of_words(cls, model: MDNet, ids: Sequence[Sequence[int]], sections: Sequence[int]) -> Texts:
        """From the words of each text, with the end token where that belongs to what is scored."""
        config = model.config
        targets = torch.full((len(ids), max(map(len, ids))), config.pad_id)
        for row, words in enumerate(ids):
            targets[row, : len(words)] = torch.tensor(words)
        places = torch.tensor(sections)
        begin = torch.tensor(config.begin_ids)[places][:, None]
        inputs = torch.cat([begin, targets[:, :-1]], dim=1)
        return cls(*(each.to(model.device) for each in (inputs, targets, places)))


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
    sections = [section for section, _ in row_of]
    by_length = sorted(range(len(ids)), key=lambda row: len(ids[row]))  # little padding in a chunk
    result = np.empty((len(row_of), len(images)))
    for start in range(0, len(ids), _TEXTS_AT_ONCE):
        rows = by_length[start : start + _TEXTS_AT_ONCE]
        texts = Texts.of_words(model, [ids[row] for row in rows], [sections[row] for row in rows])
        for column, image in enumerate(images):
            scores = text_log_likelihoods(model, image.features, image.guides, texts)[0]
            result[rows, column] = scores.cpu().numpy()
    return np.stack([result[rows].sum(axis=0) for rows in members])


def text_log_likelihoods(
    model: MDNet, features: ImageFeatures, guides: Mapping[str, Tensor], texts: Texts
) -> Tensor:
    """Log p of every text on every image, in one pass of the LSTM: (B, N) float64.

    Args:
        model: As in `report_log_likelihoods`.
        features: C(I) of B studies.
        guides: As `MDNet.guides` gives them.
        texts: N of them.
    """
    report = model.report
    assert report is not None
    studies = len(features.grid)
    prepared = model.prepare(features, guides)
    of_section = prepared.of_sections(texts.sections.expand(studies, -1))  # every text a section, (B, N)
    inputs = texts.inputs.expand(studies, -1, -1)  # (B, N, T)
    logits = report(inputs, features.grid, of_section).logits  # (B, N, T, V)
    losses = F.cross_entropy(
        logits.flatten(0, 2),
        texts.targets.expand(studies, -1, -1).flatten(),
        ignore_index=model.config.pad_id,
        reduction="none",
    )
    return -losses.view(inputs.shape).double().sum(dim=2)
