"""A test bed: small data whose every pixel is known, and the commands that a user runs on them."""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import rasterio
from invoke import Program

from field.scenes import truth
from terraflow.tasks import namespace

Numbers = npt.NDArray[Any]
#: Libraries whose warnings a user can do nothing about.
LIBRARIES = re.compile(r"site-packages/(pyogrio|rio_stac|odc|numpy|rasterio|geopandas|pystac)/")
BASE: dict[str, dict[str, Any]] = {
    "data": {"files": "*.tif"},
    "data.bands": {"blue": "image.1", "green": "image.2", "red": "image.3", "nir": "image.4"},
    "labels": {"source": "labels.gpkg"},
    "features": {"composites": "whole", "statistics": []},
    "model": {"name": "random_forest", "parameters": {"n_estimators": 10}},
    "validation": {"block_size_px": 12, "folds": 3},
}


@dataclass(frozen=True)
class Said:
    """Exit code of a command, and what it printed."""

    code: int
    text: str


@dataclass
class Bed:
    """A folder with data and a configuration, in which commands are run as a user does.

    Attributes
    ----------
    folder : Path
        Where data and config.toml lie.
    config : dict
        Section to its keys, as config.toml gets them.
    map : Path
        Where `map` writes.
    """

    folder: Path
    capture: pytest.CaptureFixture[str]
    config: dict[str, dict[str, Any]] = field(default_factory=lambda: json.loads(json.dumps(BASE)))

    def __post_init__(self) -> None:
        self.map = self.folder / "out" / "map.tif"

    def set(self, section: str, **keys: Any) -> None:
        """Set keys of a section; None removes one."""
        now = self.config.setdefault(section, {})
        now |= keys
        for key in [key for key, value in now.items() if value is None]:
            del now[key]

    def run(self, *words: str, config: Path | None = None) -> Said:
        """Run `invoke WORDS --config config.toml`."""
        path = config or self.folder / "config.toml"
        if config is None:
            name = re.sub("[^a-z0-9]+", "-", self.folder.name.lower()).strip("-")
            path.write_text(f'name = "{name}"\n{to_toml(self.config)}')
        self.capture.readouterr()
        argv, sys.argv = sys.argv, ["invoke", *words, "--config", str(path)]
        code = 0
        try:
            with warnings.catch_warnings(record=True) as told:
                Program(namespace=namespace).run(sys.argv, exit=False)
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            sys.argv = argv
        text = "".join(self.capture.readouterr())
        assert "Traceback" not in text, text
        assert not [w for w in told if LIBRARIES.search(w.filename)], [str(w) for w in told]
        return Said(code, text)

    def ok(self, *words: str) -> str:
        """Run a command that succeeds; return what it printed."""
        done = self.run(*words)
        assert done.code == 0, done.text
        return done.text

    def fails(self, *words: str, says: Sequence[str] = ()) -> str:
        """Run a command that ends with one sentence for the user, in which all of `says` is."""
        done = self.run(*words)
        assert done.code == 1, done.text
        sentence = done.text.strip().splitlines()[-1]
        assert not [each for each in says if each.lower() not in sentence.lower()], sentence
        return sentence

    def table(self) -> pd.DataFrame:
        """Run `preprocess`: the samples."""
        return read_samples(self.ok("preprocess"))

    def samples(self) -> dict[str, int]:
        """Run `preprocess`: how many samples each class has."""
        return {str(k): int(n) for k, n in self.table()["class_name"].value_counts().items()}

    def check_map(
        self,
        hidden: Numbers | None = None,
        *,
        names: Mapping[str, str] | None = None,
        expected: Numbers | None = None,
        least: float = 0.98,
    ) -> str:
        """Run train, map and report: what is hidden is nodata, the rest is true, areas add up.

        Parameters
        ----------
        hidden : ndarray, shape (96, 96), bool
            Pixels that have no value.
        names : dict
            Class in the truth to that on the map, where they differ.
        expected : ndarray, shape (96, 96), str
            Class of each pixel, in place of `scenes.truth()`.

        Returns
        -------
        str
            All that was printed.
        """
        said = self.ok("train")
        said += self.ok("map", "--output", str(self.map))
        found = read_map(self.map)
        right = truth() if expected is None else expected
        if names:
            right = np.vectorize(lambda n: names.get(n, n), otypes=[object])(right)
        hidden = np.zeros(right.shape, bool) if hidden is None else hidden
        assert found.shape == right.shape
        assert (found == "")[hidden].all(), f"{(found != '')[hidden].sum()} hidden pixels mapped"
        assert (found != "")[~hidden].all(), f"{(found == '')[~hidden].sum()} pixels are not mapped"
        assert (found == right)[~hidden].mean() >= least
        said += self.ok("report", "--map", str(self.map))
        areas = json.loads(self.map.with_name(f"{self.map.stem}_area.json").read_text())
        pixels = {name: each["pixels"] for name, each in areas["classes"].items()}
        assert pixels == {n: (found == n).sum() for n in np.unique(found[found != ""])}
        return said


def beside(first: Any, *others: Any) -> list[Any]:
    """Give a case, and others of its kind that are exhaustive."""
    return [first, *(pytest.param(each, marks=pytest.mark.exhaustive) for each in others)]


def latin(first: Sequence[Any], second: Sequence[Any]) -> list[Any]:
    """Pair each value of both with one of the other; all other pairs are exhaustive."""
    return [
        (one, other)
        if number % len(second) == place
        else pytest.param(one, other, marks=pytest.mark.exhaustive)
        for number, one in enumerate(first)
        for place, other in enumerate(second)
    ]


def read_samples(text: str) -> pd.DataFrame:
    """Read the samples whose address `preprocess` printed."""
    found = re.search(r"Samples: (\S+)", text)
    assert found, text
    return pd.read_parquet(found[1])


def read_map(path: Path) -> Numbers:
    """Read the class of each pixel: shape (y, x), str, "" is nodata."""
    with rasterio.open(path) as file:
        values, tags = file.read(1), file.tags() | file.tags(1)
    names = {int(k.removeprefix("CLASS_")): v for k, v in tags.items() if k.startswith("CLASS_")}
    return np.vectorize(lambda value: names.get(value, ""), otypes=[object])(values)


def to_toml(config: Mapping[str, Mapping[str, Any]]) -> str:
    """Write sections as TOML."""
    return "\n".join(
        "\n".join([f"[{name}]", *(f"{key} = {_value(value)}" for key, value in keys.items())])
        for name, keys in config.items()
    )


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return (
        json.dumps(value, ensure_ascii=False)
        if isinstance(value, str | list | bool)
        else str(value)
    )
