"""`MDNetConfig`: everything that a saved model needs to be built again, saved beside its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mdnet.torchvision_compat  # noqa: F401  (transformers imports torchvision)

from transformers import PretrainedConfig

from mdnet.data.study import LabelSpace
from mdnet.errors import ConfigurationError, WeightsError
from mdnet.models.backbones.shapes import BACKBONES

__all__ = ["ATTENTION_NAMES", "BLOCK_NAMES", "MDNetConfig", "check_saved_configuration"]

ATTENTION_NAMES = ("sharpened", "mdnet", "additive", "soft")
BLOCK_NAMES = ("basic", "bottleneck")
_AT_LEAST_ONE = (
    "stem_stride", "image_size", "views", "attention_size", "embedding_size", "hidden_size", "maximum_words",
)  # fmt: skip


class MDNetConfig(PretrainedConfig):
    """Configuration of an `MDNet`.

    Args:
        architecture: Name in the registry of the model whose parts it is built of (`mdnet.models.registry`);
            None: MDNet's.
        image_size: Rows and columns of the input in pixels; of one view, where there are several.
        image_channels: 3 for RGB, 1 for grayscale.
        views: Most images of a study, all seen by the same image module (`mdnet.models.views`).
        stem_stride: Stride of the first convolution.
        widths: Channels of each stage's own group; one entry a stage. The representation C(I) has
            their sum.
        depths: Residual blocks a stage; the first one of every stage but the first makes the
            ensemble connection.
        strides: Stride of each stage relative to the one before; the first is 1.
        decoupled: Whether every stage keeps channels of its own in C(I). A plain residual network, of the
            same residual functions, adds all stages up: C(I) is its last, one block.
        block: `basic` (two 3x3 convolutions) or `bottleneck` (1x1, 3x3, 1x1).
        backbone: A torchvision network as image module (`mdnet.models.backbones`); stem_stride, widths,
            depths and strides are then the network's, and `block` is not looked at. None: MDNet's own.
        backbone_weights: What a new model's backbone begins with: a name of torchvision's, such as
            `IMAGENET1K_V1`, or the file of a state dict. `create_model` alone looks at it; None: random.
        attention: `sharpened`, `mdnet`, `additive` or `soft`; see `mdnet.models.attention`. Without labels
            there is no evidence to sharpen, and the first two become `additive`.
        attention_size: Width of the hidden layer of `additive` and `soft`.
        embedding_size: Width of the word embeddings.
        hidden_size: Width of the LSTM.
        dropout: Probability on the LSTM's input words and on its output.
        label_space: `LabelSpace.to_dict()`; no aspects means that the model has no diagnosis.
        sections: Section names in the order of the report; none means that it writes no report.
        section_aspects: Section name to the aspect whose evidence guides its attention. A section
            is guided by the aspect of its own name, else by the diagnosis, unless named here.
        vocabulary_size: Tokens of the tokenizer saved beside the model.
        begin_ids: Token id of each section's begin token.
        end_id: Token id of the end token.
        pad_id: Token id of the padding.
        maximum_words: Length at which generation stops.
    """

    model_type = "mdnet"

    architecture: str | None = None
    image_size: int = 128
    image_channels: int = 3
    views: int = 1
    stem_stride: int = 2
    widths: list[int] | tuple[int, ...] = (24, 48, 96)
    depths: list[int] | tuple[int, ...] = (1, 2, 2)
    strides: list[int] | tuple[int, ...] = (1, 2, 2)
    decoupled: bool = True
    block: str = "basic"
    backbone: str | None = None
    backbone_weights: str | None = None
    attention: str = "sharpened"
    attention_size: int = 128
    embedding_size: int = 64
    hidden_size: int = 128
    dropout: float = 0.1
    label_space: dict[str, Any] | None = None
    sections: list[str] | tuple[str, ...] = ()
    section_aspects: dict[str, str | None] | None = None
    vocabulary_size: int = 0
    begin_ids: list[int] | tuple[int, ...] = ()
    end_id: int = 2
    pad_id: int = 0
    maximum_words: int = 60

    def __post_init__(self, **kwargs: Any) -> None:
        for name in ("widths", "depths", "strides", "sections", "begin_ids"):
            setattr(self, name, list(getattr(self, name)))
        space = LabelSpace.from_dict(self.label_space or {})
        self.label_space = space.to_dict()
        named = self.section_aspects or {}
        if unknown := sorted(set(named) - set(self.sections)):
            raise ConfigurationError(
                f"section_aspects names {', '.join(unknown)}, none of the sections {self.sections}"
            )
        self.section_aspects = {
            section: named.get(section, section if section in space else space.diagnosis)
            for section in self.sections
        }
        if self.attention in ("sharpened", "mdnet") and not space.aspects:
            self.attention = "additive"
        self._check(space)
        super().__post_init__(**kwargs)

    @property
    def space(self) -> LabelSpace:
        """The label space as a record."""
        return LabelSpace.from_dict(self.label_space or {})

    @property
    def block_widths(self) -> list[int]:
        """Channels of the M blocks of C(I), finest first."""
        return list(self.widths if self.decoupled else self.widths[-1:])

    @property
    def block_names(self) -> list[str]:
        """Names of the M blocks, by the stage that gives each."""
        return [f"block{index + 1}" for index in range(len(self.widths))][-len(self.block_widths) :]

    @property
    def stage_sizes(self) -> list[int]:
        """Rows and columns of what each stage gives, for an input of `image_size`."""
        if self.backbone is not None:
            return BACKBONES[self.backbone].block_sizes(self.image_size)
        cells, sizes = _strided(self.image_size, self.stem_stride), []
        for stride in self.strides:
            cells = _strided(cells, stride)
            sizes.append(cells)
        return sizes

    @property
    def block_sizes(self) -> list[int]:
        """Rows and columns of each block, likewise."""
        return self.stage_sizes[-len(self.block_widths) :]

    @property
    def decoupled_from(self) -> str:
        """The first stage whose channels stay apart from those of others up to the logits.

        `stage1` for MDNet's own image module, in which what is there is never mixed again; the last stage
        of a plain one. Of a backbone it is the stage that gives the first block: each block has class
        weights of its own and evidence is exact, but inside the backbone a stage mixes what the one before
        it gave.
        """
        if self.backbone is not None:
            return BACKBONES[self.backbone].decoupled_from
        return "stage1" if self.decoupled else f"stage{len(self.widths)}"

    @property
    def grid_size(self) -> int:
        """Rows and columns of one view's part of the grid on which attention rests, at `image_size`."""
        return self.block_sizes[-1]

    @property
    def positions(self) -> int:
        """Positions P of the grid of all views, for an input of `image_size`."""
        return self.grid_size**2 * self.views

    def _check(self, space: LabelSpace) -> None:
        stages = len(self.widths)
        if not stages or len(self.depths) != stages or len(self.strides) != stages:
            raise ConfigurationError(
                f"widths {self.widths}, depths {self.depths}, strides {self.strides}: give an entry a stage"
            )
        for name in ("widths", "depths", "strides", *_AT_LEAST_ONE):
            value = getattr(self, name)
            if min(value if isinstance(value, list) else [value]) < 1:
                raise ConfigurationError(f"{name} {value}: give at least 1")
        if self.strides[0] != 1:
            raise ConfigurationError(f"strides {self.strides} must begin with 1; use stem_stride")
        self._check_backbone()
        if self.block not in BLOCK_NAMES:
            raise ConfigurationError(f"block {self.block!r} is none of {', '.join(BLOCK_NAMES)}")
        if self.attention not in ATTENTION_NAMES:
            raise ConfigurationError(f"attention {self.attention!r} is none of {', '.join(ATTENTION_NAMES)}")
        if self.image_channels not in (1, 3):
            raise ConfigurationError(f"image_channels {self.image_channels} is neither 1 nor 3")
        if self.sections and len(self.begin_ids) != len(self.sections):
            raise ConfigurationError(
                f"{len(self.sections)} sections need as many begin_ids, not {len(self.begin_ids)}"
            )
        for section, aspect in (self.section_aspects or {}).items():
            if aspect is not None and aspect not in space:
                raise ConfigurationError(
                    f"section {section!r} is guided by {aspect!r}, none of the aspects {list(space.names)}"
                )

    def _check_backbone(self) -> None:
        if self.backbone is None:
            if self.backbone_weights is not None:
                raise ConfigurationError(
                    f"backbone_weights {self.backbone_weights!r}: the model has no backbone; choose one that "
                    f"has, or set backbone to one of {', '.join(BACKBONES)}"
                )
            return
        if self.backbone not in BACKBONES:
            raise ConfigurationError(f"backbone {self.backbone!r} is none of {', '.join(BACKBONES)}")
        if not self.decoupled:
            raise ConfigurationError(f"decoupled is false: the blocks of {self.backbone} are; leave it out")
        for name, value in BACKBONES[self.backbone].architecture().items():
            if getattr(self, name) != value:
                raise ConfigurationError(
                    f"{name} {getattr(self, name)}: that of backbone {self.backbone} is {value}; leave it out"
                )
        if self.block_sizes[-1] < 1:
            raise ConfigurationError(
                f"image_size {self.image_size}: nothing is left behind {self.backbone}; give at least 32"
            )
        if self.backbone_weights is not None and self.image_channels != 3:
            raise ConfigurationError(
                f"backbone_weights are of RGB images: set image_channels to 3, not {self.image_channels}; "
                "a grayscale image is then read as three equal channels"
            )


