from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from terraflow.eo.monitoring.drift import Drift, drift_figure
from terraflow.eo.targets.classes.figures import confusion_figure, curves_figure
from terraflow.eo.targets.figures import map_figure, number_figure
from terraflow.eo.training.run_record import importance_figure

SRC = Path(__file__).resolve().parents[4] / "src" / "terraflow" / "eo"
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


def is_whole(figure: Figure) -> bool:
    """Tell whether all that a figure shows lies within it."""
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return min(box.x0, box.y0, width - box.x1, height - box.y1) >= 0


NAMES = st.lists(st.text("abc mW-_", min_size=1, max_size=90), min_size=2, max_size=9, unique=True)


@settings(max_examples=8)
@given(names=NAMES, note=st.text("ab W\n", max_size=200), wide=st.sampled_from([0.2, 1, 5]))
def test_figures_cut_nothing_off(names: list[str], note: str, wide: float) -> None:
    n, colours = len(names), ["#123456"] * len(names)
    numbers = np.ones((20, int(20 * wide)), "uint8")
    reference = np.array(names * 2, dtype=object)
    features = dict.fromkeys(names, 0.1)
    figures = [
        map_figure(numbers, names, note, colours, bounds=BOUNDS, title=names[0]),
        number_figure(numbers.astype(float), names[0], note, title=names[1]),
        confusion_figure(np.eye(n, dtype="int64"), names, note),
        curves_figure(reference, np.full((2 * n, n), 1 / n), names, colours, note),
        importance_figure(features, "macro F1", note),
        drift_figure(Drift(features, features, 0.1), 0.2, dict.fromkeys(names, (0.1, 0.2)), note),
    ]
    assert [is_whole(figure) for figure in figures] == [True] * 6


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


def test_figures_are_drawn_by_defaults_whatever_a_matplotlibrc_says(tmp_path: Path) -> None:
    """Drawn in a process that has read one, of the folder it stands in."""
    (tmp_path / "matplotlibrc").write_text(
        "text.usetex: True\nimage.origin: lower\nsavefig.format: pdf\nfont.size: 40\n"
    )
    code = (
        "import sys; import matplotlib; from pathlib import Path; import numpy as np;"
        "from terraflow.eo.targets.figures import number_figure, plain;"
        "told = matplotlib.rcParams['text.usetex'];"
        "draw = plain()(lambda: number_figure(np.eye(9), 'x', '', bounds=(0, 0, 9, 9), title='a')"
        ".savefig(sys.argv[1]));"
        "draw(); print(told, matplotlib.rcParams['text.usetex'])"
    )
    pictures = []
    for cwd, told in ((tmp_path, "True True"), (tmp_path.parent, "False False")):
        picture = tmp_path / f"{len(pictures)}.png"
        done = subprocess.run(
            [sys.executable, "-c", code, picture],
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == told
        pictures.append(picture.read_bytes())
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(
    "module",
    ["monitoring.monitor", "training.run_record", "targets.numbers", "targets.classes.report"],
)
def test_what_writes_figures_draws_them_plainly(module: str) -> None:
    source = (SRC / Path(*module.split("."))).with_suffix(".py").read_text()
    tree = ast.parse(source)
    writing = [
        function
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        if any(word in ast.unparse(function) for word in ("log_figure(", ".savefig("))
    ]
    inner = [f for f in writing if not any(g is not f and g in ast.walk(f) for g in writing)]
    assert inner
    assert [[ast.unparse(d) for d in f.decorator_list] for f in inner] == [["plain()"]] * len(inner)
