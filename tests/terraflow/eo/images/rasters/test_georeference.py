from __future__ import annotations

import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC
from rasterio.transform import Affine

from area import CRS, TRANSFORM, make_project
from terraflow.eo.images.assets import Image
from terraflow.eo.images.clip import read_bounds, write_clip
from terraflow.eo.images.collection import read_items
from terraflow.eo.images.ingest import ingest
from terraflow.eo.images.sources.local_files import find_files
from terraflow.errors import DataError
from terraflow.storage import Storage

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
VALUES = np.arange(1, 41 * 61 + 1, dtype="uint16").reshape(41, 61)
LOCAL = (
    'LOCAL_CS["Local Coordinates (m)",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
)
ENGINEERING = (
    'ENGCRS["site grid",EDATUM["plant"],CS[Cartesian,2],AXIS["(E)",east],AXIS["(N)",north],'
    'LENGTHUNIT["metre",1]]'
)
MARS = (
    'PROJCS["Mars sinusoidal",GEOGCS["Mars",DATUM["Mars",SPHEROID["Mars",3396190,0]],'
    'PRIMEM["Reference",0],UNIT["degree",0.0174532925199433]],PROJECTION["Sinusoidal"],'
    'PARAMETER["longitude_of_center",0],UNIT["metre",1]]'
)
POLYNOMIALS = RPC(
    height_off=0,
    height_scale=100,
    lat_off=46,
    lat_scale=0.05,
    long_off=15,
    long_scale=0.05,
    line_off=20,
    line_scale=20,
    samp_off=30,
    samp_scale=30,
    line_num_coeff=[0, 0, -1] + [0] * 17,
    line_den_coeff=[1] + [0] * 19,
    samp_num_coeff=[0, 1] + [0] * 18,
    samp_den_coeff=[1] + [0] * 19,
    err_bias=0,
    err_rand=0,
)


def write(
    path: Path, crs: str | None = CRS, transform: Affine | None = TRANSFORM, **more: Any
) -> Path:
    gcps, rpcs = more.pop("gcps", None), more.pop("rpcs", None)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=61,
        height=41,
        count=1,
        dtype="uint16",
        crs=crs,
        transform=transform,
    ) as file:
        if gcps:
            file.gcps = gcps, rasterio.crs.CRS.from_string(CRS)
        if rpcs:
            file.rpcs = rpcs
        file.write(VALUES, 1)
    return path


def copied(path: Path, storage: Storage) -> tuple[Affine, np.ndarray]:
    """Ingest a file as a user does; give the copy's grid and values."""
    data = {"files": str(path), "bands": {"red": "image"}}
    project = make_project(data=data, cloud_mask=None)
    (item,) = read_items(ingest(project, storage).items, storage)
    with rasterio.open(item.assets["image"].href) as copy:
        return copy.transform, copy.read(1)


def follow(message: str) -> None:
    """Type the line of an error's remedy."""
    found = re.search(r"`(rio [^`]*)`", message)
    assert found, message
    rio = Path(sys.executable).with_name("rio")
    subprocess.run([rio, *shlex.split(found[1])[1:]], check=True, capture_output=True)


def control_points() -> list[GroundControlPoint]:
    corners = [(0, 0), (0, 61), (41, 0), (41, 61)]
    return [GroundControlPoint(row, col, *(TRANSFORM * (col, row))) for row, col in corners]


def test_ingest_of_ground_control_points_tells_the_warp_that_helps(
    tmp_path: Path, storage: Storage
) -> None:
    path = write(tmp_path / "s 1_20240514.tif", None, Affine.identity(), gcps=control_points())
    with pytest.raises(DataError, match=r"4 ground control points, and has no grid") as error:
        copied(path, storage)
    follow(str(error.value))
    grid, values = copied(tmp_path / "s 1_20240514_warped.tif", storage)
    assert grid.almost_equals(TRANSFORM, 1e-6)
    assert (values == VALUES).all()


def test_ingest_of_rational_polynomials_is_refused(tmp_path: Path, storage: Storage) -> None:
    path = write(tmp_path / "a_20240514.tif", None, Affine.identity(), rpcs=POLYNOMIALS)
    with pytest.raises(DataError, match=r"\(RPC\), and has no grid; warp it with `gdalwarp -rpc"):
        copied(path, storage)


@pytest.mark.parametrize(
    ("crs", "what"),
    [
        (LOCAL, r"the local CRS 'Local Coordinates \(m\)'"),
        (ENGINEERING, "the local CRS 'site grid'"),
        ("EPSG:4978", "the geocentric CRS 'WGS 84'"),
        ("ESRI:104903", "coordinates as 500305, 5099795 in the degrees of 'GCS_Moon_2000'"),
        (MARS, "the CRS 'Mars sinusoidal'"),
        ("EPSG:4326", "coordinates as 500305, 5099795 in the degrees of 'WGS 84'"),
        ("EPSG:4807", r"coordinates as 500305, 5099795 in the degrees of 'NTF \(Paris\)'"),
    ],
    ids=["local", "engineering", "geocentric", "moon", "mars", "degrees", "grads"],
)
def test_ingest_of_a_crs_that_has_no_places_tells_what_helps(
    crs: str, what: str, tmp_path: Path, storage: Storage
) -> None:
    path = write(tmp_path / "a_20240514.tif", crs)
    with pytest.raises(DataError, match=f"{what}, which can't be placed on the earth") as error:
        copied(path, storage)
    follow(str(error.value))
    grid, values = copied(path, storage)
    assert grid == TRANSFORM
    assert (values == VALUES).all()


