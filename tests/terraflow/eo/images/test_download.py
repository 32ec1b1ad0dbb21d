from __future__ import annotations

import resource
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.transform import Affine, from_origin
from rasterio.warp import transform_bounds

from area import CRS, TRANSFORM, write_raster
from http_server import Fault, HttpServer
from terraflow.eo.images.assets import Image
from terraflow.eo.images.download import Downloader, _gdal_name
from terraflow.errors import DataError, StorageError
from terraflow.storage import Storage, join

RED = np.random.default_rng(0).integers(1, 9999, (512, 512)).astype("uint16")
QUICK: dict[str, Any] = {"pause_s": 0.01, "timeout_s": 1}


@pytest.fixture
def red(server: HttpServer) -> Image:
    """An image that takes several requests to read."""
    with rasterio.open(
        server.folder / "red.tif",
        "w",
        driver="GTiff",
        width=512,
        height=512,
        count=1,
        dtype="uint16",
        crs=CRS,
        transform=TRANSFORM,
        tiled=True,
        blockxsize=128,
        blockysize=128,
    ) as file:
        file.write(RED, 1)
    return Image("scene", "red", f"{server.url}/red.tif?sig=secret")


def pixels(uri: Path | str) -> np.ndarray:
    with rasterio.open(uri) as file:
        return file.read(1)  # type: ignore[no-any-return]


@pytest.mark.parametrize("good", [0, 1], ids=["at first", "later"])
@pytest.mark.parametrize(
    "fault",
    [Fault(429, {"Retry-After": "0"}), Fault(500), Fault(503), Fault(truncate=True)],
    ids=["429", "500", "503", "truncated"],
)
def test_copy_fault_that_passes_is_tried_again(
    fault: Fault, good: int, red: Image, server: HttpServer, storage: Storage
) -> None:
    server.faults["/red.tif"] = [Fault()] * good + [fault] * 2
    uri = join(storage.settings.data_uri, "copy.tif")
    Downloader(storage, **QUICK).copy(red, uri)
    assert not server.faults["/red.tif"]
    assert np.array_equal(pixels(uri), RED)


def test_copy_server_that_hangs_is_left_after_the_timeout_and_tried_again(
    red: Image, server: HttpServer, storage: Storage, tmp_path: Path
) -> None:
    server.faults["/red.tif"] = [Fault(hang_s=30)]
    began = time.monotonic()
    Downloader(storage, **QUICK).copy(red, str(tmp_path / "copy.tif"))
    assert 0.9 < time.monotonic() - began < 10
    assert np.array_equal(pixels(tmp_path / "copy.tif"), RED)


def test_copy_fault_that_stays_is_told_after_five_tries_without_the_signature(
    red: Image, server: HttpServer, storage: Storage, tmp_path: Path
) -> None:
    server.always["/red.tif"] = Fault(503)
    wanted = (
        r"^Asset red of item scene can't be read from http://127\.0\.0\.1:\d+/red\.tif after 5 "
        r"tries \(HTTP 503\); check that the file is there"
    )
    with pytest.raises(DataError, match=wanted) as caught:
        Downloader(storage, **QUICK).copy(red, str(tmp_path / "copy.tif"))
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert not (tmp_path / "copy.tif").exists()


def test_copy_pauses_double_and_a_longer_retry_after_counts(
    red: Image, server: HttpServer, storage: Storage, tmp_path: Path
) -> None:
    class Clock(threading.Event):
        """Notes pauses and makes none."""

        pauses: ClassVar[list[float | None]] = []

        def wait(self, timeout: float | None = None) -> bool:
            self.pauses.append(timeout)
            return False

    server.always["/red.tif"] = Fault(429, {"Retry-After": "3"})
    with pytest.raises(DataError, match="HTTP 429"):
        Downloader(storage, stop=Clock()).copy(red, str(tmp_path / "copy.tif"))
    assert Clock.pauses == [3, 3, 4, 8]


@pytest.mark.parametrize("status", [403, 404, 410])
def test_copy_refused_or_missing_file_is_not_tried_again(
    status: int, red: Image, server: HttpServer, storage: Storage, tmp_path: Path
) -> None:
    server.always["/red.tif"] = Fault(status)
    with pytest.raises(DataError, match=rf"red\.tif \(HTTP {status}\)"):
        Downloader(storage, pause_s=60).copy(red, str(tmp_path / "copy.tif"))


