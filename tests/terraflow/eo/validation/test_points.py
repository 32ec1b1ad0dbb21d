"""The round trip of points through files that other programs wrote."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest

from terraflow.eo.validation.points import read_points, write_points
from terraflow.eo.validation.sample import Sample
from terraflow.errors import DataError

Edit = Callable[[gpd.GeoDataFrame], gpd.GeoDataFrame]


@pytest.fixture
def path(sample: Sample, tmp_path: Path) -> Path:
    path = tmp_path / "points.gpkg"
    write_points(sample, path)
    return path


def edited(path: Path, edit: Edit, name: str = "edited.gpkg") -> Path:
    """Edit all rows at once, and write them by OGR."""
    frame = edit(gpd.read_file(path, layer="points"))
    frame.to_file(path.with_name(name), layer="points")
    return path.with_name(name)


def filled(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    return frame.assign(reference="forest", interpreter="Ana Žagar", note="ob poti, 3 m")


def test_points_do_not_tell_what_the_map_says(path: Path, sample: Sample) -> None:
    frame = gpd.read_file(path)
    assert list(frame) == ["id", "lon", "lat", "reference", "interpreter", "note", "geometry"]
    assert frame[["reference", "interpreter", "note"]].isna().all(axis=None)
    assert frame.crs.to_epsg() == 32633
    degrees = frame.geometry.to_crs("EPSG:4326")
    assert np.abs(degrees.x - frame["lon"]).max() < 1e-6
    assert np.abs(degrees.y - frame["lat"]).max() < 1e-6
    with sqlite3.connect(path) as database:
        text = "\n".join(database.iterdump())
    for name in sample.levels:
        assert name not in text


def test_round_trip_through_ogr_loses_nothing(path: Path, sample: Sample) -> None:
    read = pyogrio.read_dataframe(path)
    read = filled(read)
    read.loc[::2, "reference"] = "water"
    read.loc[3, "note"] = "two\nlines; \"quoted\" | 'so'"
    # as ogr2ogr with -t_srs and -sql ORDER BY does: other CRS, other order, other types
    other = read.to_crs("EPSG:3035").sample(frac=1, random_state=1).astype({"id": "float64"})
    for name in ("again.gpkg", "again.geojson", "again.fgb", "again.parquet"):
        target = path.with_name(name)
        frame = other.to_crs("EPSG:4326") if name.endswith("geojson") else other
        if name.endswith("parquet"):
            frame.to_parquet(target)
        else:
            pyogrio.write_dataframe(frame, target)
        told = read_points([target], sample).set_index("id").sort_index()
        expected = read.set_index("id").sort_index()
        for column in ("reference", "interpreter", "note"):
            assert told[column].tolist() == expected[column].tolist(), name


def test_points_of_several_layers_are_asked_for(path: Path, sample: Sample) -> None:
    """The first layer was taken, which may be the one that nobody filled in."""
    frame = filled(gpd.read_file(path, layer="points"))
    frame.to_file(path, layer="by Ana")
    style = pd.DataFrame({"f_table_name": ["points"]})
    pyogrio.write_dataframe(style, path, layer="layer_styles", append=True)
    with pytest.raises(DataError, match=r"points \(\d+ points; id.*by Ana .*keep one of them in a"):
        read_points([path], sample)
    alone = path.with_name("ana.gpkg")
    gpd.read_file(path, layer="by Ana").to_file(alone)
    pyogrio.write_dataframe(style, alone, layer="layer_styles", append=True)
    assert (read_points([alone], sample)["reference"] == "forest").all()


def test_round_trip_of_one_edit_in_the_database_itself(path: Path, sample: Sample) -> None:
    """As QGIS does it, which writes single cells."""
    with sqlite3.connect(path) as database:
        for name, where in (("update", "rtree_points_geom"),):
            database.execute(f"DROP TRIGGER IF EXISTS {where}_{name}1")
        triggers = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in triggers.fetchall():
            database.execute(f'DROP TRIGGER "{name}"')  # they need functions of GDAL's
        database.execute("UPDATE points SET reference = 'water', note = ' wet ' WHERE id = 7")
    told = read_points([path], sample).set_index("id")
    assert (told.loc[7, "reference"], told.loc[7, "note"]) == ("water", "wet")
    assert told.drop(index=7)["reference"].isna().all()
    assert (told["interpreter"] == "points").all()


def moved(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    shift = (frame["id"] == 5).to_numpy() * 3.0
    return frame.set_geometry(frame.geometry.translate(0).where(shift == 0, frame.translate(3)))


def added(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    more = frame.iloc[[0, 1]].assign(id=[99, None])
    return pd.concat([each.astype({"id": "float64"}) for each in (frame, more)])


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda f: f[~f["id"].isin([4, 9])], r"2 missing from edited\.gpkg \(id 4, 9\)"),
        (moved, r"1 moved \(id 5\)"),
        (added, r"2 unknown \(id 99, no id\)"),
        (lambda f: f.iloc[[*range(60), 2]], r"1 twice from one interpreter \(id \d+\)"),
        (
            lambda f: f.assign(reference=np.where(f["id"] == 8, "Forest", "water")),
            r"1 with the unknown reference 'Forest' \(did you mean forest\?\), of forest, "
            r"grassland, water \(id 8\)",
        ),
        (lambda f: f[f["id"] > 20], r"20 missing from edited\.gpkg \(id 1, 2.*10, \.\.\.\)"),
        (lambda f: f.drop(columns="note"), r"has no column note; it has id, lon"),
        (lambda f: f.set_crs(None, allow_override=True), r"no geometries with a CRS"),
    ],
)
@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_edited_points_are_named(edit: Edit, sentence: str, path: Path, sample: Sample) -> None:
    with pytest.raises(DataError, match=sentence):
        read_points([edited(path, edit)], sample)


def test_all_that_is_wrong_is_told_at_once(path: Path, sample: Sample) -> None:
    def edit(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
        return moved(frame)[lambda f: f["id"] != 4].assign(reference="ice")

    with pytest.raises(DataError, match=r"moved .*unknown reference 'ice'.*missing .*; mend"):
        read_points([edited(path, edit)], sample)


def test_interpreters_may_have_a_file_each_or_rows_of_one(path: Path, sample: Sample) -> None:
    anna = edited(path, lambda f: f.assign(reference="forest"), "anna.gpkg")
    ben = edited(path, lambda f: f.assign(reference="water", interpreter="Ben"), "b.gpkg")
    told = read_points([anna, ben], sample)
    assert told.groupby("interpreter")["reference"].unique().to_dict() == {
        "anna": ["forest"],
        "Ben": ["water"],
    }
    both = edited(path, lambda f: pd.concat([f.assign(interpreter="Ben"), filled(f)]), "both.gpkg")
    assert len(read_points([both], sample)) == 120


def test_clusters_are_kept_and_no_file_is_a_sentence(path: Path, sample: Sample) -> None:
    clustered = edited(path, lambda f: f.assign(cluster=f["id"] // 4))
    assert read_points([clustered], sample)["cluster"].nunique() == 16
    with pytest.raises(DataError, match=r"no\.gpkg can't be read"):
        read_points([path.with_name("no.gpkg")], sample)
