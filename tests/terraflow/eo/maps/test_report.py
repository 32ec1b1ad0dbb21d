from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import geopandas as gpd
import matplotlib.image
import mlflow
import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from area import Area, make_project
from maps import make_model, write_items
from terraflow.eo.config.sections import Map
from terraflow.eo.maps import report as step_module
from terraflow.eo.maps.map import make_map
from terraflow.eo.maps.map_file import create_map, write_cog
from terraflow.eo.maps.map_origin import MapOrigin
from terraflow.eo.maps.report import Reported, report
from terraflow.eo.maps.validated import Validation, map_digest, write_validation
from terraflow.eo.project import OpenProject, Project
from terraflow.eo.targets.classes.classification import Classification
from terraflow.eo.targets.parts import Accuracy
from terraflow.errors import ConfigError, DataError
from terraflow.settings import Settings
from terraflow.storage import Storage
from terraflow.tracking import runs as tracking

CLASSES = ["forest", "water"]
TARGET, SECTION = Classification(), Map(colours={"forest": "#00ff00", "water": "#0000ff"})
PIXEL_M2 = 100 / 0.9996**2  # on the ellipsoid, on the central meridian of a UTM zone
SCORES = Accuracy({"overall_accuracy": 0.9, "users_accuracy_forest": 0.95})
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


#: A place in each CRS.
WEST_NORTH = {
    "EPSG:32633": (500_000, 5_100_000),
    "EPSG:4326": (15, 46),
    "EPSG:3857": (1_669_792, 5_780_349),
    "EPSG:2263": (980_000, 200_000),
}


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
    west, north = WEST_NORTH[crs]
    grid = GeoBox(numbers.shape, Affine(step, 0, west, 0, -step, north), crs)
    bands = TARGET.bands(CLASSES, SECTION)
    told = ORIGIN.model_copy(update=origin)
    with create_map(folder / "plain.tif", grid, bands, "uint8", told) as file:
        file.write(np.stack([numbers, (numbers > 0) * np.uint8(80)]))
    write_cog(folder / "plain.tif", folder / "map.tif", "nearest")
    return str(folder / "map.tif")


def test_report_writes_every_file_beside_the_map(storage: Storage, tmp_path: Path) -> None:
    uri = write_map(tmp_path / "m", known_map())
    result = report(uri, TARGET, SECTION, storage, accuracy=SCORES)
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
        found = dict(zip(frame["class_name"], frame["area_m2"], strict=True))
        assert found == pytest.approx({"forest": 102 * PIXEL_M2, "water": 6 * PIXEL_M2}, rel=1e-5)
        assert frame.crs.to_epsg() == 32633
    with sqlite3.connect(result.files["geopackage"]) as database:
        assert database.execute("PRAGMA application_id").fetchone()[0] == 0x47504B47  # "GPKG"


def test_report_areas_are_of_the_map(storage: Storage, tmp_path: Path) -> None:
    result = report(write_map(tmp_path, known_map()), TARGET, SECTION, storage, accuracy=SCORES)
    areas = read_areas(result)
    assert (areas["total_px"], areas["nodata_px"]) == (120, 12)
    assert areas["map"]["run_id"] == "5" * 32
    assert areas["method"] == "pixel count"
    mapped = {name: row["mapped_m2"] for name, row in areas["classes"].items()}
    assert mapped == pytest.approx({"forest": 101 * PIXEL_M2, "water": 7 * PIXEL_M2}, rel=1e-5)


def test_report_table_is_the_one_in_the_file(storage: Storage, tmp_path: Path) -> None:
    result = report(write_map(tmp_path, known_map()), TARGET, SECTION, storage, accuracy=SCORES)
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
    result = report(uri, TARGET, SECTION, storage, accuracy=SCORES)
    [small] = asked
    assert small.shape == (1000, 1200)
    assert (small[50::100, 50::100] == known_map()).all()
    picture = (255 * matplotlib.image.imread(result.files["quicklook"])[..., :3]).round()
    assert (picture.reshape(-1, 3) == (0, 0, 255)).all(axis=1).any()


@pytest.mark.parametrize(
    ("crs", "step", "pixel_m2"),
    [("EPSG:3857", 10, 48.27), ("EPSG:4326", 0.001, 8610), ("EPSG:2263", 100, 929.0)],
)
def test_report_areas_are_on_the_ellipsoid(
    crs: str, step: float, pixel_m2: float, storage: Storage, tmp_path: Path
) -> None:
    uri = write_map(tmp_path, np.ones((2, 2), "uint8"), crs=crs, step=step)
    made = report(uri, TARGET, SECTION, storage, accuracy=SCORES)
    areas = read_areas(made)
    assert areas["pixel_m2"] == pytest.approx(pixel_m2, rel=2e-3)
    assert areas["classes"]["forest"]["mapped_m2"] == pytest.approx(4 * areas["pixel_m2"])
    [forest] = gpd.read_parquet(made.files["polygons"])["area_m2"]
    assert forest == pytest.approx(4 * areas["pixel_m2"], rel=1e-4)


