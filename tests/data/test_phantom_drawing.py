"""The drawing of synthetic tissue: determinism, the scene at every size, masks, figures."""

from __future__ import annotations

import numpy as np
import pytest

from mdnet.data.phantom import LABEL_SPACE, NORMAL_RADIUS, STRUCTURES, PhantomSpec, draw_study, render
from mdnet.data.phantom.figures import DISC_RADIUS
from mdnet.data.phantom.nuclei import nucleus_patches, place_nuclei
from mdnet.data.phantom.specification import generator
from mdnet.data.phantom.tissue import Layout, smooth_noise
from mdnet.errors import ConfigurationError

SEED = 20
SPECS = [draw_study(SEED, index) for index in range(220)]
GOOD = [spec for spec in SPECS if spec.quality == "good"]


def with_label(aspect: str, label: str, count: int) -> list[PhantomSpec]:
    return [spec for spec in GOOD if spec.labels[aspect] == label][:count]


def test_same_seed_and_index_give_the_same_pixels_whatever_was_drawn_before() -> None:
    first = render(draw_study(SEED, 3))
    render(draw_study(SEED, 4))
    again = render(draw_study(SEED, 3))
    assert first.image.tobytes() == again.image.tobytes()
    assert all(np.array_equal(first.masks[name], again.masks[name]) for name in first.masks)
    assert not np.array_equal(first.image, render(draw_study(SEED + 1, 3)).image)


@pytest.mark.parametrize("size", [32, 100, 128, 256])
def test_every_size_shows_the_same_scene(size: int) -> None:
    spec = with_label("mitosis", "frequent", 1)[0]
    tile, reference = render(spec, size), render(spec, 128)
    assert tile.image.shape == (size, size, 3)
    assert tile.image.dtype == np.uint8
    np.testing.assert_allclose((tile.figures + 0.5) / size, (reference.figures + 0.5) / 128, atol=1e-12)
    for name in STRUCTURES:
        assert tile.masks[name].shape == (size, size)
        assert tile.masks[name].mean() == pytest.approx(reference.masks[name].mean(), abs=0.02 + 1 / size)


def test_size_below_the_minimum_names_the_minimum() -> None:
    with pytest.raises(ConfigurationError, match="size 16: a tile has at least 32"):
        render(SPECS[0], 16)


@pytest.mark.parametrize(
    ("label", "counts", "area", "tolerance"),
    [("absent", {0}, 0.0, 0.0), ("rare", {1, 2}, 0.02, 0.005), ("frequent", {5, 6}, 0.09, 0.005)],
)
def test_mitosis_mask_has_the_figures_and_the_area_of_its_class(
    label: str, counts: set[int], area: float, tolerance: float
) -> None:
    tiles = [render(spec) for spec in with_label("mitosis", label, 30)]
    assert {len(tile.figures) for tile in tiles} == counts
    assert np.mean([tile.masks["mitosis"].mean() for tile in tiles]) == pytest.approx(area, abs=tolerance)


def test_figures_lie_in_the_tile_and_the_epithelium_and_apart() -> None:
    for spec in with_label("mitosis", "frequent", 40):
        tile = render(spec)
        centres = (tile.figures + 0.5) / 128
        assert len(centres) == spec.nuclei.figures
        assert centres.min() >= DISC_RADIUS
        assert centres.max() <= 1 - DISC_RADIUS
        gaps = np.linalg.norm(centres[:, None] - centres[None], axis=2) + 9.0 * np.eye(len(centres))
        assert gaps.min() > 2 * DISC_RADIUS
        layout = Layout(spec.tissue, phase=generator(SEED, spec.index, 2).uniform(0.0, 2.0 * np.pi))
        _, height = layout.to_tissue(centres[:, 0], centres[:, 1])
        assert (height > spec.tissue.membrane + 1.4 * NORMAL_RADIUS).all()
        assert (height < spec.tissue.lumen - 1.4 * NORMAL_RADIUS).all()


def test_disc_is_twice_a_normal_nucleus() -> None:
    assert pytest.approx(2 * NORMAL_RADIUS) == DISC_RADIUS
    spec = next(spec for spec in with_label("mitosis", "rare", 30) if spec.nuclei.figures == 1)
    mask = render(spec, 256).masks["mitosis"]
    assert mask.sum() == pytest.approx(np.pi * (DISC_RADIUS * 256) ** 2, rel=0.02)


def test_only_figures_are_nearly_black() -> None:
    """Nothing but chromatin of a figure is as dark as it is: the darkest spot of a tile is one."""
    for spec in [*with_label("mitosis", "rare", 20), *with_label("mitosis", "frequent", 20)]:
        tile = render(spec)
        red = tile.image[..., 0].astype(float)
        inside = red[tile.masks["mitosis"]]
        outside = red[~tile.masks["mitosis"]]
        assert np.percentile(inside, 3) + 15 < np.percentile(outside, 0.2)


