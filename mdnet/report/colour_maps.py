"""Two colour maps: a diverging one for evidence, a sequential one for attention.

Both are straight lines in CIELAB, sampled at even distances, so that equal steps of value look
equally large; both keep a large difference of lightness or of blue against yellow along the way,
which colour-blind readers see. CIELAB and sRGB as in IEC 61966-2-1 with white point D65.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["COLOURS", "diverging", "sequential"]

COLOURS = 255  # odd, so that the diverging map has one colour that means zero

_BLUE, _WHITE, _ORANGE = (
    (46.0, 0.0, -49.0),
    (97.0, 0.0, 0.0),
    (46.0, 33.0, 36.222),
)  # ends equally far from white
_NAVY, _GREY, _YELLOW = (12.0, 10.0, -30.0), (51.0, 2.0, 2.0), (90.0, -2.0, 55.0)

_WHITE_POINT = np.array([0.95047, 1.0, 1.08883])
_XYZ_TO_RGB = np.array(
    [
        [3.2404542, -1.5371385, -0.4985314],
        [-0.9692660, 1.8760108, 0.0415560],
        [0.0556434, -0.2040259, 1.0572252],
    ]
)


def diverging() -> npt.NDArray[np.uint8]:
    """Blue (against) over near-white (zero, the middle entry) to orange (for): (255, 3) sRGB."""
    return _sampled(_BLUE, _WHITE, _ORANGE)


def sequential() -> npt.NDArray[np.uint8]:
    """Navy (zero) over grey to yellow (largest): (255, 3) sRGB, lightness always rising."""
    return _sampled(_NAVY, _GREY, _YELLOW)


def _sampled(*anchors: tuple[float, float, float]) -> npt.NDArray[np.uint8]:
    """Colours at even distances along the line through CIELAB `anchors`."""
    points = np.array(anchors)
    distance = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.linspace(0.0, distance[-1], COLOURS)
    lab = np.stack([np.interp(at, distance, channel) for channel in points.T], axis=1)
    return _to_srgb(lab)


def _to_srgb(lab: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """CIELAB (n, 3) to 8-bit sRGB (n, 3)."""
    y = (lab[:, 0] + 16.0) / 116.0
    f = np.stack([y + lab[:, 1] / 500.0, y, y - lab[:, 2] / 200.0], axis=1)
    xyz = _WHITE_POINT * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    linear = np.clip(xyz @ _XYZ_TO_RGB.T, 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * encoded).astype(np.uint8)
