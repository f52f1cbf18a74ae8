"""Colour maps: even steps, a true zero, and readable by colour-blind eyes."""

from __future__ import annotations

import numpy as np
import pytest

from mdnet.report.colour_maps import COLOURS, diverging, sequential

# Machado, Oliveira & Fernandes 2009, severity 1.0, on linear RGB.
PROTANOPIA = [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
]
DEUTERANOPIA = [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
]


def lab(rgb: np.ndarray, seen_as: list[list[float]] | None = None) -> np.ndarray:
    """CIELAB (n, 3) of 8-bit sRGB, optionally as seen with a colour vision deficiency."""
    value = rgb / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    if seen_as is not None:
        linear = np.clip(linear @ np.array(seen_as).T, 0, 1)
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    xyz = linear @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("table", [diverging, sequential])
def test_equal_steps_of_value_are_equal_steps_of_colour(table) -> None:
    steps = np.linalg.norm(
        np.diff(lab(table())[::16], axis=0), axis=1
    )  # 16 at a time: 8-bit rounding is coarse
    assert table().shape == (COLOURS, 3)
    assert steps.std() / steps.mean() < 0.08


def test_zero_of_the_diverging_map_is_neutral_and_both_sides_are_equally_strong() -> None:
    colours = lab(diverging())
    middle = COLOURS // 2
    assert np.linalg.norm(colours[middle, 1:]) < 1.0
    assert np.abs(colours[:, 0] - colours[::-1, 0]).max() < 2.0


@pytest.mark.parametrize("deficiency", [PROTANOPIA, DEUTERANOPIA])
def test_sides_of_the_diverging_map_stay_apart_for_colour_blind_readers(deficiency) -> None:
    colours = lab(diverging(), deficiency)
    assert np.linalg.norm(colours[0] - colours[-1]) > 50
    assert np.linalg.norm(colours[63] - colours[-64]) > 25


@pytest.mark.parametrize("deficiency", [None, PROTANOPIA, DEUTERANOPIA])
def test_lightness_of_the_sequential_map_always_rises(deficiency) -> None:
    assert (np.diff(lab(sequential(), deficiency)[::4, 0]) > 0).all()
