from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import geopandas as gpd
import matplotlib.image
import mlflow
import numpy as np
import pandas as pd
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from scipy import ndimage

from area import make_project
from terraflow.eo.maps.map_file import MapInfo, create_map, read_info, write_cog
from terraflow.eo.maps.report import polygons, read_held_out, report, sieve
from terraflow.eo.targets.classes.areas import ASSUMPTION, WEIGHTED
from terraflow.errors import ConfigError, DataError
from terraflow.settings import Settings
from terraflow.storage import Storage
from terraflow.tracking import runs as tracking

CLASSES, COLOURS = ["forest", "water"], ["#00ff00", "#0000ff"]
PIXEL_M2 = 100
PREDICTIONS = pd.DataFrame({
    "class_name": ["forest"] * 9 + ["water"] + ["water"] * 4 + ["forest"],
    "predicted": ["forest"] * 10 + ["water"] * 5,
})  # fmt: skip


def known_map() -> np.ndarray:
    """Forest 1 around one pixel and one 2 x 3 patch of water 2; the last row is nodata."""
    numbers = np.ones((10, 12), dtype="uint8")
    numbers[2, 2] = 2
    numbers[5:7, 6:9] = 2
    numbers[-1] = 0
    return numbers


def write_map(folder: Path, numbers: np.ndarray, crs: str = "EPSG:32633") -> str:
    folder.mkdir(exist_ok=True)
    step = 10 if crs == "EPSG:32633" else 0.001
    grid = GeoBox(numbers.shape, Affine(step, 0, 15, 0, -step, 46), crs)
    metadata = {"model": "models:/land-cover/3", "run_id": "5" * 32, "note": "Simulated."}
    with create_map(folder / "plain.tif", grid, CLASSES, COLOURS, metadata) as file:
        file.write(np.stack([numbers, (numbers > 0) * np.uint8(80)]))
    write_cog(folder / "plain.tif", folder / "map.tif")
    return str(folder / "map.tif")


def test_sieve_merges_the_small_patch_and_keeps_the_larger_and_nodata() -> None:
    numbers = known_map()
    expected = numbers.copy()
    expected[2, 2] = 1
    assert (sieve(numbers, 4) == expected).all()


def test_sieve_of_one_pixel_changes_nothing() -> None:
    numbers = known_map()
    assert (sieve(numbers, 1) == numbers).all()


def test_sieve_patch_among_nodata_stays() -> None:
    numbers = np.zeros((5, 5), dtype="uint8")
    numbers[2, 2] = 2
    assert (sieve(numbers, 4) == numbers).all()


def test_sieve_takes_the_largest_neighbour() -> None:
    numbers = np.repeat(np.array([[1, 1, 3, 2, 2, 2]], dtype="uint8"), 2, axis=0)
    assert sieve(numbers, 3).tolist() == [[1, 1, 2, 2, 2, 2]] * 2


@given(arrays("uint8", (12, 12), elements=st.integers(0, 3)))
def test_sieve_never_touches_nodata_nor_makes_classes(numbers: np.ndarray) -> None:
    sieved = sieve(numbers, 4)
    assert ((sieved == 0) == (numbers == 0)).all()
    assert set(np.unique(sieved)) <= set(np.unique(numbers))


def test_polygons_have_class_and_area_of_every_patch(storage: Storage, tmp_path: Path) -> None:
    info = read_info(write_map(tmp_path, known_map()), storage)
    frame = polygons(known_map(), info, PIXEL_M2)
    assert frame.crs.to_epsg() == 32633
    rows = sorted(zip(frame["class_name"], frame["class_number"], frame["area_m2"], strict=True))
    assert rows == [
        ("forest", 1, 101 * PIXEL_M2), ("water", 2, PIXEL_M2), ("water", 2, 6 * PIXEL_M2),
    ]  # fmt: skip
    assert frame.geometry.is_valid.all()
    assert frame.total_bounds.tolist() == [15, 46 - 90, 15 + 120, 46]


