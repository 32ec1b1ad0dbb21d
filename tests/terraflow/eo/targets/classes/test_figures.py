from __future__ import annotations

import numpy as np
import pytest

from terraflow.eo.targets.classes.colours import CUSTOMARY, PALETTE, class_colours
from terraflow.eo.targets.classes.figures import confusion_figure, curves_figure
from terraflow.eo.targets.figures import map_figure
from terraflow.eo.training.run_record import importance_figure

NOTE = "simulated data, not measured"


def test_class_colours_takes_the_configured_ones_and_no_other_class_has_them() -> None:
    configured = {"forest": PALETTE[1], "water": PALETTE[0]}
    colours = class_colours(["forest", "lava", "water"], configured)
    assert colours == [PALETTE[1], PALETTE[2], PALETTE[0]]


def test_class_colours_are_customary_by_name_once_each() -> None:
    colours = class_colours(["Broadleaved forest", "needleleaved forest", "water"], {})
    assert colours == [CUSTOMARY["forest"], PALETTE[0], CUSTOMARY["water"]]


@pytest.mark.parametrize("given", [0, 20])
def test_class_colours_more_classes_than_the_palette_repeat_it(given: int) -> None:
    configured = {f"class {i}": colour for i, colour in enumerate(PALETTE[:given])}
    colours = class_colours([f"class {i}" for i in range(41)], configured)
    assert colours[20:] == [*PALETTE, PALETTE[0]]


def test_figures_say_that_data_are_simulated() -> None:
    for figure in (
        confusion_figure(np.array([[3, 1], [0, 2]]), ["a", "b"], NOTE),
        map_figure(np.array([[0, 1], [2, 1]], "uint8"), ["a", "b"], NOTE, PALETTE[:2]),
        importance_figure({"ndvi": 0.1}, "macro F1", NOTE),
        curves_figure(np.array(["a", "b"]), np.eye(2), ["a", "b"], PALETTE[:2], NOTE),
    ):
        assert NOTE in figure.axes[0].get_title()


def test_map_figure_draws_each_class_in_its_colour() -> None:
    figure = map_figure(np.array([[0, 1, 2]], "uint8"), ["a", "b"], "", ["#ff0000", "#0000ff"])
    image = figure.axes[0].images[0]
    drawn = image.to_rgba(image.get_array(), bytes=True)[0]
    assert drawn.tolist() == [[255, 255, 255, 255], [255, 0, 0, 255], [0, 0, 255, 255]]


def test_importance_figure_shows_the_greatest_first_and_no_more_than_asked() -> None:
    losses = {f"f{i:02}": i / 100 for i in range(30)}
    axes = importance_figure(losses, "macro F1", "", most=3).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["f29", "f28", "f27"]
    assert [bar.get_width() for bar in axes.patches] == [0.29, 0.28, 0.27]
    assert axes.yaxis_inverted()
    assert "3 of 30 features" in axes.get_title()


def test_curves_figure_by_hand() -> None:
    """Of three pixels ranked a, b, a: at the second "a", all are found among three taken."""
    reference = np.array(["a", "b", "a"], dtype=object)
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])
    axes = curves_figure(reference, probabilities, ["a", "b"], ["#ff0000", "#0000ff"], "").axes[0]
    line = axes.lines[0]
    assert line.get_color() == "#ff0000"
    points = set(zip(line.get_xdata().tolist(), line.get_ydata().round(3).tolist(), strict=True))
    assert points == {(1, 0.667), (0.5, 0.5), (0.5, 1), (0, 1)}
    assert line.get_label() == f"a ({0.5 * 1 + 0.5 * 2 / 3:.2f})"
