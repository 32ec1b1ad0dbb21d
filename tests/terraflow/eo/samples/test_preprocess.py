from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from shapely.geometry import Polygon, box

from area import Area, make_project, write_labels, write_raster
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.features import windows
from terraflow.eo.hooks import Hooks
from terraflow.eo.images.collection import Images
from terraflow.eo.images.ingest import ingest
from terraflow.eo.project import OpenProject, Project
from terraflow.eo.samples.preprocess import Prepared, check, preprocess, read_report, show, step
from terraflow.eo.targets.classes.labels import patches
from terraflow.errors import ConfigError, DataError
from terraflow.storage import Storage

ONES = np.ones((16, 16), "uint8")
NAME = "twice"


def named(cube: xr.Dataset) -> dict[str, Any]:
    """Give one feature, by the name of the moment."""
    return {NAME: 2 * cube["red"].isel(time=0)}


def ingested(
    area: Area, storage: Storage, tmp_path: Path, *, write: bool = True, **changes: object
) -> tuple[ProjectConfig, Images]:
    labels = tmp_path / "labels.gpkg"
    if write:
        write_labels(labels)
    values = {"start": "2024-01-01", "end": "2024-12-31", "bands": {"red": "B04"}}
    project = make_project(
        data=values | {"catalogue": str(area.save())},
        labels={"source": str(labels), "field": "kind"},
        **changes,
    )
    return project, ingest(project, storage)


def prepare(area: Area, storage: Storage, tmp_path: Path, **changes: object) -> Prepared:
    project, images = ingested(area, storage, tmp_path, **changes)
    return preprocess(project, Hooks(), images, storage)


def test_preprocess_samples_know_their_place_class_and_block(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    rows, columns = np.mgrid[:16, :16]
    red = (1000 + 100 * rows + columns).astype("uint16")
    area.add("2024-04-01", red, ONES)
    squares = {"block_size_px": 4, "folds": 2, "whole_polygons": False}
    prepared = prepare(area, storage, tmp_path, validation=squares)
    samples = gpd.read_parquet(prepared.samples)
    assert len(samples) == 256
    assert samples.crs == "EPSG:32633"
    row = ((5_100_000 - samples["y"]) / 10 - 0.5).round().astype(int)
    column = ((samples["x"] - 500_000) / 10 - 0.5).round().astype(int)
    np.testing.assert_allclose(
        samples["red_2024-04"], (1000 + 100 * row + column) * 0.0001 - 0.1, atol=1e-7
    )
    assert (samples["class_name"] == np.where(column < 8, "water", "forest")).all()
    assert (samples["block"] == row // 4 * 4 + column // 4).all()


def test_preprocess_population_is_of_any_pixel_with_all_features(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    mask = ONES.copy()
    mask[0, 0] = 9
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), mask)
    population = gpd.read_parquet(prepare(area, storage, tmp_path).population)
    assert list(population.columns) == [
        "x",
        "y",
        "red_2024-04",
        "red_max",
        "red_std",
        "geometry",
    ]
    assert len(population) == 255
    assert not ((population["x"] == 500_005) & (population["y"] == 5_099_995)).any()


def test_preprocess_reports_the_data(area: Area, storage: Storage, tmp_path: Path) -> None:
    mask = ONES.copy()
    mask[0] = 9
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), mask)
    area.add("2024-06-01", np.full((16, 16), 3000, "uint16"), ONES)
    report = read_report(prepare(area, storage, tmp_path).report, storage)
    assert report.features == [
        "red_2024-04",
        "red_2024-06",
        "red_max",
        "red_std",
    ]
    assert report.clear_share == {"2024-04": 15 / 16, "2024-06": 1}
    assert report.value_range["red"] == pytest.approx((0.1, 0.2))
    assert report.label_counts == {"forest": 128, "water": 128}
    assert report.grid["shape"] == [16, 16]


