"""MDNet: image module, heads and report LSTM as one `PreTrainedModel`.

Zhang et al., "MDNet: A Semantically and Visually Interpretable Medical Image Diagnosis Network",
CVPR 2017, arXiv 1707.02485. `mdnet/models/reference.py` is the same method in one plain file.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Unpack

import mdnet.torchvision_compat  # noqa: F401  (transformers imports torchvision)

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from mdnet.data.preprocessing import Preprocessing
from mdnet.data.study import MISSING
from mdnet.data.text import ReportTokenizer
from mdnet.errors import ConfigurationError, WeightsError
from mdnet.files import writing_tensors
from mdnet.models.backbones.shapes import BACKBONES
from mdnet.models.calibration import Calibration
from mdnet.models.configuration import MDNetConfig, check_saved_configuration
from mdnet.models.heads import DecoupledHead, Heads
from mdnet.models.image_module import ImageFeatures, ImageModule
from mdnet.models.objective import (
    LossTerms,
    classification_loss,
    language_loss,
    loss_counts,
    scale_gradients,
)
from mdnet.models.outputs import MDNetOutput
from mdnet.models.parts import build_parts
from mdnet.models.prepared import Prepared
from mdnet.models.report_module import ReportModule
from mdnet.models.views import encode_views
from mdnet.models.weights import resolve_weights, verify_weights
from mdnet.models.weights_card import CardFacts

__all__ = ["MDNet"]


class MDNet(PreTrainedModel):
    """Diagnosis, report and maps from an image.

    Attributes:
        views: How many images of a study a call takes, side by side.
        image: The image module D.
        heads: The classification module M; None where the label space is empty.
        report: The language module L; None where there are no sections.
        tokenizer: Vocabulary, saved and loaded with the weights.
        preprocessing: How an image becomes `pixel_values`, saved and loaded with the weights.
        calibration: How far its probabilities can be believed, likewise; None until it is fitted.
    """

    config_class = MDNetConfig
    base_model_prefix = ""
    main_input_name = "pixel_values"
    _no_split_modules = ["Stage", "PlainStage", "ReportModule"]  # noqa: RUF012  (the base class has a list)

    def __init__(
        self,
        config: MDNetConfig,
        *,
        tokenizer: ReportTokenizer | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        super().__init__(config)
        self.tokenizer = tokenizer
        self.preprocessing = preprocessing
        self.calibration: Calibration | None = None
        self.views = config.views
        parts = build_parts(config)
        self.image: ImageModule = parts.image
        self.heads: Heads | None = parts.heads
        self.report: ReportModule | None = parts.report
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):  # He et al., arXiv 1502.01852
            backbone = self.config.backbone
            fan = "fan_out" if backbone is None else BACKBONES[backbone].fan
            nn.init.kaiming_normal_(module.weight, mode=fan, nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.1)
        elif isinstance(module, DecoupledHead):  # no class is preferred before training
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
        elif callable(reset := getattr(module, "reset_parameters", None)):  # norms, LSTM cells
            reset()

    def with_views(self, views: int) -> MDNet:
        """The same network, its parts shared, for studies that all have so many views.

        It says of them what this model says of studies that lack the others. Attention `mdnet` alone
        cannot: its weights are of all V views' positions.
        """
        twin = copy.copy(self)
        twin.views = views
        return twin

    def encode(self, pixel_values: Tensor, present: Tensor | None = None) -> ImageFeatures:
        """C(I) of normalised images (B, channels, H, V W), computed once a study.

        Args:
            pixel_values: Of several views (`config.views`), a study's images side by side.
            present: (B, V), true for a view that is there; None: all are.
        """
        if self.views == 1 and present is None:
            return self.image(pixel_values)
        return encode_views(self.image, pixel_values, self.views, present=present)

    def forward(
        self,
        pixel_values: Tensor,
        labels: Mapping[str, Tensor] | None = None,
        tokens: Tensor | None = None,
        *,
        present: Tensor | None = None,
        beta: float = 0.5,
        eta: float = 1.0,
        counts: Mapping[str, Tensor] | None = None,
        terms: LossTerms | None = None,
        sampling: float = 0.0,
    ) -> MDNetOutput:
        """Logits, teacher-forced report and, where there is a truth, the losses.

        Args:
            pixel_values: (B, channels, H, V W), normalised as `preprocessing` says; see `encode`.
            labels: Aspect name to (B,) class index or, multi-label, (B, classes) of 0 and 1;
                -100 where missing. They also choose the class whose evidence guides the words; the
                predicted one stands in for a missing label.
            tokens: (B, S, T) target words of every section, the end token last, then padding. A
                section that is all padding costs nothing.
            present: (B, V), true for a view that is there; None: all are.
            beta: Weight of the language in the image module's gradient, in 0..1 (formula 6).
            eta: Scale of the language's gradient there.
            counts: What the sums of the losses are divided by, as `loss_counts` names it, where the batch
                is a part of something larger; None: the batch's own numbers of labels and words.
            terms: Label smoothing, class weights and priors of L_M; None: none.
            sampling: Probability that the LSTM reads a word of its own, in training mode
                (`ReportLSTM.forward`); the words that count stay the true ones.
        """
        features = self.encode(pixel_values, present)
        if self.heads is None:
            beta = 1.0
        elif self.report is None or tokens is None:
            beta = 0.0
        output = MDNetOutput(features=features)
        losses: dict[str, Tensor] = {}
        if counts is None:
            counts = loss_counts(labels, tokens, self.config.space, self.config.pad_id)

        if self.heads is not None:
            seen = scale_gradients(features, 1.0 - beta)
            output.logits, output.block_logits = self.heads(seen, tokens if self.training else None)
            if labels is not None:
                losses["classification"] = classification_loss(
                    output.logits, labels, self.config.space, count=counts["classification"], terms=terms
                )
                further = self.heads.auxiliary_losses(seen, labels, counts)
                losses |= {f"classification_{name}": loss for name, loss in further.items()}

        if self.report is not None and tokens is not None:
            seen = scale_gradients(features, beta * eta)
            prepared = self.prepare(seen, self.guides(output.logits, labels))
            # Filled on the device: a copy from here would wait until the image module is through.
            begin = [tokens.new_full((len(tokens), 1), token) for token in self.config.begin_ids]
            inputs = torch.cat([torch.stack(begin, dim=1), tokens[:, :, :-1]], dim=-1)  # (B, S, T)
            output.report_logits, output.attention = written = self.report(
                inputs, seen.grid, prepared, sampling=sampling
            )
            losses["language"], output.log_likelihood = language_loss(
                output.report_logits, tokens, self.config.pad_id, count=counts["language"]
            )
            losses |= self.report.auxiliary_losses(prepared, written, tokens, counts)

        if losses:
            output.losses = losses
            output.loss = torch.stack(list(losses.values())).sum()
        return output

    def guides(
        self, logits: Mapping[str, Tensor] | None, labels: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The class of each aspect whose evidence guides attention.

        The true one where a label is there, else the predicted one: (B,) class index or, multi-label,
        (B, classes).
        """
        if self.heads is None or logits is None:
            return {}
        chosen = {}
        for aspect in self.config.space.aspects:
            predicted = self.heads.predicted(logits, aspect)
            if labels is not None and aspect.name in labels:
                truth = labels[aspect.name].to(predicted)
                predicted = torch.where(truth != MISSING, truth, predicted)
            chosen[aspect.name] = predicted
        return chosen

    def prepare(self, features: ImageFeatures, guides: Mapping[str, Tensor]) -> Prepared:
        """What the report module keeps of the studies, c (B, S, P) the evidence of each section's class."""
        assert self.report is not None
        weights = self.guiding_weights(features, guides)
        evidence = torch.bmm(weights, features.grid.transpose(1, 2))  # c = (w^c)^T C(I), (B, S, P)
        return self.report.prepare(features, evidence)

    def guiding_weights(self, features: ImageFeatures, guides: Mapping[str, Tensor]) -> Tensor:
        """The w^c of formula 5 of every section, (B, S, D); zero where no aspect guides it."""
        studies, _, channels = features.grid.shape
        if self.heads is None or not guides:
            return features.grid.new_zeros(studies, len(self.config.sections), channels)
        literal = self.config.attention == "mdnet"  # formula 5 to the letter has no reference class
        weights_of = self.heads.class_weights if literal else self.heads.contrast_weights
        chosen = {a.name: weights_of(a, guides[a.name]) for a in self.config.space.aspects}
        unguided = torch.zeros_like(features.grid[:, 0])
        guiding = (self.config.section_aspects[section] for section in self.config.sections)
        return torch.stack([unguided if aspect is None else chosen[aspect] for aspect in guiding], dim=1)

    def evidence(self, features: ImageFeatures) -> dict[str, list[Tensor]]:
        """Every aspect's evidence maps, block by block at native resolution: (B, classes, H_m, W_m).

        Summed over blocks and positions, plus the bias, they give the logits (formula 3).
        """
        return {} if self.heads is None else self.heads.evidence(features)

    def save_pretrained(  # type: ignore[override]  # what the base class takes goes through kwargs
        self, save_directory: str | os.PathLike[str], **kwargs: Any
    ) -> None:
        """Writes weights (safetensors), configuration, vocabulary, preprocessing and calibration."""
        if kwargs.pop("push_to_hub", False):  # the base class would push the weights alone
            raise ConfigurationError("save_pretrained writes a folder; to publish it, call push_to_hub")
        folder = Path(save_directory)
        with _quiet(), writing_tensors(folder):
            super().save_pretrained(folder, **kwargs)
        if self.tokenizer is not None:
            self.tokenizer.save(folder)
        if self.preprocessing is not None:
            self.preprocessing.save(folder)
        if self.calibration is not None:
            self.calibration.save(folder)

    def push_to_hub(  # type: ignore[override]  # a licence must be said, and no more is uploaded in parts
        self,
        repo_id: str,
        *,
        licence: str,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str | None = None,
        **facts: Unpack[CardFacts],
    ) -> str:
        """Publishes all that `save_pretrained` writes, with a card: `weights.json` and the model card.

        Args:
            repo_id: Hub id, `owner/name`; made if it is not there.
            licence: SPDX identifier of the weights, such as `Apache-2.0`.
            private: Whether a repository that is made is; the account's own choice unless given.
            token: Of an account that may write; that of `hf auth login` or HF_TOKEN unless given.
            revision: Branch, made if it is not there; the main one unless given.
            commit_message: Of the one commit.
            **facts: What else the card says: `data`, `dataset`, `recipe`, `metrics`, `measured_on` and
                `limits`, as `mdnet.models.weights_card` has them.

        Returns:
            The address of the commit.

        Raises:
            WeightsError: The hub cannot be reached, or refuses; or the model has no preprocessing.
        """
        from mdnet.models.hub import upload

        return upload(
            self,
            repo_id,
            licence=licence,
            facts=facts,
            private=private,
            token=token,
            revision=revision,
            commit_message=commit_message,
        )

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, *args: Any, **kwargs: Any
    ) -> MDNet:
        """Loads a model with its vocabulary, preprocessing and calibration; nothing comes from any data set.

        Args:
            pretrained_model_name_or_path: A model or run folder, a name of `mdnet.list_weights()`,
                or a hub id `owner/name`.
            *args: As in `PreTrainedModel.from_pretrained`.
            **kwargs: Likewise; `revision`, `cache_dir`, `local_files_only` and `token` apply to a hub id.

        Raises:
            WeightsError: Not found, damaged, not fitting its configuration, or of another hash than
                its card says.
        """
        folder = resolve_weights(
            str(pretrained_model_name_or_path),
            revision=kwargs.pop("revision", None),
            cache_dir=kwargs.pop("cache_dir", None),
            offline=kwargs.pop("local_files_only", False),
            token=kwargs.pop("token", None),
        )
        verify_weights(folder)
        check_saved_configuration(folder / "config.json")
        model: MDNet
        info: dict[str, Any]
        kwargs |= {"use_safetensors": True, "output_loading_info": True}
        kwargs["ignore_mismatched_sizes"] = True  # no raise: they are in `info`, as what is missing
        try:
            with _quiet():
                loaded = super().from_pretrained(folder, *args, **kwargs)
        except SafetensorError as error:
            file = folder / "model.safetensors"
            raise WeightsError(f"{file}: damaged ({error}); copy or train it anew") from error
        except ConfigurationError as error:  # a member that nobody has registered
            raise WeightsError(f"{folder / 'config.json'}: {error}") from error
        except OSError as error:
            reason = str(error).splitlines()[0]
            raise WeightsError(f"{folder / 'config.json'}: {reason}; copy the model folder again") from error
        model, info = loaded  # type: ignore[misc]  # a pair, because of output_loading_info
        mismatched = [key for key, *_ in info["mismatched_keys"]]
        odd = sorted([*info["missing_keys"], *info["unexpected_keys"], *mismatched])
        if odd:
            raise WeightsError(f"{folder}: weights and config.json do not fit: {', '.join(odd[:5])}")
        if (folder / "tokenizer.json").is_file():
            model.tokenizer = ReportTokenizer.load(folder)
            if model.report is not None and len(model.tokenizer) != model.config.vocabulary_size:
                raise WeightsError(
                    f"{folder / 'tokenizer.json'}: {len(model.tokenizer)} tokens, but the model has "
                    f"{model.config.vocabulary_size}; take the one that was saved with it"
                )
        if (folder / "preprocessor_config.json").is_file():
            model.preprocessing = Preprocessing.load(folder)
        aspects, channels = model.config.space.names, sum(model.config.block_widths)
        model.calibration = Calibration.load(folder, aspects=aspects, channels=channels)
        return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Transformers draws a bar for a file that takes a millisecond, and a table where we raise."""
    enabled, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if enabled:
            transformers_logging.enable_progress_bar()
