from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import matplotlib.image
import mlflow
import numpy as np
import pandas as pd
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from area import Area, make_project
from maps import make_model, write_items
from samples import make_report, make_samples
from terraflow.eo.config.sections import Map
from terraflow.eo.maps import report as step_module
from terraflow.eo.maps.map import make_map
from terraflow.eo.maps.map_file import create_map, write_cog
from terraflow.eo.maps.map_origin import MapOrigin
from terraflow.eo.maps.report import Reported, report
from terraflow.eo.project import OpenProject, Project
from terraflow.eo.targets.classes.areas import ASSUMPTION
from terraflow.eo.targets.classes.classification import Classification
from terraflow.eo.targets.parts import HeldOut
from terraflow.errors import ConfigError, DataError
from terraflow.settings import Settings
from terraflow.storage import Storage
from terraflow.tracking import runs as tracking

CLASSES = ["forest", "water"]
TARGET, SECTION = Classification(), Map(colours={"forest": "#00ff00", "water": "#0000ff"})
PIXEL_M2 = 100
PREDICTIONS = pd.DataFrame(
    {
        "class_name": ["forest"] * 9 + ["water"] + ["water"] * 4 + ["forest"],
        "predicted": ["forest"] * 10 + ["water"] * 5,
    }
)
HELD_OUT = HeldOut(PREDICTIONS, {"forest": 10, "water": 5})
ORIGIN = MapOrigin(
    model="models:/land-cover/3",
    model_name="land-cover",
    run_id="5" * 32,
    items="items.json",
    items_digest="1",
    config_digest="2",
    version="0.2.0",
    note="Simulated.",
)


def known_map() -> np.ndarray:
    """Forest 1 around one pixel and one 2 x 3 patch of water 2; the last row is nodata."""
    numbers = np.ones((10, 12), dtype="uint8")
    numbers[2, 2] = 2
    numbers[5:7, 6:9] = 2
    numbers[-1] = 0
    return numbers


def write_map(
    folder: Path, numbers: np.ndarray, crs: str = "EPSG:32633", step: float = 10, **origin: str
) -> str:
    folder.mkdir(exist_ok=True)
    grid = GeoBox(numbers.shape, Affine(step, 0, 15, 0, -step, 46), crs)
    bands = TARGET.bands(CLASSES, SECTION)
    told = ORIGIN.model_copy(update=origin)
    with create_map(folder / "plain.tif", grid, bands, "uint8", told) as file:
        file.write(np.stack([numbers, (numbers > 0) * np.uint8(80)]))
    write_cog(folder / "plain.tif", folder / "map.tif", "nearest")
    return str(folder / "map.tif")


def test_report_writes_every_file_beside_the_map(storage: Storage, tmp_path: Path) -> None:
    uri = write_map(tmp_path / "m", known_map())
    result = report(uri, TARGET, SECTION, storage, held_out=HELD_OUT)
    made = {
        "polygons": "map_polygons.parquet",
        "geopackage": "map_polygons.gpkg",
        "quicklook": "map_quicklook.png",
        "area": "map_area.json",
        "area table": "map_area.md",
    }
    assert result.files == {key: str(tmp_path / "m" / name) for key, name in made.items()}
    parquet = gpd.read_parquet(result.files["polygons"])
    gpkg = gpd.read_file(result.files["geopackage"])
    for frame in (parquet, gpkg):
        assert dict(zip(frame["class_name"], frame["area_m2"], strict=True)) == {
            "forest": 102 * PIXEL_M2,
            "water": 6 * PIXEL_M2,
        }
        assert frame.crs.to_epsg() == 32633
    with sqlite3.connect(result.files["geopackage"]) as database:
        assert database.execute("PRAGMA application_id").fetchone()[0] == 0x47504B47  # "GPKG"


def test_report_areas_are_of_the_map_and_what_was_held_out(
    storage: Storage, tmp_path: Path
) -> None:
    result = report(write_map(tmp_path, known_map()), TARGET, SECTION, storage, held_out=HELD_OUT)
    areas = read_areas(result)
    assert (areas["total_px"], areas["nodata_px"], areas["pixel_m2"]) == (120, 12, 100)
    assert areas["map"]["run_id"] == "5" * 32
    assert areas["remark"] == ASSUMPTION
    mapped = {name: row["mapped_m2"] for name, row in areas["classes"].items()}
    assert mapped == {"forest": 101 * PIXEL_M2, "water": 7 * PIXEL_M2}


def test_report_table_is_the_one_in_the_file(storage: Storage, tmp_path: Path) -> None:
    result = report(write_map(tmp_path, known_map()), TARGET, SECTION, storage, held_out=HELD_OUT)
    assert Path(result.files["area table"]).read_text() == result.table
    assert f"models:/land-cover/3, run {'5' * 32}." in result.table
    assert "**Simulated.**" in result.table