def test_nucleoli_are_marked_on_nuclei_only_and_where_the_class_says() -> None:
    for spec in GOOD[:40]:
        masks = render(spec).masks
        assert not (masks["nucleoli"] & ~masks["nuclei"]).any()
        assert masks["nucleoli"].any() == (spec.labels["nucleoli"] == "prominent")


def test_nuclei_lie_on_tissue() -> None:
    for spec in GOOD[:40]:
        masks = render(spec).masks
        assert (masks["nuclei"] & ~masks["tissue"]).sum() <= 0.03 * masks["nuclei"].sum()


def test_insufficient_tiles_have_a_tissue_mask_only_and_little_to_see() -> None:
    poor = [spec for spec in SPECS if spec.quality != "good"]
    assert {spec.quality for spec in poor} == {"blurred", "empty", "washed"}
    sharp = min(
        np.abs(np.diff(render(spec).image[..., 0].astype(float), axis=1)).mean() for spec in GOOD[:40]
    )
    for spec in poor:
        tile = render(spec)
        assert set(tile.masks) == {"tissue"}
        assert tile.masks["tissue"].any()
        assert np.abs(np.diff(tile.image[..., 0].astype(float), axis=1)).mean() < 0.8 * sharp


def test_classes_of_crowding_are_apart_in_the_picture() -> None:
    cover = {}
    for label in LABEL_SPACE["crowding"].classes:
        cover[label] = []
        for spec in with_label("crowding", label, 25):
            layout = Layout(spec.tissue, phase=generator(SEED, spec.index, 2).uniform(0.0, 2.0 * np.pi))
            centres = (np.arange(128) + 0.5) / 128
            _, height = layout.to_tissue(centres[None, :], centres[:, None])
            epithelium = (height > spec.tissue.membrane) & (height < spec.tissue.lumen)
            cover[label].append(render(spec).masks["nuclei"][epithelium].mean())
    absent, moderate, severe = (np.array(cover[label]) for label in LABEL_SPACE["crowding"].classes)
    assert np.percentile(absent, 95) + 0.04 < np.percentile(moderate, 5)
    assert np.percentile(moderate, 95) + 0.02 < np.percentile(severe, 5)


@pytest.mark.parametrize(
    ("label", "low", "high"), [("preserved", 0.9, 1), ("partially lost", 0.35, 0.7), ("lost", 0, 0.25)]
)
def test_classes_of_polarity_are_apart_in_the_nuclei(label: str, low: float, high: float) -> None:
    """R = |mean exp(2 i angle)|: Fisher, Statistical Analysis of Circular Data, 1993, section 2.3."""
    for spec in with_label("polarity", label, 25):
        rng = np.random.default_rng(0)
        layout = Layout(spec.tissue, phase=0.0)
        nuclei = place_nuclei(rng, spec, layout, figures=np.zeros((0, 2)), clearance=0.0)
        angles = nuclei.orientations - spec.tissue.direction
        assert low <= abs(np.exp(2j * angles).mean()) <= high


def test_patches_equal_a_supersampled_ellipse() -> None:
    """Coverage of the analytic edge against the mean of 16 x 16 samples a pixel."""
    spec = with_label("pleomorphism", "mild", 1)[0]
    layout = Layout(spec.tissue, phase=0.0)
    nuclei = place_nuclei(np.random.default_rng(0), spec, layout, figures=np.zeros((0, 2)), clearance=0.0)
    inside = np.flatnonzero((np.abs(nuclei.centres - 0.5) < 0.35).all(axis=1))[:1]
    one = type(nuclei)(
        **{
            name: getattr(nuclei, name)[inside]
            for name in nuclei.__dataclass_fields__
            if name != "irregularity"
        },
        irregularity=0.0,
    )
    size, samples = 128, 16
    (patches,) = nucleus_patches(one, np.zeros((size, size), dtype=np.float32))
    cover = np.zeros((size, size))
    width = patches.paint.shape[-1]
    row, column = int(patches.rows[0]), int(patches.columns[0])
    cover[row : row + width, column : column + width] = patches.paint[0, 2]

    fine = (np.arange(size * samples) + 0.5) / (size * samples)
    dx, dy = fine[None, :] - one.centres[0, 0], fine[:, None] - one.centres[0, 1]
    angle, root = one.orientations[0], np.sqrt(one.elongations[0])
    long, short = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    exact = (np.hypot(long / root, short * root) <= one.radii[0]).reshape(size, samples, size, samples)
    expected = exact.mean(axis=(1, 3))
    assert cover.sum() == pytest.approx(expected.sum(), rel=0.05)
    assert np.abs(cover - expected).max() < 0.25


def test_smooth_noise_has_unit_variance_and_does_not_depend_on_the_size() -> None:
    draws = np.stack([smooth_noise(np.random.default_rng(seed), 12, 60) for seed in range(200)])
    assert draws.mean() == pytest.approx(0.0, abs=0.03)
    assert draws.var() == pytest.approx(1.0, abs=0.05)
    small, large = (smooth_noise(np.random.default_rng(1), 12, size) for size in (60, 180))
    np.testing.assert_allclose(small, large[1::3, 1::3], atol=1e-5)  # the same positions