def test_report_of_a_map_of_another_target_is_refused(storage: Storage, tmp_path: Path) -> None:
    uri = write_map(tmp_path, known_map(), target="crop.project:Yield")
    with pytest.raises(
        DataError, match=r"is a map of crop\.project:Yield, and this project's .* classification"
    ):
        report(uri, TARGET, SECTION, storage, accuracy=SCORES)


class Wetness(Classification):
    """A project's own target."""


def test_report_that_memory_does_not_hold_is_refused(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = write_map(tmp_path / "maps", known_map())
    memory = SimpleNamespace(total=10 * 12 * 4)
    monkeypatch.setattr("terraflow.eo.features.limits.size.virtual_memory", lambda: memory)
    told = r"report of a map of 10 x 12 pixels needs 960 bytes of memory, .* has 480 bytes; report"
    with pytest.raises(DataError, match=told):
        report(uri, TARGET, SECTION, storage, accuracy=Accuracy({}, None, ""))


def test_report_of_a_map_of_the_projects_own_target_is_made(
    storage: Storage, tmp_path: Path
) -> None:
    uri = write_map(tmp_path, known_map(), target="flood.project:Wetness")
    assert report(uri, Wetness(), SECTION, storage, accuracy=SCORES).files


def log_run(settings: Settings, **scores: float) -> str:
    with tracking.start_run(settings, "report", name="run", tags={}) as run:
        mlflow.log_metrics(scores)
    return str(run.info.run_id)


def test_report_tells_the_scores_of_the_run_and_corrects_nothing_by_them(
    tracked_settings: Settings, tmp_path: Path
) -> None:
    run_id = log_run(tracked_settings, overall_accuracy=0.9, users_accuracy_water=0.25)
    uri = write_map(tmp_path, known_map(), run_id=run_id)
    areas = read_areas(report(uri, TARGET, SECTION, Storage(tracked_settings)))
    assert areas["method"] == "pixel count"
    assert areas["cross_validated"] == {"overall_accuracy": 0.9}
    assert areas["classes"]["water"]["cross_validated"]["users_accuracy"] == 0.25
    assert "area_m2" not in areas["classes"]["water"]


def test_report_takes_the_sample_of_this_map_and_refuses_that_of_another(
    tracked_settings: Settings, tmp_path: Path
) -> None:
    storage = Storage(tracked_settings)
    uri = write_map(tmp_path, known_map(), run_id=log_run(tracked_settings))
    number = {"value": 0.5, "low": 0.4, "high": 0.6, "standard_error": 0.05}
    row = dict.fromkeys(("area_m2", "users_accuracy", "producers_accuracy"), number)
    estimates = {
        "points": 20,
        "strata": 2,
        "overall_accuracy": number,
        "classes": {name: row | {"mapped_points": 10, "reference_points": 10} for name in CLASSES},
    }
    told = Validation(
        map=uri,
        map_digest=map_digest(uri, storage),
        sample_id="1",
        seed=1,
        points=20,
        estimates=estimates,
    )
    write_validation(told, storage)
    made = report(uri, TARGET, SECTION, storage)
    assert read_areas(made)["method"] == "probability sample"
    assert "0.50 (0.40 to 0.60)" in made.table
    run_id = read_areas(made)["map"]["run_id"]
    with rasterio.open(uri, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.update_tags(TERRAFLOW_RUN_ID="0000")  # which is gone; the pixels are the same
    assert read_areas(report(uri, TARGET, SECTION, storage))["method"] == "probability sample"
    other = write_map(tmp_path, known_map()[::-1], run_id=run_id)
    assert other == uri
    again = report(uri, TARGET, SECTION, storage)
    assert read_areas(again)["method"] == "pixel count"
    assert f"drawn from a map with the digest {told.map_digest}" in again.table
    (tmp_path / "map_validation.json").write_text("{}")
    with pytest.raises(DataError, match=r"map_validation\.json is no validation of a map"):
        report(uri, TARGET, SECTION, storage)


def test_report_of_no_run_is_refused(tracked_settings: Settings, tmp_path: Path) -> None:
    uri = write_map(tmp_path, known_map(), run_id="0000")
    with pytest.raises(ConfigError, match="There is no run '0000'"):
        report(uri, TARGET, SECTION, Storage(tracked_settings))


def test_step_reports_the_champions_map_where_none_is_named(
    area: Area, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_module, "load_model", lambda *_: make_model())
    monkeypatch.setattr(step_module, "_accuracy", lambda *_: SCORES)
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