def test_copy_unreachable_server_is_told(storage: Storage, tmp_path: Path) -> None:
    image = Image("scene", "red", "http://127.0.0.1:1/red.tif")
    with pytest.raises(DataError, match=r"after 5 tries \(no answer, ConnectionError\)"):
        Downloader(storage, **QUICK).copy(image, str(tmp_path / "copy.tif"))


def test_copy_file_cut_short_on_the_server_is_told(
    red: Image, server: HttpServer, storage: Storage, tmp_path: Path
) -> None:
    path = server.folder / "red.tif"
    path.write_bytes(path.read_bytes()[:300_000])
    with pytest.raises(DataError, match=r"red\.tif after 5 tries \(.*IReadBlock failed"):
        Downloader(storage, **QUICK).copy(red, str(tmp_path / "copy.tif"))


def test_copy_local_file_cut_short_is_told_at_once(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "red.tif"
    write_raster(path, RED)
    path.write_bytes(path.read_bytes()[:300_000])
    with pytest.raises(DataError, match=rf"item scene can't be read from {path} \("):
        Downloader(storage, pause_s=60).copy(Image("scene", "red", str(path)), "copy.tif")
    assert not (tmp_path / "copy.tif").exists()


def test_copy_page_that_is_no_image_is_told(
    red: Image, server: HttpServer, storage: Storage, tmp_path: Path
) -> None:
    (server.folder / "red.tif").write_text("<html>Please log in</html>")
    with pytest.raises(DataError, match=r"\(.*not recognized as being in a supported") as caught:
        Downloader(storage, **QUICK).copy(red, str(tmp_path / "copy.tif"))
    assert "secret" not in str(caught.value)


def test_copy_reads_a_window_and_not_the_whole_file(
    red: Image, server: HttpServer, storage: Storage, tmp_path: Path
) -> None:
    bounds = transform_bounds(CRS, "EPSG:4326", 501_300, 5_098_600, 501_400, 5_098_700)
    big = np.tile(RED, (8, 8))
    with rasterio.open(
        server.folder / "red.tif",
        "w",
        driver="GTiff",
        width=4096,
        height=4096,
        count=1,
        dtype="uint16",
        crs=CRS,
        transform=TRANSFORM,
        tiled=True,
    ) as file:
        file.write(big, 1)
    Downloader(storage, bounds).copy(red, str(tmp_path / "copy.tif"))
    with rasterio.open(tmp_path / "copy.tif") as copy:
        row, column = rasterio.transform.rowcol(
            TRANSFORM, copy.bounds.left + 5, copy.bounds.top - 5
        )
        window = big[row : row + copy.height, column : column + copy.width]
        assert np.array_equal(copy.read(1), window)
    assert server.sent < 1_000_000 < (server.folder / "red.tif").stat().st_size


def test_copy_that_is_there_is_not_made_again(
    red: Image, server: HttpServer, storage: Storage, tmp_path: Path
) -> None:
    downloader = Downloader(storage)
    first = downloader.copy(red, str(tmp_path / "copy.tif"))
    server.requests.clear()
    second = downloader.copy(red, str(tmp_path / "copy.tif"))
    assert server.count() == 0
    assert first.asset is not None
    assert second.asset is not None
    assert first.asset.to_dict() == second.asset.to_dict()


def test_copy_signs_the_address_just_before_each_try(
    red: Image, server: HttpServer, storage: Storage, tmp_path: Path
) -> None:
    signed: list[str] = []

    def sign(href: str) -> str:
        signed.append(href)
        return f"{href}?token={len(signed)}"

    server.faults["/red.tif"] = [Fault(500)] * 3
    image = Image("scene", "red", f"{server.url}/red.tif")
    Downloader(storage, sign=sign, **QUICK).copy(image, str(tmp_path / "copy.tif"))
    assert len(signed) >= 2


def test_copy_all_runs_several_at_once_and_shows_progress(
    server: HttpServer, storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = {}
    for number in range(16):
        write_raster(server.folder / f"{number}.tif", RED[:16, :16])
        image = Image("scene", str(number), f"{server.url}/{number}.tif")
        images[str(tmp_path / f"copy-{number}.tif")] = image
    began = time.monotonic()
    for uri, image in list(images.items())[:1]:
        server.delay_s = 0.2
        Downloader(storage).copy(image, uri + ".alone")
    alone = time.monotonic() - began
    began = time.monotonic()
    copies = dict(Downloader(storage, threads=16).copy_all(images))
    assert time.monotonic() - began < 8 * alone
    assert set(copies) == set(images)
    assert "ingest" in capsys.readouterr().err


def test_copy_all_keeps_what_is_done_when_one_image_is_missing(
    server: HttpServer, storage: Storage, tmp_path: Path
) -> None:
    images = {}
    for number in range(6):
        if number != 3:
            write_raster(server.folder / f"{number}.tif", RED[:16, :16])
        image = Image("scene", str(number), f"{server.url}/{number}.tif")
        images[str(tmp_path / f"copy-{number}.tif")] = image
    done = []
    copies = Downloader(storage, threads=1).copy_all(images)
    with pytest.raises(DataError, match=r"3\.tif \(HTTP 404\)"):
        done.extend(uri for uri, _ in copies)
    assert {str(tmp_path / f"copy-{n}.tif") for n in range(3)} <= set(done)
    assert all(Path(uri).exists() for uri in done)
    assert not (tmp_path / "copy-3.tif").exists()


def test_copy_all_stopped_by_ctrl_c_does_not_wait_for_pauses(
    red: Image, server: HttpServer, storage: Storage, tmp_path: Path
) -> None:
    write_raster(server.folder / "good.tif", RED[:16, :16])
    server.always["/red.tif"] = Fault(503)
    good = Image("scene", "good", f"{server.url}/good.tif")
    copies = Downloader(storage, pause_s=60).copy_all(
        {str(tmp_path / "red.tif"): red, str(tmp_path / "good.tif"): good}
    )
    began = time.monotonic()
    assert next(copies)[0].endswith("good.tif")
    with pytest.raises(KeyboardInterrupt):
        copies.throw(KeyboardInterrupt())  # type: ignore[attr-defined]
    assert time.monotonic() - began < 20


def test_copy_is_the_same_byte_for_byte(red: Image, storage: Storage, tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif"):
        Downloader(storage).copy(red, str(tmp_path / name))
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_copy_on_a_full_disk_is_told_and_leaves_nothing(storage: Storage, tmp_path: Path) -> None:
    write_raster(tmp_path / "red.tif", RED)
    image = Image("scene", "red", str(tmp_path / "red.tif"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # as a disk with no more room
    try:
        with pytest.raises(StorageError, match="free space there and run it again"):
            Downloader(storage).copy(image, str(tmp_path / "copy.tif"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "copy.tif").exists()
    assert not list((storage.settings.var / "tmp").iterdir())


def test_copy_file_without_crs_is_named(storage: Storage, tmp_path: Path) -> None:
    write_raster(tmp_path / "red.tif", RED, crs=None)
    with pytest.raises(DataError, match=rf"{tmp_path}/red\.tif\) has no CRS; write it"):
        Downloader(storage).copy(Image("scene", "red", str(tmp_path / "red.tif")), "copy.tif")


def test_copy_file_of_several_images_is_refused(storage: Storage, tmp_path: Path) -> None:
    write_raster(tmp_path / "x.tif", np.ones((4, 4), "uint8"))
    write_raster(tmp_path / "page.tif", np.ones((4, 4), "uint8"))
    pages = tmp_path / "x.tif"
    rasterio.shutil.copy(tmp_path / "page.tif", pages, driver="GTiff", append_subdataset="YES")
    with pytest.raises(DataError, match=r"Asset red of item day holds 2 images .*GTIFF_DIR:2"):
        Downloader(storage).copy(Image("day", "red", str(pages)), str(tmp_path / "copy.tif"))


def test_copy_all_warnings_of_rasterio_do_not_get_out(
    storage: Storage, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    with rasterio.open(
        tmp_path / "x.tif", "w", driver="GTiff", width=4, height=4, count=1, dtype="uint8", crs=CRS
    ) as file:
        file.write(np.ones((1, 4, 4), "uint8"))
    recwarn.clear()
    images = {str(tmp_path / "copy.tif"): Image("day", "red", str(tmp_path / "x.tif"))}
    with pytest.raises(DataError):
        list(Downloader(storage).copy_all(images))
    assert not [w for w in recwarn.list if w.category is not PendingDeprecationWarning]


def test_gdal_name_keeps_what_follows_a_number_sign() -> None:
    """As rasterio does not: seen with MinIO."""
    assert _gdal_name("s3://eo-data/a#1/x.tif") == "/vsis3/eo-data/a#1/x.tif"
    for href in ("s3://eo-data/a 1/x.tif", "/data/a#1/x.tif", "https://example.org/x.tif#1"):
        assert _gdal_name(href) == href


def test_copy_band_that_the_file_lacks_is_told(storage: Storage, tmp_path: Path) -> None:
    write_raster(tmp_path / "red.tif", RED)
    image = Image("scene", "red.3", str(tmp_path / "red.tif"), band=3)
    with pytest.raises(DataError, match=r"has 1 bands, not 3; correct \[data\.bands\]"):
        Downloader(storage).copy(image, "copy.tif")


def test_copy_rotated_grid_is_refused(storage: Storage, tmp_path: Path) -> None:
    write_raster(tmp_path / "red.tif", RED)
    with rasterio.open(tmp_path / "red.tif", "r+") as file:
        file.transform = Affine(10, 2, 500_000, 2, -10, 5_100_000)
    with pytest.raises(DataError, match="has a rotated or mirrored grid; warp it"):
        Downloader(storage).copy(Image("scene", "red", str(tmp_path / "red.tif")), "copy.tif")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, {"scale": 0.5, "offset": 2.0, "nodata": 7}),
        (
            {"scale": 0.0001, "offset": -0.1, "nodata": 0.0},
            {"scale": 0.0001, "offset": -0.1, "nodata": 0},
        ),
        ({"nodata": -9999.0}, {"scale": 0.5, "offset": 2.0, "nodata": 7}),
    ],
    ids=["the file's", "the item's", "nodata the type can't hold"],
)
def test_copy_carries_scale_offset_and_nodata(
    told: dict[str, float], expected: dict[str, float], storage: Storage, tmp_path: Path
) -> None:
    write_raster(tmp_path / "red.tif", RED, 7)
    with rasterio.open(tmp_path / "red.tif", "r+") as file:
        file.scales, file.offsets = (0.5,), (2.0,)
    image = Image("scene", "red", str(tmp_path / "red.tif"), **told)  # type: ignore[arg-type]
    copy = Downloader(storage).copy(image, str(tmp_path / "copy.tif"))
    assert copy.asset is not None
    assert copy.asset.extra_fields["raster:bands"] == [{"data_type": "uint16"} | expected]
    with rasterio.open(tmp_path / "copy.tif") as file:
        assert file.nodata == expected["nodata"]
        assert file.scales == (expected["scale"],)


def test_copy_nodata_nan_is_told_as_stac_wants_it(storage: Storage, tmp_path: Path) -> None:
    write_raster(tmp_path / "ndvi.tif", RED.astype("float32"), np.nan)
    image = Image("scene", "ndvi", str(tmp_path / "ndvi.tif"))
    copy = Downloader(storage).copy(image, str(tmp_path / "copy.tif"))
    assert copy.asset is not None
    assert copy.asset.extra_fields["raster:bands"][0]["nodata"] == "nan"


def test_copy_larger_than_a_strip_of_rows_is_whole(storage: Storage, tmp_path: Path) -> None:
    data = np.arange(2500 * 40, dtype="uint32").reshape(2500, 40)
    write_raster(tmp_path / "red.tif", data)
    image = Image("scene", "red", str(tmp_path / "red.tif"))
    Downloader(storage).copy(image, str(tmp_path / "copy.tif"))
    assert np.array_equal(pixels(tmp_path / "copy.tif"), data)


def test_copy_world_file_beside_a_local_image_counts(storage: Storage, tmp_path: Path) -> None:
    write_raster(tmp_path / "red.tif", RED[:4, :4])
    with rasterio.open(
        tmp_path / "red.png",
        "w",
        driver="PNG",
        width=4,
        height=4,
        count=1,
        dtype="uint16",
        crs=CRS,
        transform=from_origin(600_000, 5_100_000, 20, 20),
    ) as file:
        file.write(RED[:4, :4], 1)
    copy = Downloader(storage).copy(
        Image("scene", "red", str(tmp_path / "red.png")), str(tmp_path / "copy.tif")
    )
    assert copy.asset is not None
    assert copy.asset.extra_fields["proj:transform"] == [20, 0, 600_000, 0, -20, 5_100_000]
