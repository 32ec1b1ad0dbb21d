from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds, transform_geom
from shapely.geometry import box, mapping, shape

from area import Area, make_project, write_raster
from http_server import HttpServer
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.images.collection import DIGEST, Images, read_digest, read_items
from terraflow.eo.images.ingest import ingest, show, step
from terraflow.eo.project import OpenProject, Project
from terraflow.errors import DataError
from terraflow.storage import Storage

ONES = np.ones((4, 4), "uint8")
DAYS = ("2024-04-01", "2024-05-01", "2024-06-01", "2024-07-01")
SINUSOIDAL = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"


def project_of(catalogue: str | Path, **data: object) -> ProjectConfig:
    return make_project(data={"catalogue": str(catalogue), "bands": {"red": "B04"}} | data)


def add_days(area: Area, days: tuple[str, ...] = DAYS) -> None:
    """Pixels tell row and column, and the day."""
    for number, day in enumerate(days):
        red = np.add.outer(np.arange(64) * 100, np.arange(64)) + number
        area.add(day, red.astype("uint16"), np.ones((64, 64), "uint8"))


def georeference(item: pystac.Item, path: Path) -> None:
    """Give an item the footprint of a file."""
    with rasterio.open(path) as file:
        item.bbox = list(transform_bounds(file.crs, "EPSG:4326", *file.bounds))
        item.geometry = mapping(box(*item.bbox))