def test_preprocess_raster_labels_patches_are_whole_in_one_block(
    area: Area, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patches, "PATCH_PX", 6)
    monkeypatch.setattr(windows, "WINDOW_PX", 5)
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    values = np.zeros((16, 16), "uint8")
    values[0:6, 0:5], values[7:12, 3:9], values[0:15, 11:16] = 1, 2, 2  # the last is too large
    write_raster(tmp_path / "classes.tif", values, 0)
    project, images = ingested(area, storage, tmp_path)
    images = images.model_copy(update={"labels": str(tmp_path / "classes.tif")})
    prepared = preprocess(project, Hooks(), images, storage)
    samples = gpd.read_parquet(prepared.samples)
    whole = samples[samples["polygon"] >= 0].groupby("polygon")["block"]
    assert sorted(whole.size()) == [30, 30]
    assert (whole.nunique() == 1).all()
    assert samples.loc[samples["polygon"] < 0, "block"].nunique() > 4
    assert read_report(prepared.report, storage).in_no_polygon == 15 * 5


def test_preprocess_tells_what_gaps_cost(
    area: Area, storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = ONES.copy()
    mask[0, :5] = 9
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), mask)
    area.add("2024-10-01", np.full((16, 16), 3000, "uint16"), ONES)
    prepared = prepare(area, storage, tmp_path)
    report = read_report(prepared.report, storage)
    assert (report.gaps, report.incomplete) == (5, 5)
    opened = OpenProject(Project("area"), make_project(), storage)
    assert show(opened, prepared.to_dict()) == 0
    assert (
        "5 pixels of the area have no features: in some period they are not clear within 92 "
        in (capsys.readouterr().out)
    )
    farther = prepare(area, storage, tmp_path, features={"max_gap_days": 200})
    assert read_report(farther.report, storage).gaps == 0


def test_preprocess_data_that_fail_the_checks_write_nothing(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    with pytest.raises(DataError, match="forest has 128 labelled pixels"):
        prepare(area, storage, tmp_path, checks={"min_samples_per_class": 129})
    assert not list(tmp_path.rglob("report.json"))


def test_preprocess_all_cloudy_is_refused(area: Area, storage: Storage, tmp_path: Path) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES * 9)
    with pytest.raises(DataError, match="None of the 16 x 16 pixels is clear on any of the 1 date"):
        prepare(area, storage, tmp_path)


