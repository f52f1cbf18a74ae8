"""`MDNetConfig` keeps everything over save and load, and names what is wrong."""

from __future__ import annotations

import pytest

from mdnet.data.study import Aspect, LabelSpace
from mdnet.errors import ConfigurationError
from mdnet.models.configuration import MDNetConfig


def test_everything_comes_back_from_disk(space, tmp_path):
    config = MDNetConfig(
        image_size=96,
        image_channels=1,
        widths=(4, 8),
        depths=(1, 3),
        strides=(1, 2),
        block="bottleneck",
        attention="additive",
        label_space=space.to_dict(),
        sections=("mitosis", "remarks"),
        section_aspects={"remarks": "findings"},
        vocabulary_size=11,
        begin_ids=(3, 4),
    )
    config.save_pretrained(tmp_path)
    loaded = MDNetConfig.from_pretrained(tmp_path)
    own = MDNetConfig.__annotations__
    assert {name: getattr(loaded, name) for name in own} == {name: getattr(config, name) for name in own}
    assert loaded.space == space
    assert loaded.widths == [4, 8]


def test_a_section_is_guided_by_its_own_aspect_else_by_the_diagnosis_unless_named(space):
    sections = ("mitosis", "remarks", "notes")
    options = {"sections": sections, "begin_ids": (3, 4, 5), "section_aspects": {"notes": "mitosis"}}
    config = MDNetConfig(label_space=space.to_dict(), **options)
    assert config.section_aspects == {"mitosis": "mitosis", "remarks": "conclusion", "notes": "mitosis"}
    without = LabelSpace((Aspect("mitosis", ("absent", "rare")),))
    config = MDNetConfig(label_space=without.to_dict(), **options)
    assert config.section_aspects["remarks"] is None


@pytest.mark.parametrize("attention", ["sharpened", "mdnet", "additive"])
def test_without_labels_attention_is_additive(attention):
    assert MDNetConfig(attention=attention).attention == "additive"


def test_blocks_are_named_finest_first():
    assert MDNetConfig(widths=[1, 2], depths=[1, 1], strides=[1, 2]).block_names == ["block1", "block2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": [4, 8]}, "give an entry a stage"),
        ({"widths": [], "depths": [], "strides": []}, "give an entry a stage"),
        ({"depths": [1, 0, 1]}, r"depths \[1, 0, 1\]: give at least 1"),
        ({"image_size": 0}, "image_size 0: give at least 1"),
        ({"hidden_size": 0}, "hidden_size 0: give at least 1"),
        ({"strides": [2, 2, 2]}, "must begin with 1; use stem_stride"),
        ({"block": "dense"}, "block 'dense' is none of basic, bottleneck"),
        ({"attention": "dot"}, "attention 'dot' is none of sharpened, mdnet, additive"),
        ({"image_channels": 4}, "image_channels 4 is neither 1 nor 3"),
        ({"sections": ["a", "b"], "begin_ids": [3]}, "2 sections need as many begin_ids, not 1"),
        ({"sections": ["a"], "begin_ids": [3], "section_aspects": {"a": "b"}}, "guided by 'b', none of"),
        (
            {"sections": ["a"], "begin_ids": [3], "section_aspects": {"b": None}},
            "names b, none of the sections",
        ),
    ],
)
def test_what_is_wrong_is_named(options, message):
    with pytest.raises(ConfigurationError, match=message):
        MDNetConfig(**options)
