from __future__ import annotations

import numpy as np

from terraflow.eo.targets.figures import map_figure


def test_map_figure_draws_each_class_in_its_colour() -> None:
    figure = map_figure(np.array([[0, 1, 2]], "uint8"), ["a", "b"], "", ["#ff0000", "#0000ff"])
    image = figure.axes[0].images[0]
    drawn = image.to_rgba(image.get_array(), bytes=True)[0]
    assert drawn.tolist() == [[255, 255, 255, 255], [255, 0, 0, 255], [0, 0, 255, 255]]