def test_report_quicklook_is_drawn_of_an_overview(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    thumbnail = step_module._thumbnail

    def spy(*words: Any) -> Any:
        read = thumbnail(*words)

        def wrapped(most_px: int) -> np.ndarray:
            asked.append(read(most_px))
            return asked[-1]

        return wrapped

    monkeypatch.setattr(step_module, "_thumbnail", spy)
    numbers = np.repeat(np.repeat(known_map(), 300, axis=0), 300, axis=1)
    uri = write_map(tmp_path, numbers)
    result = report(uri, TARGET, SECTION, storage, held_out=HELD_OUT)
    [small] = asked
    assert small.shape == (1000, 1200)
    assert (small[50::100, 50::100] == known_map()).all()
    picture = (255 * matplotlib.image.imread(result.files["quicklook"])[..., :3]).round()
    assert (picture.reshape(-1, 3) == (0, 0, 255)).all(axis=1).any()


def test_report_of_a_map_in_degrees_is_refused(storage: Storage, tmp_path: Path) -> None:
    uri = write_map(tmp_path, known_map(), crs="EPSG:4326", step=0.001)
    with pytest.raises(DataError, match=r"map\.tif lies in EPSG:4326, .* projected \[grid\] crs"):
        report(uri, TARGET, SECTION, storage, held_out=HELD_OUT)


def test_report_pixel_area_in_feet_is_told_in_metres(storage: Storage, tmp_path: Path) -> None:
    ones = np.ones((2, 2), "uint8")
    uri = write_map(tmp_path, ones, crs="EPSG:2263", step=100)  # US survey feet
    areas = read_areas(report(uri, TARGET, SECTION, storage, held_out=HELD_OUT))
    assert areas["pixel_m2"] == pytest.approx((100 * 1200 / 3937) ** 2)
    assert areas["classes"]["forest"]["mapped_m2"] == pytest.approx(4 * areas["pixel_m2"])


def test_report_of_a_map_of_another_target_is_refused(storage: Storage, tmp_path: Path) -> None:
    uri = write_map(tmp_path, known_map(), target="crop.project:Yield")
    with pytest.raises(
        DataError, match=r"is a map of crop\.project:Yield, and this project's .* classification"
    ):
        report(uri, TARGET, SECTION, storage, held_out=HELD_OUT)


class Wetness(Classification):
    """A project's own target."""


def test_report_of_a_map_of_the_projects_own_target_is_made(
    storage: Storage, tmp_path: Path
) -> None:
    uri = write_map(tmp_path, known_map(), target="flood.project:Wetness")
    assert report(uri, Wetness(), SECTION, storage, held_out=HELD_OUT).files


def log_run(settings: Settings, folder: Path, **report: Any) -> str:
    with tracking.start_run(settings, "report", name="run", tags={}) as run:
        PREDICTIONS.to_parquet(folder / "predictions.parquet")
        mlflow.log_artifact(str(folder / "predictions.parquet"))
        mlflow.log_dict(make_report(make_samples(), **report).to_dict(), "data_report.json")
    return str(run.info.run_id)


def test_report_reads_the_held_out_predictions_of_the_run(
    tracked_settings: Settings, tmp_path: Path
) -> None:
    run_id = log_run(tracked_settings, tmp_path, label_counts={"forest": 20, "water": 5})
    uri = write_map(tmp_path, known_map(), run_id=run_id)
    areas = read_areas(report(uri, TARGET, SECTION, Storage(tracked_settings)))
    assert areas["samples"] == len(PREDICTIONS)
    assert areas["error_matrix"]["samples"] == [[9, 1], [1, 4]]
    assert areas["weights"] == {"forest": 2, "water": 1}


def test_report_of_a_run_without_predictions_is_refused(
    tracked_settings: Settings, tmp_path: Path
) -> None:
    with tracking.start_run(tracked_settings, "report", name="empty", tags={}) as run:
        pass
    uri = write_map(tmp_path, known_map(), run_id=run.info.run_id)
    with pytest.raises(DataError, match=r"has no predictions\.parquet.*`invoke train`"):
        report(uri, TARGET, SECTION, Storage(tracked_settings))


def test_report_of_no_run_is_refused(tracked_settings: Settings, tmp_path: Path) -> None:
    uri = write_map(tmp_path, known_map(), run_id="0000")
    with pytest.raises(ConfigError, match="There is no run '0000'"):
        report(uri, TARGET, SECTION, Storage(tracked_settings))


def test_step_reports_the_champions_map_where_none_is_named(
    area: Area, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_module, "load_model", lambda *_: make_model())
    monkeypatch.setattr(step_module, "read_held_out", lambda *_: HELD_OUT)
    items = write_items(area)
    made = make_map(make_model(), items, storage)
    project = OpenProject(Project("land_cover"), make_project(), storage)
    by_default = step_module.step(project, {"items": items})
    assert by_default.files["area"] == made.map.replace(".tif", "_area.json")
    assert step_module.step(project, {"map": made.map}) == by_default


def test_show_prints_the_table_and_where_the_files_are(
    storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    project = OpenProject(Project("land_cover"), make_project(), storage)
    files: Mapping[str, str] = {"quicklook": "s3://b/map_quicklook.png"}
    told = Reported(files=dict(files), table="| a |").to_dict()
    assert step_module.show(project, told) == 0
    assert capsys.readouterr().out.splitlines() == ["| a |", "quicklook: s3://b/map_quicklook.png"]


def read_areas(result: Reported) -> dict[str, Any]:
    areas: dict[str, Any] = json.loads(Path(result.files["area"]).read_text())
    return areas
