"""Decoders of others on given features, each made to write just so many words.

R2Gen (https://github.com/zhjohnchan/R2Gen) and the show-attend-tell tutorial
(https://github.com/sgrvinod/a-PyTorch-Tutorial-to-Image-Captioning) are loaded from folders outside the
project: nothing of them is part of it. What keeps their code from running here is changed as it is loaded.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import mdnet.torchvision_compat  # noqa: F401  (the tutorial imports torchvision)

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

__all__ = ["FORBIDDEN", "Decoder", "Generated", "R2Gen", "Tutorial"]

FORBIDDEN = -1e4  # bias of a word that must not come


class Decoder:
    """A decoder with random weights.

    Attributes:
        network: All its parameters.
    """

    network: nn.Module

    def write(self, features: Tensor, beams: int, words: int) -> Tensor:
        """Texts (B, words) on features (B, P, D); 1 beam is greedy decoding."""
        raise NotImplementedError


class R2Gen(Decoder):
    """The decoder of R2Gen with its published settings for IU X-ray; D of 2048, its ResNet-101's.

    Its `.cuda()` is made to do nothing where there is no GPU. Blocking of trigrams, a loop that it has in
    greedy decoding alone, is off.
    """

    def __init__(self, folder: Path, vocabulary: int, channels: int) -> None:
        if not torch.cuda.is_available():
            torch.Tensor.cuda = lambda tensor, *_, **__: tensor  # type: ignore[method-assign]
        _stub("cv2")  # for pictures alone
        sys.path.insert(0, str(folder))
        from modules.encoder_decoder import EncoderDecoder  # type: ignore[import-not-found]

        self._options = Namespace(
            **{
                "d_model": 512,
                "d_ff": 512,
                "d_vf": channels,
                "num_heads": 8,
                "num_layers": 3,
                "dropout": 0.1,
            },
            **{"bos_idx": 0, "eos_idx": 0, "pad_idx": 0, "use_bn": 0, "drop_prob_lm": 0.5, "logit_layers": 1},
            **{"rm_num_slots": 3, "rm_num_heads": 8, "rm_d_model": 512, "max_seq_length": 60},
            **{"temperature": 1.0, "sample_n": 1, "group_size": 1, "output_logsoftmax": 1},
            **{"decoding_constraint": 0, "block_trigrams": 0},
        )
        tokenizer = SimpleNamespace(idx2token=range(vocabulary - 1))  # it adds the padding
        self.network = EncoderDecoder(self._options, tokenizer).eval()
        nn.init.constant_(self.network.logit.bias[0], FORBIDDEN)

    def write(self, features: Tensor, beams: int, words: int) -> Tensor:
        self.network.max_seq_length = words
        self._options.beam_size = beams
        self._options.sample_method = "greedy" if beams == 1 else "beam_search"
        return self.network(features.mean(dim=1), features, mode="sample")[0]


class Tutorial(Decoder):
    """The decoder of the show-attend-tell tutorial, with the beam search of its `caption.py`.

    It captions one image at a time. The end token, without which it has no caption, comes at the last word.
    """

    def __init__(
        self, folder: Path, vocabulary: int, channels: int, *, embedding: int, hidden: int, attention: int
    ) -> None:
        for name in ("skimage", "skimage.transform"):
            _stub(name)
        pixel = np.zeros((1, 1, 3))  # what its reading of pictures costs is not its decoder's
        _stub("scipy.misc", imread=lambda path: pixel, imresize=lambda image, size: pixel)
        models, caption = ModuleType("tutorial_models"), ModuleType("tutorial_caption")
        exec((folder / "models.py").read_text(encoding="utf-8"), vars(models))
        source = (folder / "caption.py").read_text(encoding="utf-8")
        for theirs, changed in [
            ("prev_word_inds = top_k_words / vocab_size", "prev_word_inds = top_k_words // vocab_size"),
            ("if step > 50:", "if False:"),
        ]:
            assert source.count(theirs) == 1, theirs
            source = source.replace(theirs, changed)
        exec(source, vars(caption))
        self._caption = caption.caption_image_beam_search
        self.network = models.DecoderWithAttention(attention, embedding, hidden, vocabulary, channels).eval()
        self.network.fc = _LastWord(self.network.fc)
        self._words = {str(word): word for word in range(vocabulary - 2)}
        self._words |= {"<start>": vocabulary - 2, "<end>": vocabulary - 1}

    def write(self, features: Tensor, beams: int, words: int) -> Tensor:
        side = round(features.shape[1] ** 0.5)
        texts = []
        for grid in features.unflatten(1, (side, side)).split(1):
            self.network.fc.left = words
            encoder = partial(_given, grid)
            texts.append(self._caption(encoder, self.network, "", self._words, beams)[0][1:])
        return torch.tensor(texts)


class _LastWord(nn.Module):
    """An output layer whose last word comes at its last step, and never before."""

    def __init__(self, output: nn.Linear) -> None:
        super().__init__()
        self.output, self.left = output, 0

    def forward(self, hidden: Tensor) -> Tensor:
        self.left -= 1
        scores = self.output(hidden)
        scores[:, -1] = FORBIDDEN if self.left else -FORBIDDEN
        return scores


class Generated(Decoder):
    """A GPT-2 decoder that attends to the features, as deep as R2Gen's, with `transformers.generate`."""

    def __init__(self, vocabulary: int, channels: int, *, width: int = 320, layers: int = 3) -> None:
        config = GPT2Config(
            vocab_size=vocabulary,
            n_positions=64,
            n_embd=width,
            n_layer=layers,
            n_head=width // 64,
            add_cross_attention=True,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
        self.network = nn.ModuleDict(
            {"decoder": GPT2LMHeadModel(config), "feature": nn.Linear(channels, width)}
        ).eval()

    def write(self, features: Tensor, beams: int, words: int) -> Tensor:
        begin = torch.ones(len(features), 1, dtype=torch.long)
        texts = self.network["decoder"].generate(
            begin,
            attention_mask=begin,
            encoder_hidden_states=self.network["feature"](features),
            min_new_tokens=words,
            max_new_tokens=words,
            num_beams=beams,
            do_sample=False,
        )
        return texts[:, 1:]


def _given(grid: Tensor, image: Tensor) -> Tensor:
    """In place of an image module."""
    del image
    return grid


def _stub(name: str, **members: object) -> None:
    """A module in place of one that is not needed."""
    module = ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module