def check_saved_configuration(file: Path) -> None:
    """Raises `WeightsError` where a `config.json` is damaged, or has an entry that nothing here looks at.

    Such an entry is of a newer version, whose answers would be others, or of something else than a model.
    """
    mend = "copy the model folder again"
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{file}: {error}; {mend}") from error
    if not isinstance(record, dict):
        raise WeightsError(f"{file}: no configuration but a {type(record).__name__}; {mend}")
    if (kind := record.get("model_type")) != MDNetConfig.model_type:
        raise WeightsError(f"{file}: model_type is {kind!r}, not {MDNetConfig.model_type!r}")
    if unknown := sorted(set(record) - set(MDNetConfig().to_dict())):
        raise WeightsError(
            f"{file}: unknown entries: {', '.join(unknown)}; if a newer mdnet has saved it, load it with that"
        )
    try:
        MDNetConfig.from_dict(record)
    except ConfigurationError as error:
        raise WeightsError(f"{file}: {error}; {mend}") from error
    except (TypeError, ValueError, AttributeError, KeyError) as error:  # values of another type
        raise WeightsError(f"{file}: damaged ({type(error).__name__}: {error}); {mend}") from error


def _strided(cells: int, stride: int) -> int:
    """Cells left by a 3x3 convolution with padding 1."""
    return (cells - 1) // stride + 1