@pytest.mark.parametrize(
    "transform",
    [
        TRANSFORM * Affine.rotation(20),
        TRANSFORM * Affine.rotation(0.01),
        TRANSFORM * Affine(-1, 0, 61, 0, 1, 0),
        TRANSFORM * Affine(-1, 0, 61, 0, -1, 41),
        TRANSFORM * Affine(0, 1, 0, 1, 0, 0),
    ],
    ids=["rotated", "a little", "mirrored", "half a turn", "axes swapped"],
)
def test_ingest_of_a_rotated_grid_tells_the_warp_that_helps(
    transform: Affine, tmp_path: Path, storage: Storage
) -> None:
    path = write(tmp_path / "a_20240514.tif", CRS, transform)
    with pytest.raises(DataError, match=r"has a rotated or mirrored grid; warp it") as error:
        copied(path, storage)
    follow(str(error.value))
    grid, values = copied(tmp_path / "a_20240514_warped.tif", storage)
    assert grid.b == grid.d == 0
    assert grid.a > 0 > grid.e
    assert abs(grid.a) == pytest.approx(10)
    middle = ~grid * (transform * (30.5, 20.5))
    assert values[int(middle[1]), int(middle[0])] == VALUES[20, 30]


def test_ingest_of_a_rotation_of_rounding_size_keeps_all(tmp_path: Path, storage: Storage) -> None:
    transform = Affine(10, 1e-11, 500_000, -3e-12, -10, 5_100_000)
    grid, values = copied(write(tmp_path / "a_20240514.tif", CRS, transform), storage)
    assert grid == TRANSFORM
    assert (values == VALUES).all()


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:3995", Affine(1000, 0, -30_500, 0, -1000, 20_500)),
        ("EPSG:3031", Affine(1000, 0, -30_500, 0, -1000, 20_500)),
        ("EPSG:4326", Affine(0.25, 0, -180, 0, -0.25, 90.125)),
        ("EPSG:6933", Affine(1000, 0, 1_000_000, 0, -1000, 7_340_000)),
    ],
    ids=["north", "south", "degrees to 90", "beyond the globe"],
)
def test_ingest_around_a_pole_is_as_it_was(
    crs: str, transform: Affine, tmp_path: Path, storage: Storage
) -> None:
    grid, values = copied(write(tmp_path / "a_20240514.tif", crs, transform), storage)
    assert grid == transform
    assert (values == VALUES).all()


def test_read_bounds_of_degrees_around_a_pole_end_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", "EPSG:4326", Affine(0.25, 0, -180, 0, -0.25, 90.125))
    with rasterio.open(path) as file:
        assert read_bounds(file)[3] == 90


def test_find_files_of_a_local_crs_is_refused_before_any_copy(tmp_path: Path) -> None:
    path = write(tmp_path / "a_20240514.tif", LOCAL)
    with pytest.raises(DataError, match=r"rio edit-info --crs EPSG:32633 .*a_20240514\.tif"):
        find_files(str(path), r"(?P<date>\d{8})")


def test_write_clip_of_a_local_crs_in_a_catalogue_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", LOCAL)
    image = Image("scene", "red", str(path))
    with rasterio.open(path) as file, pytest.raises(DataError, match=r"^Asset red of item scene"):
        write_clip(file, image, (14.0, 45.0, 16.0, 47.0), tmp_path / "copy.tif")


def test_ingest_of_a_catalogue_that_can_not_be_placed_warns_in_our_words_alone(
    tmp_path: Path, storage: Storage
) -> None:
    item = pystac.Item("a", None, None, pystac.utils.str_to_datetime("2024-05-01"), {})
    item.add_asset("red", pystac.Asset(str(tmp_path / "a.tif")))
    pystac.ItemCollection([item]).save_object(str(tmp_path / "items.json"))
    data = {"catalogue": str(tmp_path / "items.json"), "bands": {"red": "red"}}
    for what, told in {
        "4 ground control points": {"crs": None, "gcps": control_points()},
        "rational polynomials": {"crs": None, "rpcs": POLYNOMIALS},
        "does not tell its grid": {"crs": CRS},
        "has no CRS": {"crs": None},
    }.items():
        write(tmp_path / "a.tif", **({"transform": None} | told))
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", NotGeoreferencedWarning)
            with pytest.raises(DataError, match=rf"Asset red of item a .*{what}"):
                ingest(make_project(data=data, cloud_mask=None), storage)
        assert [w for w in warned if w.category is NotGeoreferencedWarning] == []