@given(arrays("uint8", (8, 9), elements=st.integers(0, 2)))
def test_polygons_cover_each_class_once(numbers: np.ndarray) -> None:
    grid = Affine(10, 0, 0, 0, -10, 0)
    info = MapInfo(CLASSES, COLOURS, CRS.from_epsg(32633), grid, numbers.shape, {})
    frame = polygons(numbers, info, PIXEL_M2)
    for number in (1, 2):
        mine = frame[frame["class_number"] == number]
        assert mine["area_m2"].sum() == PIXEL_M2 * (numbers == number).sum()
        assert len(mine) == ndimage.label(numbers == number)[1]


def test_report_writes_every_file_beside_the_map(storage: Storage, tmp_path: Path) -> None:
    uri = write_map(tmp_path / "m", known_map())
    project = make_project(map={"minimum_mapping_unit_px": 4})
    result = report(project, uri, storage, predictions=PREDICTIONS)
    made = {"polygons": "map_polygons.parquet", "geopackage": "map_polygons.gpkg",
            "quicklook": "map_quicklook.png", "area": "map_area.json",
            "area_table": "map_area.md"}  # fmt: skip
    assert {key: result[key] for key in made} == {
        key: str(tmp_path / "m" / name) for key, name in made.items()
    }
    assert result["assumption"] == ASSUMPTION
    parquet, gpkg = gpd.read_parquet(result["polygons"]), gpd.read_file(result["geopackage"])
    for frame in (parquet, gpkg):
        assert dict(zip(frame["class_name"], frame["area_m2"], strict=True)) == {
            "forest": 102 * PIXEL_M2, "water": 6 * PIXEL_M2,
        }  # fmt: skip
        assert frame.crs.to_epsg() == 32633
    with sqlite3.connect(result["geopackage"]) as database:
        assert database.execute("PRAGMA application_id").fetchone()[0] == 0x47504B47  # "GPKG"


def test_report_areas_are_of_the_map_before_the_sieve(storage: Storage, tmp_path: Path) -> None:
    result = report(make_project(), write_map(tmp_path, known_map()), storage,
                    predictions=PREDICTIONS)  # fmt: skip
    areas = json.loads(Path(result["area"]).read_text())
    assert areas == result["areas"]
    assert (areas["total_px"], areas["nodata_px"], areas["pixel_m2"]) == (120, 12, 100)
    forest, water = areas["classes"]["forest"], areas["classes"]["water"]
    assert (forest["mapped_m2"], water["mapped_m2"]) == (101 * PIXEL_M2, 7 * PIXEL_M2)
    # of 10 mapped forest 9 are; of 5 mapped water 4 are
    assert areas["error_matrix"]["samples"] == [[9, 1], [1, 4]]
    assert water["area_m2"]["value"] == pytest.approx(PIXEL_M2 * (7 * 0.8 + 101 * 0.1))
    error = np.sqrt((7 / 108) ** 2 * 0.16 / 4 + (101 / 108) ** 2 * 0.09 / 9)
    assert water["area_m2"]["margin"] == pytest.approx(PIXEL_M2 * 108 * 1.96 * error)
    assert areas["overall_accuracy"]["value"] == pytest.approx((101 * 0.9 + 7 * 0.8) / 108)


def test_report_table_tells_areas_intervals_and_what_they_assume(
    storage: Storage, tmp_path: Path
) -> None:
    result = report(make_project(), write_map(tmp_path, known_map()), storage,
                    predictions=PREDICTIONS)  # fmt: skip
    table = Path(result["area_table"]).read_text()
    assert "12 of 120 pixels have no class" in table
    assert "models:/land-cover/3" in table
    assert "Simulated." in table
    assert "| forest | 1.0 | 0.9 ± 0.2 | 0.90 ± 0.20 | 0.98 ± 0.03 |" in table
    assert "stratified random sample" in table
    assert "10.1016/j.rse.2014.02.015" in table


def test_report_without_samples_of_a_mapped_class_tells_mapped_areas_and_why(
    storage: Storage, tmp_path: Path
) -> None:
    few = PREDICTIONS[PREDICTIONS["predicted"] == "forest"]
    result = report(make_project(), write_map(tmp_path, known_map()), storage, predictions=few)
    assert not result["areas"]["adjusted"]
    assert result["areas"]["classes"]["water"] == {"mapped_m2": 700}
    table = Path(result["area_table"]).read_text()
    assert "water (7 px, 0 samples)" in table
    assert "| water | 0.1 | not known | not known | not known |" in table


