"""Kind: dates in names, and items that cover a period."""

from __future__ import annotations

import re

import pytest

from field.bed import Bed
from field.scenes import REFLECTANCE_BANDS, labels, reflectance, write_catalogue, write_scene


@pytest.fixture
def months(bed: Bed) -> Bed:
    labels().to_file(bed.folder / "labels.gpkg")
    bed.set("features", composites="month")
    return bed


def periods(bed: Bed) -> set[str]:
    return {found for name in bed.table() for found in re.findall(r"20\d\d-\d\d", name)}


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (
            "HLS.S30.T33TVL.2024{doy}T100031.v2.0.{band}.tif",
            r"\.(?P<date>\d{7})T.*\.(?P<band>B\w\w)$",
        ),
        (
            "MOD13Q1.A2024{doy}.h18v04.061.2024291114502.{band}.tif",
            r"A(?P<date>\d{7}).*(?P<band>B\w\w)$",
        ),
        ("LC08_L2SP_191028_2024{md}_20241020_02_T1_{band}.tif", None),
        ("S2A_2024-{m}-{d}_T33TVL_{band}.tif", None),
    ],
)
def test_dates_of_products(months: Bed, names: str, pattern: str | None) -> None:
    for day in ("135 05 14", "160 06 08"):
        doy, m, d = day.split()
        for band, code in enumerate(("B02", "B03", "B04", "B8A")):
            name = names.format(doy=doy, m=m, d=d, md=m + d, band=code)
            write_scene(months.folder / name, reflectance()[band].astype("float32"))
    codes = dict(zip(REFLECTANCE_BANDS, ("B02", "B03", "B04", "B8A"), strict=True))
    months.set("data.bands", **codes)
    bands = r"(?P<date>\d{8}|\d{4}-\d\d-\d\d).*_(?P<band>B\w\w)$"
    months.set("data", name_pattern=pattern or bands)
    assert periods(months) == {"2024-05", "2024-06"}
    said = months.ok("ingest")
    assert "2024-05-14" in said
    assert "2024-06-08" in said


@pytest.mark.parametrize(
    "name",
    [
        "ortho_20249914_20240514.tif",
        "orbit_120240514123_20240514.tif",
        "HLS.L30.T33TVL.2024135T100031.v2.0.tif",
        "20240514T100031_scene.tif",
    ],
)
def test_date_is_found_by_the_pattern_of_the_default(months: Bed, name: str) -> None:
    write_scene(months.folder / name, reflectance().astype("float32"))
    assert periods(months) == {"2024-05"}


def test_date_that_no_pattern_can_give(months: Bed) -> None:
    for name in ("scene_14052024.tif", "scene_08062024.tif"):
        write_scene(months.folder / name, reflectance().astype("float32"))
    months.set("data", name_pattern=r"(?P<date>\d{8})")
    months.fails("preprocess", says=["date_format"])
    months.set("data", date_format="%d%m%Y")
    assert periods(months) == {"2024-05", "2024-06"}


@pytest.mark.parametrize("date", ["18500101", "29990101"])
def test_date_that_is_not_plausible(months: Bed, date: str) -> None:
    write_scene(months.folder / f"scene_{date}.tif", reflectance().astype("float32"))
    months.set("data", name_pattern=r"(?P<date>\d{8})")
    months.fails("preprocess", says=[date[:4]])


def test_item_that_covers_a_year(bed: Bed) -> None:
    covers = {"start_datetime": "2024-01-01T00:00:00Z", "end_datetime": "2024-12-31T23:59:59Z"}
    item = {"values": reflectance(), "properties": {"datetime": None} | covers}
    write_catalogue(bed.folder, [item])
    labels().to_file(bed.folder / "labels.gpkg")
    bed.set("data", files=None, catalogue="catalogue.json", start="2024-04-01", end="2024-09-30")
    bed.set("data.bands", **{name: name for name in REFLECTANCE_BANDS})
    bed.check_map()
    bed.set("data", start="2025-04-01", end="2025-09-30")
    bed.fails("ingest", says=["2024-01-01", "2024-12-31"])
