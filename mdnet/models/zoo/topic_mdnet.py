"""Topic MDNet: one LSTM plans the report, a topic a section, and another writes each section from its topic.

With C the mean of C(I) over its positions, topics t_s of width H, from t_0 = 0:

- `t_s = LSTM_topic(C, t_{s-1})`, s = 1..S: the sections in their order, once a study;
- `p(stop after s) = sigmoid(w . t_s + b)`: the report ends with the first section at which it is over 1/2;
- `h_0 = LSTM(W t_s, 0, z_s)`, `z_s = a(t_s) C(I)^T`: the section's LSTM first reads its topic, where
  otherwise a word stands, and what the topic looks at; then it writes as formula 4 of docs/method.md says.

The attention a is the additive one, with a slot for the evidence-weighted feature. In [1] the topic alone
looks at the image, once a section; here every word does, too, as in all members. What the report leaves out
in its middle is no matter of the stop: a section that is not told costs nothing, wherever it stands.

References:
    1. Zhang et al., "Pathologist-level interpretable whole-slide cancer diagnosis with deep learning",
       Nature Machine Intelligence 2019 (the topic LSTM, its stop, and the topic's attention).
    2. Krause et al., "A Hierarchical Approach for Generating Descriptive Image Paragraphs", CVPR 2017,
       arXiv 1611.06607 (the stop as a loss beside that of the words).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdnet.models.configuration import MDNetConfig
from mdnet.models.image_module import ImageFeatures
from mdnet.models.objective import divided
from mdnet.models.prepared import Prepared
from mdnet.models.registry import Architecture, register_model
from mdnet.models.report_lstm import ReportLSTM
from mdnet.models.report_module import ReportOutput, run_cell
from mdnet.models.zoo.mdnet import TINY

__all__ = ["TopicReportLSTM", "behind_the_first_stop", "topic_mdnet"]


@register_model
def topic_mdnet() -> Architecture:
    """About 0.6 million parameters at 128 px, on the image module of `mdnet_tiny`."""
    options = {
        **TINY,
        "embedding_size": 64,
        "hidden_size": 128,
        "attention": "additive",
        "attention_size": 32,  # a tanh of this width a position and word: most of the time, were it wide
    }
    return Architecture(
        options, "Zhang et al., Nature Machine Intelligence 1 (2019) 236-245", report=TopicReportLSTM
    )


class TopicReportLSTM(ReportLSTM):
    """The report LSTM, begun by a topic.

    Attributes:
        topic: The LSTM over the sections.
        first: W, from a topic to what is read in the place of a word.
        stop: w and b, of the stop's logit.
    """

    def __init__(self, config: MDNetConfig) -> None:
        super().__init__(config)
        self.pad_id = config.pad_id
        self.topic = nn.LSTMCell(sum(config.block_widths), config.hidden_size)
        self.first = nn.Linear(config.hidden_size, config.embedding_size)
        self.stop = nn.Linear(config.hidden_size, 1)

    def prepare(self, features: ImageFeatures, evidence: Tensor) -> Prepared:
        prepared = super().prepare(features, evidence)
        topics = self.topics(features.pooled(), sections=evidence.shape[1])  # (B, S, H)
        looked_at = torch.bmm(self.attention(topics, prepared), features.grid)  # z_s (B, S, D)
        first = torch.cat([self.dropout(self.first(topics)), looked_at], dim=-1)
        stop = self.stop(self.dropout(topics)).squeeze(-1)  # (B, S)
        return prepared._replace(
            start=run_cell(self.lstm, first, self.initial_state(prepared)),
            stop=stop,
            closed=behind_the_first_stop(stop),
        )

    def topics(self, pooled: Tensor, *, sections: int) -> Tensor:
        """The topic t_s of each of so many sections, (B, S, H), from the mean of C(I), (B, D)."""
        # shape[0], for in an export `len` is a constant.
        hidden = cell = pooled.new_zeros(pooled.shape[0], self.topic.hidden_size)
        topics = []
        for _ in range(sections):
            hidden, cell = self.topic(pooled, (hidden, cell))
            topics.append(hidden)
        return torch.stack(topics, dim=1)

    def auxiliary_losses(
        self, prepared: Prepared, output: ReportOutput, tokens: Tensor, counts: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """`stop`: binary cross-entropy a told section; the last one of each study is where to stop."""
        assert prepared.stop is not None
        told = (tokens != self.pad_id).any(dim=-1)  # (B, S)
        last = told & (told.flip(1).cumsum(dim=1).flip(1) == 1)
        logits = prepared.stop.to(torch.promote_types(prepared.stop.dtype, torch.float32))
        binary = F.binary_cross_entropy_with_logits(logits, last.to(logits), reduction="none")
        return {"stop": divided((binary * told).sum(), counts["sections"])}


def behind_the_first_stop(stop: Tensor) -> Tensor:
    """Of logits (B, S), true for a section behind the first one with p(stop) > 1/2."""
    stops = (stop > 0).long()
    return stops.cumsum(dim=1) - stops > 0  # stops before it
