"""Pictures of the inside: written whole, true to scale, and drawn for zeros and odd shapes too."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mdnet.explain.activations import Hit, LayerStatistics
from mdnet.explain.gradient_flow import GradientFlow, LayerGradient
from mdnet.explain.maximisation import Maximisation
from mdnet.report.activation_pictures import activation_sheet, statistics_picture, unit_sheet
from mdnet.report.figures import save_figure
from mdnet.report.network_pictures import gradient_picture, maximisation_picture

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def panels(figure) -> list:
    """All drawn maps of a figure that have a colour scale."""
    return [image for axis in figure.axes for image in axis.get_images() if image.get_array().ndim == 2]


@pytest.mark.parametrize("signed", [False, True])
def test_all_channels_of_a_sheet_share_one_scale_that_holds_zero(signed):
    maps = np.random.default_rng(1).random((10, 5, 6))
    maps[3] *= 50
    maps -= 10 if signed else 0
    figure = activation_sheet(IMAGE, maps, layer="some.layer")
    tiles = [panel for panel in panels(figure) if panel.get_array().shape == (5, 6)][1:]  # heat map first
    assert len(tiles) == 10
    limit = np.abs(maps).max()
    assert {panel.get_clim() for panel in tiles} == {(-limit if signed else 0.0, limit)}
    for panel, channel in zip(tiles, maps, strict=True):
        np.testing.assert_array_equal(panel.get_array(), channel)


def test_of_many_channels_the_strongest_are_shown_under_their_own_numbers():
    maps = np.zeros((100, 4, 4))
    maps[30:94] = 1.0
    figure = activation_sheet(IMAGE, maps, layer="wide")
    assert "64 strongest of 100" in figure.get_suptitle()
    titles = {axis.get_title() for axis in figure.axes}
    assert {"30", "93"} <= titles
    assert "29" not in titles


def test_a_map_of_zeros_is_drawn_as_zeros(tmp_path):
    figure = activation_sheet(IMAGE, np.zeros((3, 4, 4)), layer="dead")
    assert all(panel.get_clim()[0] == 0.0 for panel in panels(figure) if panel.get_array().shape == (4, 4))
    with Image.open(save_figure(figure, tmp_path / "deep" / "zero.png")) as picture:
        assert picture.size[0] == 1500


@pytest.mark.parametrize("shape", [(4, 6), (1, 1), (1, 7)])
def test_a_unit_sheet_marks_the_peak_where_it_is_in_the_image(tmp_path, shape):
    heat = np.zeros(shape, np.float32)
    heat[-1, -1] = 2.0
    figure = unit_sheet(
        [IMAGE, IMAGE], [Hit(0, 2.0, heat), Hit(1, 0.0, heat * 0)], names=["a", "b"], unit="u"
    )
    cross = figure.axes[0].lines[0]
    rows, columns = shape
    assert cross.get_xydata()[0].tolist() == pytest.approx([60 - 30 / columns, 40 - 20 / rows])
    assert {panel.get_clim() for panel in panels(figure)} == {(0.0, 2.0)}  # one scale
    save_figure(figure, tmp_path / "unit.png")


def test_statistics_of_bounded_and_unbounded_layers_say_how_many_units_are_dead(tmp_path):
    numbers = np.array([0.0, 0.5])
    layers = [
        LayerStatistics("relu", 3, 30, numbers * 0, numbers, numbers / 2, 1 - numbers, None),
        LayerStatistics("tanh", 3, 30, numbers * 0, numbers, numbers / 2, 1 - numbers, numbers * 2),
    ]
    figure = statistics_picture(layers)
    texts = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert texts == ["1 of 2 dead", "1 of 2 dead, 1 saturated"]
    save_figure(figure, tmp_path / "statistics.png")


def test_a_gradient_picture_has_a_dot_for_every_layer_reached_and_says_the_warnings(tmp_path):
    layers = (
        LayerGradient("a", 5, 1.0, {"classification": 1.0, "language": 1e-6}),
        LayerGradient("b", 5, 0.0, {"classification": 2.0, "language": 1.0}),
        LayerGradient("c", 5, 2.0, {"classification": None, "language": 1.0}),
        LayerGradient("d", 5, 2.0, {"classification": None, "language": 1.0}),
    )
    figure = gradient_picture(GradientFlow({"classification": 0.5, "language": 1.5}, layers))
    norms, ratios = figure.axes
    assert norms.lines[0].get_xydata().tolist() == [[1.0, 0.0], [2.0, 1.0]]
    assert ratios.lines[0].get_xydata().tolist() == [[1.0, 0.0]]
    assert [label.get_text() for label in norms.get_yticklabels()] == ["a", "b", "c", "d"]
    assert "a: vanishing: the gradient of language" in figure.get_suptitle()
    save_figure(figure, tmp_path / "gradients.png")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_maximisation_stands_beside_the_best_real_image(tmp_path, channels):
    result = Maximisation(
        IMAGE[:, :, :channels], 5.0, np.array([0.0, 3.0, 4.0]), np.array([1.0, 2.0]), "unit", {"steps": 3}
    )
    figure = maximisation_picture(result, IMAGE, best_name="p7", unit="activation")
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:2] == ["made: 5", "best of 2 real: 2\np7"]
    save_figure(figure, tmp_path / "maximise.png")