def test_preprocess_unlike_windows_give_the_same_samples(
    area: Area, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, columns = np.mgrid[:16, :16]
    area.add("2024-04-01", (1000 + 100 * rows + columns).astype("uint16"), ONES)
    area.add("2024-05-01", (9000 - 100 * rows + columns**2).astype("uint16"), ONES)
    features = {"neighbourhood": [3, 5]}
    whole = gpd.read_parquet(prepare(area, storage, tmp_path, features=features).samples)
    monkeypatch.setattr(windows, "WINDOW_PX", 5)
    parts = prepare(area, storage, tmp_path, features=features, seed=43).samples
    pd.testing.assert_frame_equal(
        whole.drop(columns="geometry"),
        gpd.read_parquet(parts).drop(columns="geometry"),
        rtol=1e-5,
        atol=1e-6,
    )


def test_preprocess_twice_gives_the_same_bytes(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    project, images = ingested(area, storage, tmp_path)
    first = preprocess(project, Hooks(), images, storage)
    files = [first.labels, first.report, first.samples, first.population]
    written = {uri: Path(uri).read_bytes() for uri in files}
    for uri in files[1:]:
        Path(uri).unlink()
    again = preprocess(project, Hooks(), images, storage)
    assert again == first
    assert written == {uri: Path(uri).read_bytes() for uri in files}


def test_preprocess_again_computes_nothing(area: Area, storage: Storage, tmp_path: Path) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    project, images = ingested(area, storage, tmp_path)
    samples = Path(preprocess(project, Hooks(), images, storage).samples)
    written = samples.stat().st_mtime_ns
    assert preprocess(project, Hooks(), images, storage).samples == str(samples)
    assert samples.stat().st_mtime_ns == written


def test_preprocess_draws_at_most_so_many_samples_of_a_class(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    write_labels(tmp_path / "labels.gpkg")
    project = make_project(
        data={
            "start": "2024-01-01",
            "end": "2024-12-31",
            "bands": {"red": "B04"},
            "catalogue": str(area.save()),
        },
        labels={"source": str(tmp_path / "labels.gpkg"), "field": "kind", "samples_per_class": 30},
    )
    samples = gpd.read_parquet(
        preprocess(project, Hooks(), ingest(project, storage), storage).samples
    )
    assert samples["class_name"].value_counts().to_dict() == {"forest": 30, "water": 30}


def test_preprocess_fewer_blocks_than_folds_is_refused(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    with pytest.raises(DataError, match=r"1 blocks of 16 x 16 pixels, fewer than the 5 folds"):
        prepare(area, storage, tmp_path, validation={"block_size_px": 16, "folds": 5})


def test_preprocess_truncated_image_is_a_sentence(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    project, images = ingested(area, storage, tmp_path)
    [path] = [p for p in tmp_path.rglob("*B04*.tif") if "area" not in p.parts]
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"B04.*\.tif can't be read"):
        preprocess(project, Hooks(), images, storage)


def test_preprocess_class_that_shrinks_away_is_refused(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    path = write_labels(tmp_path / "labels.gpkg")
    frame = gpd.read_file(path)
    frame.loc[2] = {"kind": "road", "geometry": box(500_000, 5_099_990, 500_160, 5_100_000)}
    frame.to_file(path)
    project, images = ingested(area, storage, tmp_path, write=False)
    labels = project.labels.model_copy(update={"shrink": 6})
    project = project.model_copy(update={"labels": labels})
    with pytest.raises(DataError, match="road has labels in the images, but no pixel with"):
        preprocess(project, Hooks(), images, storage)


@pytest.mark.parametrize("change", ["labels", "item"])
def test_preprocess_changed_input_is_computed_again(
    change: str, area: Area, storage: Storage, tmp_path: Path
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    catalogue = str(area.save())
    labels = tmp_path / "labels.shp"
    gpd.read_file(write_labels(tmp_path / "labels.gpkg")).to_file(labels)
    project = make_project(labels={"source": str(labels), "field": "kind"})
    images = Images(items=catalogue, labels=str(labels))
    before = preprocess(project, Hooks(), images, storage).samples
    if change == "labels":  # of a Shapefile, only the .dbf has the classes
        gpd.read_file(labels).assign(kind=["lake", "wood"]).to_file(labels)
    else:
        red = "raster:bands"
        area.items[0].assets["B04"].extra_fields[red] = [{"scale": 1, "offset": 0, "nodata": 0}]
        area.save()
    assert preprocess(project, Hooks(), images, storage).samples != before


def test_preprocess_own_features_are_columns_of_samples_and_population(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    project, images = ingested(area, storage, tmp_path)
    prepared = preprocess(project, Hooks((named,)), images, storage)
    for uri in (prepared.samples, prepared.population):
        table = gpd.read_parquet(uri)
        np.testing.assert_allclose(table["twice"], 0.2, rtol=1e-5)
        np.testing.assert_allclose(table["red_2024-04"], 0.1, rtol=1e-5)
    report = read_report(prepared.report, storage)
    assert report.features[-1] == "twice"
    assert report.value_range["red"] == pytest.approx((0.1, 0.1))


@pytest.mark.parametrize("name", ["x", "block", "polygon", "class_name", "geometry"])
def test_preprocess_feature_named_as_a_column_of_the_samples_is_refused(
    name: str, area: Area, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "NAME", name)
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    project, images = ingested(area, storage, tmp_path)
    with pytest.raises(ConfigError, match=f"^Feature {name} has the name of another column of the"):
        preprocess(project, Hooks((named,)), images, storage)


def test_step_takes_what_ingest_returned_as_plain_values(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    config, images = ingested(area, storage, tmp_path)
    project = OpenProject(Project("land_cover"), config, storage)
    inputs = images.to_dict() | {"config": "other option"}
    assert step(project, inputs) == preprocess(config, Hooks(), images, storage)


def test_check_unknown_index_is_refused_before_any_work(storage: Storage) -> None:
    config = make_project(features={"indices": ["NDVJ"]})
    with pytest.raises(ConfigError, match="Index NDVJ is not known"):
        check(OpenProject(Project("land_cover"), config, storage), {})


def test_show_tells_labels_periods_and_uris(
    area: Area, storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    config, images = ingested(area, storage, tmp_path)
    outputs = preprocess(config, Hooks(), images, storage).to_dict()
    capsys.readouterr()
    assert show(OpenProject(Project("land_cover"), config, storage), outputs) == 0
    said = "".join(capsys.readouterr())
    rows = [line.split() for line in said.splitlines()]
    assert [row for row in rows if row[-1:] == ["128"]] == [
        ["forest", "128"],
        ["water", "128"],
    ]
    assert "2024-04" in said
    assert "100%" in said
    assert "3 features." in said
    assert outputs["samples"] in said
    assert outputs["report"] in said


def shown(area: Area, storage: Storage, tmp_path: Path, labels: gpd.GeoDataFrame) -> Prepared:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    labels.to_file(tmp_path / "labels.gpkg")
    config, images = ingested(area, storage, tmp_path, write=False)
    prepared = preprocess(config, Hooks(), images, storage)
    show(OpenProject(Project("land_cover"), config, storage), prepared.to_dict())
    return prepared


def test_show_tells_in_a_line_that_all_labels_were_used(
    area: Area, storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = gpd.read_file(write_labels(tmp_path / "l.gpkg"))
    capsys.readouterr()
    prepared = shown(area, storage, tmp_path, frame)
    said = capsys.readouterr().out
    assert "Labels: 2 geometries read, all used.\n\nclass" in said
    assert "dropped" not in said
    assert read_report(prepared.report, storage).labels.told == []


def test_show_tells_what_became_of_labels_by_class_and_reason(
    area: Area, storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = gpd.read_file(write_labels(tmp_path / "l.gpkg"))
    west, north = 500_000, 5_100_000
    bow = Polygon([(west, north), (west + 40, north - 40), (west + 40, north), (west, north - 40)])
    more = {
        "water": [bow, None, box(west - 100, north, west - 50, north + 10)],
        "forest": [box(west, north - 20, west + 30, north)],
        "Forest ": [box(west + 101, north - 3, west + 103, north - 1)],
        None: [bow],
    }
    rows = [(name, shape) for name, shapes in more.items() for shape in shapes]
    names, shapes = zip(*rows, strict=True)
    extra = gpd.GeoDataFrame({"kind": names}, geometry=list(shapes), crs=frame.crs)
    capsys.readouterr()
    prepared = shown(area, storage, tmp_path, pd.concat([frame, extra]))
    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines()]
    start = next(i for i, line in enumerate(lines) if line[:1] == ["geometries"])
    header = "geometries read repaired no value in kind no geometry outside the images "
    header += "no pixel of their own contradicted px used"
    assert lines[start : start + 4] == [
        header.split(),
        ["forest", "3", "0", "0", "0", "0", "1", "6", "2"],
        ["water", "4", "1", "0", "1", "1", "0", "6", "2"],
        ["(no", "value)", "1", "0", "1", "0", "0", "0", "0", "0"],
    ]
    assert "Labels: 8 geometries read, 4 used, 1 repaired." in said
    assert "'Forest' (1) is taken for 'forest', from which it differs in case alone" in said
    assert (
        "6 pixels lie in labels that contradict each other (forest and water 6), the first" in said
    )
    report = read_report(prepared.report, storage)
    assert report.labels.contradicted_px == 6
    assert report.labels.dropped["outside the images"] == {"water": 1}
    assert report.label_counts == {"forest": 128, "water": 122}
    assert len(report.labels.told) == 3


def test_show_tells_what_a_table_does_not_list(
    area: Area, storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    config, images = ingested(area, storage, tmp_path)
    frame = gpd.read_file(tmp_path / "labels.gpkg")
    extra = gpd.GeoDataFrame({"kind": ["road"]}, geometry=[frame.geometry[0]], crs=frame.crs)
    pd.concat([frame, extra]).to_file(tmp_path / "more.gpkg")
    listed = {"classes": {"water": "water", "forest": "wood"}}
    config = config.model_copy(update={"labels": config.labels.model_copy(update=listed)})
    images = images.model_copy(update={"labels": str(tmp_path / "more.gpkg")})
    outputs = preprocess(config, Hooks(), images, storage).to_dict()
    capsys.readouterr()
    show(OpenProject(Project("land_cover"), config, storage), outputs)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["geometries", "read", *["not", "in", "[labels]", "classes", "used"]] in lines
    assert ["road", "1", "1", "0"] in lines
    assert ["wood", "1", "0", "1"] in lines
