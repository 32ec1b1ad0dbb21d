from __future__ import annotations

import numpy as np

from terraflow.eo.targets.classes.colours import PALETTE
from terraflow.eo.targets.classes.figures import confusion_figure, curves_figure
from terraflow.eo.targets.figures import map_figure
from terraflow.eo.training.run_record import importance_figure

NOTE = "simulated data, not measured"


def test_figures_say_that_data_are_simulated() -> None:
    for figure in (
        confusion_figure(np.array([[3, 1], [0, 2]]), ["a", "b"], NOTE),
        map_figure(np.array([[0, 1], [2, 1]], "uint8"), ["a", "b"], NOTE, PALETTE[:2]),
        importance_figure({"ndvi": 0.1}, "macro F1", NOTE),
        curves_figure(np.array(["a", "b"]), np.eye(2), ["a", "b"], PALETTE[:2], NOTE),
    ):
        assert NOTE in figure.axes[0].get_title()


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
