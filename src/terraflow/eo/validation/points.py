"""Points of a sample as a GeoPackage: written empty, and read with reference values."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd

from terraflow.eo.targets.vectors.formats import read_layer, why
from terraflow.eo.targets.vectors.layers import choose, find_layers
from terraflow.eo.targets.vectors.purpose import POINTS
from terraflow.eo.validation.sample import Sample
from terraflow.errors import DataError, did_you_mean

__all__ = ["LAYER", "read_points", "write_points"]

LAYER = "points"
COLUMNS = ("id", "reference", "interpreter", "note")
#: Of a pixel's side: a point that lies farther from its place was moved.
MOVED = 0.01
_SHOWN = 10


def write_points(sample: Sample, path: Path) -> None:
    """Write the points without their strata and without what the map says.

    Columns are id, lon and lat (degrees, WGS84), and the empty reference, interpreter and note;
    geometries are pixel centres in the map's CRS. The reference is a text, or a real number where
    the map holds numbers.
    """
    x, y = ([getattr(point, axis) for point in sample.points] for axis in "xy")
    frame = gpd.GeoDataFrame(
        {"id": [point.id for point in sample.points]},
        geometry=gpd.points_from_xy(x, y),
        crs=sample.crs,
    )
    degrees = frame.geometry.to_crs("EPSG:4326")
    frame["lon"], frame["lat"] = degrees.x.round(7), degrees.y.round(7)
    for name in COLUMNS[1:]:
        number = name == "reference" and not sample.levels
        frame[name] = pd.Series([None] * len(frame), dtype="float64" if number else "str")
    frame.to_file(path, layer=LAYER, driver="GPKG")


def read_points(paths: Sequence[Path], sample: Sample) -> pd.DataFrame:
    """Read what interpreters said of a sample's points: one file each, or rows of one file.

    Parameters
    ----------
    paths : sequence of Path
        In any format OGR reads, or GeoParquet, in any CRS, as the only layer. Where a file names no
        interpreter, its name stands for one.

    Returns
    -------
    DataFrame
        id (int64), reference (str, None where there is none; float64, NaN where there is none, of a
        map of numbers), interpreter and note (str), and cluster where a file has that column; one
        row for each point and interpreter.

    Raises
    ------
    DataError
        Points are missing, unknown, moved or there twice, or have an unknown reference value, or
        one that is no number where the map holds numbers: all of them are named.
    """
    frames = [_read(path, sample) for path in paths]
    told = pd.concat(frames, ignore_index=True)
    problems = _problems(told, sample)
    for path, frame in zip(paths, frames, strict=True):
        if missing := sorted({point.id for point in sample.points} - set(frame["id"])):
            problems.append(f"{len(missing)} missing from {path.name} ({_listed(missing)})")
    if problems:
        raise DataError(
            f"The points of {', '.join(str(path) for path in paths)} are not as they were drawn: "
            f"{'; '.join(problems)}; mend the file, or take a fresh copy of what `validate draw` "
            "wrote."
        )
    wanted = [name for name in (*COLUMNS, "cluster") if name in told]
    types = {"id": "int64"} if sample.levels else {"id": "int64", "reference": "float64"}
    return told[wanted].astype(types)


def _read(path: Path, sample: Sample) -> gpd.GeoDataFrame:
    try:
        with warnings.catch_warnings(action="ignore"):
            layer = choose(find_layers(path), "", POINTS, str(path))
            frame = read_layer(layer)
    except (RuntimeError, ValueError, OSError) as error:
        raise DataError(
            f"{path} can't be read: {why(error, path)}; name the points that `validate draw` wrote."
        ) from error
    if lacking := [name for name in COLUMNS if name not in frame.columns]:
        raise DataError(
            f"{path} has no column {', '.join(lacking)}; it has {', '.join(frame.columns)}; name "
            "the points that `validate draw` wrote."
        )
    if not isinstance(frame, gpd.GeoDataFrame) or frame.crs is None:
        raise DataError(
            f"{path} has no geometries with a CRS; name the points that `validate draw` wrote."
        )
    if path.suffix.lower() == ".gpkg" and not sample.levels:
        texts = _texts(path, layer.inner)
        as_read = frame["reference"].astype("object")
        frame["reference"] = as_read.mask(frame["id"].isin(texts.index), frame["id"].map(texts))
    places = frame.geometry.to_crs(sample.crs)
    usable = places.geom_type.eq("Point") & ~places.is_empty
    text = {name: frame[name].astype("str").where(frame[name].notna()) for name in COLUMNS[1:]}
    text = {name: column.str.strip().replace("", None) for name, column in text.items()}
    told = pd.DataFrame(
        {
            "id": pd.to_numeric(frame["id"], errors="coerce").astype("float64"),
            "reference": text["reference"],
            "interpreter": text["interpreter"].fillna(path.stem),
            "note": text["note"].fillna(""),
            "x": places.where(usable).x,
            "y": places.where(usable).y,
        }
    )
    return told.assign(cluster=frame["cluster"]) if "cluster" in frame else told


def _texts(path: Path, layer: str) -> pd.Series:
    """Find texts among a GeoPackage's references by id: OGR reads them as 0 in a real column.

    References
    ----------
    https://www.sqlite.org/datatype3.html: a column's type does not bind its values.
    """
    query = (  # of the file itself, which it can but read
        f'SELECT id, CAST(reference AS TEXT) AS reference FROM "{layer}" '  # noqa: S608
        "WHERE typeof(reference) = 'text'"
    )
    found = gpd.read_file(path, sql=query, ignore_geometry=True)
    return found.drop_duplicates("id").set_index("id")["reference"].astype("object")


def _problems(told: pd.DataFrame, sample: Sample) -> list[str]:
    """Name what is wrong with the points that are there."""
    drawn = pd.DataFrame([(p.id, p.x, p.y) for p in sample.points], columns=["id", "x0", "y0"])
    beside = told.merge(drawn, on="id", how="left")
    unknown = beside["x0"].isna()
    shift = np.hypot(beside["x"] - beside["x0"], beside["y"] - beside["y0"])
    moved = ~unknown & ~(shift <= MOVED * sample.pixel_size)
    twice = told.duplicated(["id", "interpreter"])
    problems = [
        f"{len(ids)} {word} ({_listed(ids)})"
        for word, ids in (
            ("unknown", told["id"][unknown].tolist()),
            ("moved", told["id"][moved].tolist()),
            ("twice from one interpreter", sorted(set(told["id"][twice]))),
        )
        if ids
    ]
    return problems + _wrong_references(told, sample.levels)


def _wrong_references(told: pd.DataFrame, levels: Sequence[str]) -> list[str]:
    """Name reference values that are none of the map's names, or no numbers where it has none."""
    reference = told["reference"]
    if levels:
        usable = reference.isin(levels)
    else:
        usable = np.isfinite(pd.to_numeric(reference, errors="coerce").astype("float64"))
    problems = []
    for word in sorted(set(reference[reference.notna() & ~usable])):
        ids = told["id"][reference == word].tolist()
        if levels:
            expected = f"unknown reference {word!r}{did_you_mean(word, levels)}, of "
            expected += ", ".join(levels)
        else:
            expected = f"reference {word!r}, which is no number"
        problems.append(f"{len(ids)} with the {expected} ({_listed(ids)})")
    return problems


def _listed(ids: Sequence[float]) -> str:
    shown = ", ".join("no id" if np.isnan(i) else f"{i:g}" for i in ids[:_SHOWN])
    return f"id {shown}" + (", ..." if len(ids) > _SHOWN else "")