def write_item(folder: Path, name: str, crs: Any, west: float, north: float) -> pystac.Item:
    """64 x 64 pixels of 100 m that tell row and column."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.tif"
    data = np.add.outer(np.arange(64) * 100, np.arange(64)).astype("uint16")
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=64,
        height=64,
        count=1,
        dtype="uint16",
        crs=crs,
        transform=from_origin(west, north, 100, 100),
    ) as file:
        file.write(data, 1)
    item = pystac.Item(name, None, None, datetime(2024, 5, 1, tzinfo=UTC), {})
    item.add_asset("B04", pystac.Asset(str(path)))
    georeference(item, path)
    return item


def write_items(path: Path, items: list[pystac.Item]) -> Path:
    features = [item.to_dict(include_self_link=False) for item in items]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def names(project: ProjectConfig, storage: Storage) -> list[str]:
    return [item.id for item in read_items(ingest(project, storage).items, storage)]


def stored(storage: Storage) -> set[Path]:
    return set(Path(storage.settings.data_uri).rglob("*.tif"))


def test_ingest_takes_the_dates_both_days_included(area: Area, storage: Storage) -> None:
    for day in ("2024-06-30", "2024-04-01", "2024-05-01", "2024-07-01"):
        area.add(day, np.ones((4, 4), "uint16"), ONES)
    project = project_of(area.save(), start="2024-04-01", end="2024-06-30")
    assert names(project, storage) == ["2024-04-01", "2024-05-01", "2024-06-30"]


def test_ingest_copies_the_configured_images_and_tells_grid_values_and_checksum(
    area: Area, storage: Storage
) -> None:
    add_days(area, DAYS[:1])
    area.items[0].add_asset("thumbnail", pystac.Asset("thumbnail.png"))
    selection = ingest(project_of(area.save()), storage)
    (item,) = read_items(selection.items, storage)
    assert sorted(item.assets) == ["B04", "mask"]
    fields = item.assets["B04"].extra_fields
    copy = Path(item.assets["B04"].href)
    assert copy.is_relative_to(storage.settings.data_uri)
    assert fields["proj:code"] == "EPSG:32633"
    assert fields["proj:shape"] == [64, 64]
    assert fields["proj:transform"] == [10, 0, 500_000, 0, -10, 5_100_000]
    assert fields["raster:bands"] == [
        {"data_type": "uint16", "scale": 0.0001, "offset": -0.1, "nodata": 0}
    ]
    assert fields["file:checksum"] == f"1220{hashlib.sha256(copy.read_bytes()).hexdigest()}"
    with rasterio.open(copy) as file, rasterio.open(area.folder / DAYS[0] / "red.tif") as source:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert np.array_equal(file.read(1), source.read(1))


def test_ingest_without_a_cloud_mask_copies_the_bands_alone(area: Area, storage: Storage) -> None:
    add_days(area, DAYS[:1])
    project = project_of(area.save()).model_copy(update={"cloud_mask": None})
    (item,) = read_items(ingest(project, storage).items, storage)
    assert list(item.assets) == ["B04"]


def test_ingest_twice_gives_the_same_uri_and_writes_no_image(area: Area, storage: Storage) -> None:
    add_days(area)
    project = project_of(area.save())
    first = ingest(project, storage)
    before = {path: path.stat().st_mtime_ns for path in stored(storage)}
    assert len(before) == 8
    assert ingest(project, storage) == first
    assert {path: path.stat().st_mtime_ns for path in stored(storage)} == before


def test_ingest_same_data_elsewhere_has_the_same_digest_and_other_data_another(
    area: Area, tmp_path: Path, storage: Storage
) -> None:
    other, changed = Area(tmp_path / "other"), Area(tmp_path / "changed")
    add_days(area)
    add_days(other)
    add_days(changed, DAYS[:3])
    uris = [ingest(project_of(a.save()), storage).items for a in (area, other, changed)]
    digests = [read_digest(uri, storage) for uri in uris]
    assert digests[0] == digests[1] != digests[2]
    assert json.loads(storage.read(uris[0]))[DIGEST] == digests[0]
    lines = sorted(
        f"{item.id} {key} {asset.extra_fields['file:checksum']}\n"
        for item in read_items(uris[0], storage)
        for key, asset in item.assets.items()
    )
    assert digests[0] == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_ingest_file_replaced_under_its_name_is_copied_anew(area: Area, storage: Storage) -> None:
    add_days(area, DAYS[:1])
    project = project_of(area.save())
    first = ingest(project, storage).items
    write_raster(area.folder / DAYS[0] / "red.tif", np.full((64, 64), 7, "uint16"), 0)
    second = ingest(project, storage).items
    assert read_digest(first, storage) != read_digest(second, storage)
    (item,) = read_items(second, storage)
    with rasterio.open(item.assets["B04"].href) as file:
        assert np.unique(file.read(1)).tolist() == [7]


def test_ingest_file_written_again_alike_gives_the_same_collection(
    area: Area, storage: Storage
) -> None:
    add_days(area, DAYS[:2])
    project = project_of(area.save())
    first = ingest(project, storage)
    path = area.folder / DAYS[0] / "red.tif"
    os.utime(path, ns=(1, 1))
    assert ingest(project, storage) == first
    assert len(read_items(first.items, storage)) == 2


def test_ingest_many_at_once_end_as_one(tmp_path: Path, storage: Storage) -> None:
    config = tmp_path / "simulated.toml"
    config.write_text('[data]\ncatalogue = "simulated"\nbands = { red = "B04" }\n')
    code = (
        "from terraflow.eo.project import open_project\n"
        "from terraflow.eo.steps import run_step\n"
        f"print(run_step('ingest', open_project({str(config)!r}), {{}})['items'])"
    )
    ingests = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = {ingest.communicate(timeout=200)[0].splitlines()[-1] for ingest in ingests}
    assert [ingest.returncode for ingest in ingests] == [0, 0, 0]
    found = list(Path(storage.settings.data_uri).rglob("collection-*"))
    assert said == {str(path) for path in found}
    assert len(found) == 1
    assert len(read_items(str(found[0]), storage)) == 6


def test_ingest_second_run_requests_no_image(
    area: Area, server: HttpServer, storage: Storage
) -> None:
    add_days(area)
    area.save(relative=True)
    project = project_of(f"{server.url}/catalog.json")
    first = ingest(project, storage)
    assert len(server.counts()) == 8
    server.requests.clear()
    assert ingest(project, storage) == first
    assert server.count() == 0


def test_ingest_later_dates_download_only_what_is_new(
    area: Area, server: HttpServer, storage: Storage
) -> None:
    add_days(area)
    area.save(relative=True)
    first = ingest(project_of(f"{server.url}/catalog.json", end="2024-06-01"), storage)
    server.requests.clear()
    second = ingest(project_of(f"{server.url}/catalog.json"), storage)
    assert set(server.counts()) == {"/2024-07-01/red.tif", "/2024-07-01/mask.tif"}
    assert len(read_items(second.items, storage)) == 4
    assert len(read_items(first.items, storage)) == 3  # what an older run used stays


def test_ingest_image_missing_keeps_the_others_and_goes_on_when_it_is_there(
    area: Area, server: HttpServer, storage: Storage
) -> None:
    add_days(area)
    area.save(relative=True)
    missing = area.folder / DAYS[3] / "red.tif"
    content = missing.read_bytes()
    missing.unlink()
    project = project_of(f"{server.url}/catalog.json")
    wanted = r"Asset B04 of item 2024-07-01 can't be read from http.*red\.tif \(HTTP 404\); check"
    with pytest.raises(DataError, match=wanted):
        ingest(project, storage)
    assert not list(Path(storage.settings.data_uri).rglob("collection-*"))
    missing.write_bytes(content)
    kept = len(stored(storage))
    assert 0 < kept < 8
    server.requests.clear()
    assert len(read_items(ingest(project, storage).items, storage)) == 4
    assert len(server.counts()) == 8 - kept


def test_ingest_killed_half_way_goes_on_where_it_stopped(
    area: Area, server: HttpServer, storage: Storage, tmp_path: Path
) -> None:
    add_days(area, tuple(f"2024-04-{day:02}" for day in range(1, 21)))
    area.save(relative=True)
    server.delay_s = 0.1
    config = tmp_path / "killed.toml"
    config.write_text(
        f'[data]\ncatalogue = "{server.url}/catalog.json"\nbands = {{ red = "B04" }}\n'
        '[cloud_mask]\nasset = "mask"\nclear = [1]\n'
    )
    code = (
        "from terraflow.eo.project import open_project\n"
        "from terraflow.eo.steps import run_step\n"
        f"run_step('ingest', open_project({str(config)!r}), {{}})"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while len(stored(storage)) < 8 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {f"/{path.parent.name}/{path.name.split('-')[0]}" for path in stored(storage)}
    assert 8 <= len(kept) < 40
    assert not list(Path(storage.settings.data_uri).rglob("collection-*"))
    server.delay_s = 0
    server.requests.clear()
    uri = ingest(project_of(f"{server.url}/catalog.json"), storage).items
    assert len(read_items(uri, storage)) == 20
    again = {path.removesuffix(".tif").replace("red", "B04") for path in server.counts()}
    assert len(again) == 40 - len(kept)
    assert not kept & again


def test_ingest_no_item_in_the_dates_gives_the_span(area: Area, storage: Storage) -> None:
    area.add("2024-04-01", np.ones((4, 4), "uint16"), ONES)
    wanted = r"between 2030-01-01 and 2030-02-01; its 1 items lie between 2024-04-01 and 2024-04-01"
    with pytest.raises(DataError, match=wanted):
        ingest(project_of(area.save(), start="2030-01-01", end="2030-02-01"), storage)


def test_ingest_item_without_a_configured_asset_is_named(area: Area, storage: Storage) -> None:
    add_days(area, DAYS[:2])
    del area.items[1].assets["B04"]
    wanted = r"1 of 2 items lack assets .*: 2024-05-01 lacks B04 and has mask; correct"
    with pytest.raises(DataError, match=wanted):
        ingest(project_of(area.save()), storage)
    assert not stored(storage)


def test_ingest_clips_to_the_area_on_whole_pixels(area: Area, storage: Storage) -> None:
    add_days(area, DAYS[:1])
    inner = transform_bounds("EPSG:32633", "EPSG:4326", 500_102, 5_099_702, 500_198, 5_099_798)
    project = project_of(area.save(), area=list(inner))
    (item,) = read_items(ingest(project, storage).items, storage)
    with rasterio.open(item.assets["B04"].href) as file:
        assert file.read(1)[0, 0] == 20 * 100 + 10  # row 20 and column 10 of the source
        left, bottom, right, top = file.bounds
        assert file.transform.a == 10
    # the box of a box in degrees is a little larger, by at most one pixel here
    assert 500_090 <= left <= 500_100
    assert 500_200 <= right <= 500_210
    assert 5_099_690 <= bottom <= 5_099_700
    assert 5_099_800 <= top <= 5_099_810
    assert item.bbox is not None
    assert box(*item.bbox).covers(box(*inner))


def test_ingest_leaves_out_images_that_do_not_reach_the_area_also_the_second_time(
    area: Area, server: HttpServer, storage: Storage
) -> None:
    add_days(area, DAYS[:2])
    path = area.folder / DAYS[1] / "red.tif"
    with rasterio.open(path, "r+") as file:
        file.transform = from_origin(600_000, 5_100_000, 10, 10)
    area.save(relative=True)
    inner = transform_bounds("EPSG:32633", "EPSG:4326", 500_100, 5_099_700, 500_200, 5_099_800)
    project = project_of(f"{server.url}/catalog.json", area=list(inner))
    assert names(project, storage) == [DAYS[0]]
    server.requests.clear()
    assert names(project, storage) == [DAYS[0]]
    assert server.count() == 0


def test_ingest_no_image_in_the_area_gives_both_extents(area: Area, storage: Storage) -> None:
    add_days(area, DAYS[:1])
    wanted = r"No image reaches the area \[20, 45, 20\.1, 45\.1\].*1 items lie within \[15, 46\.04"
    with pytest.raises(DataError, match=wanted):
        ingest(project_of(area.save(), area=[20, 45, 20.1, 45.1]), storage)


def test_ingest_items_of_two_utm_zones_stay_on_their_own_grids(
    tmp_path: Path, storage: Storage
) -> None:
    # longitude 18 is the border of zones 33 and 34
    zone33 = write_item(tmp_path, "zone33", "EPSG:32633", 730_000, 5_100_000)
    zone34 = write_item(tmp_path, "zone34", "EPSG:32634", 265_000, 5_100_000)
    assert zone33.bbox is not None
    assert zone34.bbox is not None
    both = box(*zone33.bbox).intersection(box(*zone34.bbox)).buffer(-0.01)
    path = write_items(tmp_path / "items.json", [zone33, zone34])
    project = project_of(path, area=list(both.bounds)).model_copy(update={"cloud_mask": None})
    items = read_items(ingest(project, storage).items, storage)
    codes = {item.id: item.assets["B04"].extra_fields["proj:code"] for item in items}
    assert codes == {"zone33": "EPSG:32633", "zone34": "EPSG:32634"}
    for item in items:
        with (
            rasterio.open(item.assets["B04"].href) as copy,
            rasterio.open(tmp_path / f"{item.id}.tif") as source,
        ):
            corner = source.index(copy.transform.c + 50, copy.transform.f - 50)
            assert copy.read(1)[0, 0] == corner[0] * 100 + corner[1]
            wanted = shape(transform_geom("EPSG:4326", copy.crs, mapping(both)))
            assert box(*copy.bounds).covers(wanted)
            assert copy.width < source.width


def test_ingest_crs_without_epsg_code_is_told_as_wkt_and_read_back(
    tmp_path: Path, storage: Storage
) -> None:
    item = write_item(tmp_path, "modis", rasterio.CRS.from_proj4(SINUSOIDAL), 1_111_950, 5_559_752)
    path = write_items(tmp_path / "items.json", [item])
    assert item.bbox is not None
    area = list(box(*item.bbox).centroid.buffer(0.01).bounds)
    project = project_of(path, area=area).model_copy(update={"cloud_mask": None})
    (copy,) = read_items(ingest(project, storage).items, storage)
    fields = copy.assets["B04"].extra_fields
    assert fields["proj:code"] is None
    crs = rasterio.CRS.from_wkt(fields["proj:wkt2"])
    assert crs.to_dict()["proj"] == "sinu"
    assert crs.to_dict()["R"] == 6371007.181
    with rasterio.open(copy.assets["B04"].href) as file:
        assert file.crs == crs
        assert 0 < file.width < 64
        row, column = divmod(int(file.read(1)[0, 0]), 100)
        assert file.transform.c == pytest.approx(1_111_950 + column * 100)
        assert file.transform.f == pytest.approx(5_559_752 - row * 100)


def test_ingest_from_files_without_a_catalogue(tmp_path: Path, storage: Storage) -> None:
    for day, value in (("20240401", 3), ("20240501", 5)):
        write_raster(tmp_path / "scenes" / f"s_{day}.tif", np.full((4, 4), value, "uint16"))
    project = make_project(
        data={"files": str(tmp_path / "scenes/*.tif"), "bands": {"red": "image"}}, cloud_mask=None
    )
    items = read_items(ingest(project, storage).items, storage)
    assert [item.datetime for item in items] == [
        datetime(2024, 4, 1, tzinfo=UTC),
        datetime(2024, 5, 1, tzinfo=UTC),
    ]
    with rasterio.open(items[1].assets["image"].href) as file:
        assert np.unique(file.read(1)).tolist() == [5]


def test_ingest_one_undated_file_with_many_bands(tmp_path: Path, storage: Storage) -> None:
    path = tmp_path / "scene.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=4,
        height=4,
        count=2,
        dtype="uint8",
        crs="EPSG:32633",
        transform=from_origin(500_000, 5_100_000, 10, 10),
    ) as file:
        file.write(np.stack([ONES, ONES * 2]))
    bands = {"red": "image.1", "nir": "image.2"}
    project = make_project(data={"files": str(path), "bands": bands}, cloud_mask=None)
    (item,) = read_items(ingest(project, storage).items, storage)
    assert item.properties["terraflow:undated"] is True
    for key, value in (("image.1", 1), ("image.2", 2)):
        with rasterio.open(item.assets[key].href) as file:
            assert file.count == 1
            assert np.unique(file.read(1)).tolist() == [value]


def test_ingest_undated_files_with_dates_asked_for_are_refused(
    tmp_path: Path, storage: Storage
) -> None:
    write_raster(tmp_path / "scene.tif", ONES)
    data = {"files": str(tmp_path / "scene.tif"), "bands": {"red": "image"}, "start": "2024-01-01"}
    with pytest.raises(DataError, match=r"hold no date, so that \[data\] start and end"):
        ingest(make_project(data=data, cloud_mask=None), storage)


def test_ingest_tells_the_dates_of_all_images(
    tmp_path: Path, storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    for day in ("2024135", "2024160"):
        write_raster(tmp_path / f"HLS.S30.T33TVL.{day}T100031.v2.0.B04.tif", ONES)
    data = {"files": str(tmp_path / "*.tif"), "bands": {"red": "image"}}
    for _ in range(2):  # also where all is there
        ingest(make_project(data=data, cloud_mask=None), storage)
        assert "Of 2 dates, 2024-05-14 to 2024-06-08\n" in "".join(capsys.readouterr())


def test_ingest_annual_item_in_part_of_its_year(
    area: Area, storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    add_days(area, DAYS[:1])
    area.items[0].datetime = None
    area.items[0].properties |= {
        "start_datetime": "2024-01-01T00:00:00Z",
        "end_datetime": "2024-12-31T23:59:59Z",
    }
    images = ingest(project_of(area.save(), start="2024-04-01", end="2024-09-30"), storage)
    assert "Of 1 period, 2024-01-01 to 2024-12-31\n" in "".join(capsys.readouterr())
    (item,) = read_items(images.items, storage)
    assert item.datetime is None
    told = json.loads(storage.read(images.items))["extent"]["temporal"]["interval"]
    assert told == [["2024-01-01T00:00:00Z", "2024-12-31T23:59:59Z"]]


@pytest.mark.parametrize("order", ["AB", "BA", "ABA", "BAB", "AAB"])
def test_ingest_items_of_one_id_in_two_collections_and_twice_the_same(
    order: str, area: Area, storage: Storage
) -> None:
    add_days(area, DAYS[:1])
    one = area.items[0]
    other = one.clone()  # its mask is the same file, so that one copy is of both items
    one.collection_id, other.collection_id = "l2a", "c1-l2a"
    other.assets["B04"].extra_fields = {"raster:bands": [{"scale": 0.001, "offset": 0.0}]}
    named = {"A": one, "B": other}
    path = write_items(area.folder / "items.json", [named[name].clone() for name in order])
    items = read_items(ingest(project_of(path), storage).items, storage)
    scales = [item.assets["B04"].extra_fields["raster:bands"][0]["scale"] for item in items]
    assert sorted(scales) == [0.0001, 0.001]


@pytest.mark.parametrize("folder", ["a b", "été", "[2024]", "a{}", "a%20b", "a!*"])
def test_ingest_of_a_catalogue_in_a_folder_with_odd_characters(
    folder: str, tmp_path: Path, storage: Storage
) -> None:
    area = Area(tmp_path / folder)
    add_days(area, DAYS[:2])
    items = read_items(ingest(project_of(area.save(relative=True)), storage).items, storage)
    for number, item in enumerate(items):
        with rasterio.open(item.assets["B04"].href) as file:
            assert file.read(1)[0, 0] == number


def test_ingest_images_that_differ_after_a_question_mark_are_two(
    tmp_path: Path, storage: Storage
) -> None:
    items = []
    for number in (1, 2):
        item = write_item(tmp_path / f"x?{number}", "scene", "EPSG:32633", 500_000, 5_100_000)
        with rasterio.open(item.assets["B04"].href, "r+") as file:
            file.write(np.full((64, 64), number, "uint16"), 1)
        os.utime(item.assets["B04"].href, (1, 1))
        item.properties["number"] = number
        items.append(item)
    path = write_items(tmp_path / "items.json", items)
    project = project_of(path).model_copy(update={"cloud_mask": None})
    found = set()
    for item in read_items(ingest(project, storage).items, storage):
        with rasterio.open(item.assets["B04"].href) as file:
            found.add(int(file.read(1)[0, 0]))
    assert found == {1, 2}


def test_ingest_labels_are_those_configured(area: Area, storage: Storage) -> None:
    add_days(area, DAYS[:1])
    project = make_project(
        data={"catalogue": str(area.save()), "bands": {"red": "B04"}},
        labels={"source": "/data/labels.gpkg"},
    )
    assert ingest(project, storage).labels == "/data/labels.gpkg"


def test_ingest_simulated_area_is_made_once_and_says_that_it_is(storage: Storage) -> None:
    project = make_project(
        data={"start": "2024-04-01", "end": "2024-09-30", "bands": {"red": "B04"}},
        cloud_mask={"asset": "SCL", "clear": [4]},
    )
    first = ingest(project, storage)
    items = read_items(first.items, storage)
    assert len(items) == 6
    assert all(item.properties["simulated"] and "SIMULATED" in item.id for item in items)
    assert all(set(item.assets) == {"B04", "SCL"} for item in items)
    assert storage.exists(first.labels)
    image = Path(items[0].assets["B04"].href)
    before = image.stat().st_mtime_ns
    assert ingest(project, storage) == first
    assert image.stat().st_mtime_ns == before


def test_ingest_slovenia_window_holds_the_source_pixels(slovenia: Path, storage: Storage) -> None:
    project = make_project(
        data={
            "catalogue": str(slovenia / "catalog.json"),
            "bands": {"ndvi": "ndvi"},
            "area": [14.553, 45.867, 14.56, 45.87],
            "end": "2015-08-30",
        },
        cloud_mask={"asset": "cloud", "clear": [0]},
    )
    items = read_items(ingest(project, storage).items, storage)
    assert len(items) == 4
    with (
        rasterio.open(items[0].assets["ndvi"].href) as copy,
        rasterio.open(slovenia / items[0].id / "ndvi.tif") as source,
    ):
        window = source.window(*copy.bounds).round_offsets().round_lengths()
        assert np.array_equal(copy.read(1), source.read(1, window=window), equal_nan=True)
        assert copy.shape == (window.height, window.width) == (35, 55)


def test_read_items_of_an_empty_collection_is_refused(tmp_path: Path, storage: Storage) -> None:
    path = write_items(tmp_path / "none.json", [])
    with pytest.raises(DataError, match="holds no item at all"):
        read_items(str(path), storage)


def test_ingest_from_a_stac_api_clips_what_the_search_finds(
    area: Area, server: HttpServer, storage: Storage
) -> None:
    add_days(area)
    for item in area.items:
        georeference(item, area.folder / item.id / "red.tif")
    api = server.serve_items(area.items, "images")
    inner = transform_bounds("EPSG:32633", "EPSG:4326", 500_102, 5_099_702, 500_198, 5_099_798)
    project = project_of(
        api, collection="images", area=list(inner), start="2024-04-15", end="2024-06-30"
    )
    items = read_items(ingest(project, storage).items, storage)
    assert [item.id for item in items] == ["2024-05-01", "2024-06-01"]
    for number, item in enumerate(items, start=1):
        with rasterio.open(item.assets["B04"].href) as file:
            assert file.read(1)[0, 0] == 20 * 100 + 10 + number
    server.requests.clear()
    ingest(project, storage)
    assert server.count() == 0


def test_step_with_items_takes_these_and_copies_nothing(area: Area, storage: Storage) -> None:
    project = OpenProject(Project("land_cover"), project_of("/nowhere/catalog.json"), storage)
    labels = project.config.labels.model_copy(update={"source": "/data/labels.gpkg"})
    project = replace(project, config=project.config.model_copy(update={"labels": labels}))
    found = step(project, {"items": "s3://elsewhere/collection.json"})
    assert found == Images(items="s3://elsewhere/collection.json", labels="/data/labels.gpkg")
    assert not stored(storage)


def test_step_without_items_ingests(
    area: Area, storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    add_days(area, DAYS[:1])
    project = OpenProject(Project("land_cover"), project_of(area.save()), storage)
    found = step(project, {"items": None})
    assert [item.id for item in read_items(found.items, storage)] == [DAYS[0]]
    capsys.readouterr()
    assert show(project, found.to_dict()) == 0
    assert "".join(capsys.readouterr()) == f"Collection: {found.items}\n"
