from __future__ import annotations

import numpy as np
import pytest

from terraflow.eo.targets.figures import map_figure, number_figure

BOUNDS = (500_000.0, 5_099_970.0, 500_040.0, 5_100_000.0)


def test_map_figure_has_a_legend_and_coordinates() -> None:
    numbers = np.array([[0, 1, 2, 2]] * 3, dtype="uint8")
    figure = map_figure(
        numbers,
        ["forest", "water"],
        "simulated",
        ["#00ff00", "#0000ff"],
        bounds=BOUNDS,
        title="Land cover",
    )
    [axes] = figure.axes
    assert axes.get_title() == "Land cover\nsimulated"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["forest", "water"]
    assert axes.images[0].get_extent() == [500_000, 500_040, 5_099_970, 5_100_000]
    assert axes.get_xlabel() == "easting"


def test_number_figure_is_scaled_without_the_extremes_and_nodata() -> None:
    values = np.append(np.arange(101.0), [np.nan, np.nan, 50]).reshape(8, 13)
    figure = number_figure(values, "yield (t/ha)", "simulated")
    axes, scale = figure.axes
    assert axes.images[0].get_clim() == pytest.approx((2, 98), abs=0.1)
    assert scale.get_ylabel() == "yield (t/ha)"
    assert axes.get_title() == "Map\nsimulated"
    assert axes.get_xlabel() == "column"


def test_number_figure_of_nodata_alone_can_be_drawn() -> None:
    figure = number_figure(np.full((2, 3), np.nan), "yield", "")
    assert figure.axes[0].images[0].get_clim() == (0, 1)