def test_report_quicklook_shows_the_classes_in_their_colours(
    storage: Storage, tmp_path: Path
) -> None:
    uri = write_map(tmp_path, np.repeat(np.repeat(known_map(), 300, axis=0), 300, axis=1))
    result = report(make_project(), uri, storage, predictions=PREDICTIONS)
    picture = (255 * matplotlib.image.imread(result["quicklook"])[..., :3]).round().astype(int)
    pixels = picture.reshape(-1, 3)
    green, blue = ((pixels == colour).all(axis=1).sum() for colour in ((0, 255, 0), (0, 0, 255)))
    assert 8 < green / blue < 20  # 101 : 7 in the map; the legend has patches of the same size
    assert max(picture.shape) < 2500


def test_report_of_a_map_in_degrees_is_refused(storage: Storage, tmp_path: Path) -> None:
    uri = write_map(tmp_path, known_map(), crs="EPSG:4326")
    with pytest.raises(DataError, match=r"map\.tif lies in EPSG:4326, .* projected \[grid\] crs"):
        report(make_project(), uri, storage, predictions=PREDICTIONS)


def test_report_pixel_area_in_feet_is_told_in_metres(storage: Storage, tmp_path: Path) -> None:
    grid = GeoBox((2, 2), Affine(100, 0, 0, 0, -100, 0), "EPSG:2263")  # US survey feet
    with create_map(tmp_path / "map.tif", grid, CLASSES, COLOURS, {"model": "m"}) as file:
        file.write(np.ones((2, 2, 2), "uint8"))
    result = report(make_project(), str(tmp_path / "map.tif"), storage, predictions=PREDICTIONS)
    assert result["areas"]["pixel_m2"] == pytest.approx((100 * 1200 / 3937) ** 2)


def test_report_reads_the_held_out_predictions_of_the_run(
    tracked_settings: Settings, tmp_path: Path
) -> None:
    with tracking.start_run(tracked_settings, "report", name="run", tags={}) as run:
        PREDICTIONS.to_parquet(tmp_path / "predictions.parquet")
        mlflow.log_artifact(str(tmp_path / "predictions.parquet"))
        mlflow.log_dict({"class_sizes": {"forest": 20, "water": 5}}, "data_report.json")
    predictions, class_sizes = read_held_out(run.info.run_id, Storage(tracked_settings))
    assert predictions.equals(PREDICTIONS)
    assert class_sizes == {"forest": 20, "water": 5}


def test_report_weights_samples_of_a_class_of_which_not_all_pixels_were_used(
    storage: Storage, tmp_path: Path
) -> None:
    uri = write_map(tmp_path, known_map())
    sizes = {"forest": 20, "water": 5}
    result = report(make_project(), uri, storage, predictions=PREDICTIONS, class_sizes=sizes)
    areas = result["areas"]
    assert areas["weights"] == {"forest": 2, "water": 1}
    # of 10 mapped forest 9 are, each for 2: 18 of 19; of 5 mapped water 4 are, of 6
    users = [areas["classes"][name]["users_accuracy"]["value"] for name in CLASSES]
    assert users == pytest.approx([18 / 19, 4 / 6])
    assert WEIGHTED in Path(result["area_table"]).read_text()


def test_report_of_all_labelled_pixels_weights_none(storage: Storage, tmp_path: Path) -> None:
    uri = write_map(tmp_path, known_map())
    plain, told = (
        report(make_project(), uri, storage, predictions=PREDICTIONS, class_sizes=sizes)["areas"]
        for sizes in (None, {"forest": 10, "water": 5})
    )
    assert plain == told
    assert plain["remark"] == ASSUMPTION
    assert "may be biased" in ASSUMPTION


def test_read_held_out_of_a_run_without_them_is_refused(tracked_settings: Settings) -> None:
    with tracking.start_run(tracked_settings, "report", name="empty", tags={}) as run:
        pass
    with pytest.raises(DataError, match=r"has no predictions\.parquet.*`invoke train`"):
        read_held_out(run.info.run_id, Storage(tracked_settings))


def test_read_held_out_of_no_run_is_refused(tracked_settings: Settings) -> None:
    with pytest.raises(ConfigError, match="There is no run '0000'"):
        read_held_out("0000", Storage(tracked_settings))
