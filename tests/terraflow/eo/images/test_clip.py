from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import odc.stac
import pystac
import pytest
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetReader
from rasterio.transform import Affine
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from area import CRS, TRANSFORM, Area, make_project, write_raster
from terraflow.eo.config.addresses import without_query
from terraflow.eo.images.assets import Image, find_scaling
from terraflow.eo.images.clip import describe, read_bounds, write_clip
from terraflow.eo.images.collection import read_items
from terraflow.eo.images.ingest import ingest
from terraflow.eo.images.rasters.filling import Filling
from terraflow.eo.images.sources.local_files import find_files
from terraflow.errors import DataError, StorageError
from terraflow.storage import Storage

Pixels = npt.NDArray[np.generic]


def clip(source: Path, bounds: tuple[float, float, float, float] | None = None) -> Path:
    cog = source.with_name("copy.tif")
    with rasterio.open(source) as file:
        assert write_clip(file, Image("scene", "red", str(source)), bounds, cog) is not None
    return cog


def write_south_up(path: Path, data: Pixels) -> None:
    """Write a raster, given from north to south, with its southernmost row first."""
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=data.shape[1],
        height=data.shape[0],
        count=1,
        dtype=data.dtype,
        crs=CRS,
        transform=TRANSFORM * Affine(1, 0, 0, 0, -1, data.shape[0]),
    ) as file:
        file.write(data[::-1], 1)


def test_write_clip_warped_to_a_coarser_grid_by_average_is_the_mean_of_all_pixels(
    tmp_path: Path,
) -> None:
    red = np.random.default_rng(0).integers(0, 10_000, (1200, 1200)).astype("float32")
    write_raster(tmp_path / "red.tif", red)
    asset, bounds = describe(cog := clip(tmp_path / "red.tif"), str(tmp_path / "copy.tif"))
    with rasterio.open(cog) as file:
        assert file.overviews(1) == []
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    item = pystac.Item.from_dict(
        {
            "type": "Feature",
            "stac_version": "1.1.0",
            "id": "scene",
            "links": [],
            "stac_extensions": ["https://stac-extensions.github.io/projection/v2.0.0/schema.json"],
            "geometry": None,
            "bbox": list(bounds),
            "assets": {"red": asset.to_dict()},
            "properties": {"datetime": "2024-05-01T00:00:00Z"},
        },
    )
    grid = GeoBox((600, 600), TRANSFORM * Affine.scale(2), CRS)
    loaded = odc.stac.load([item], bands=["red"], geobox=grid, resampling="average")
    expected = red.reshape(600, 2, 600, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(loaded["red"].values[0], expected, rtol=1e-6)


def test_write_clip_south_up_is_copied_north_up(tmp_path: Path) -> None:
    data = np.arange(2500 * 40, dtype="uint32").reshape(2500, 40)  # more than a strip of rows
    write_south_up(tmp_path / "red.tif", data)
    with rasterio.open(clip(tmp_path / "red.tif")) as copy:
        assert copy.transform == TRANSFORM
        assert np.array_equal(copy.read(1), data)


def test_write_clip_south_up_is_clipped_as_the_same_image_north_up(tmp_path: Path) -> None:
    data = np.arange(64 * 64, dtype="uint16").reshape(64, 64)
    bounds = transform_bounds(CRS, "EPSG:4326", 500_102, 5_099_402, 500_198, 5_099_598)
    copies = []
    for name, write in (("north", write_raster), ("south", write_south_up)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "red.tif", data)
        with rasterio.open(tmp_path / name / "red.tif") as file:
            copies.append((read_bounds(file),))
        with rasterio.open(clip(tmp_path / name / "red.tif", bounds)) as copy:
            copies[-1] += (copy.transform, copy.read(1).tolist())
    assert copies[0] == copies[1]
    assert copies[0][2][0][0] == 40 * 64 + 10


def test_find_files_south_up_is_ingested_within_the_area(tmp_path: Path, storage: Storage) -> None:
    data = np.arange(64 * 64, dtype="uint16").reshape(64, 64)
    write_south_up(tmp_path / "s_20240501.tif", data)
    inner = transform_bounds(CRS, "EPSG:4326", 500_102, 5_099_402, 500_198, 5_099_598)
    data_section = {"files": str(tmp_path / "s_*.tif"), "bands": {"red": "image"}, "area": inner}
    project = make_project(data=data_section, cloud_mask=None)
    (source,) = find_files(project.data.files, project.data.name_pattern)
    assert source.bbox is not None
    assert source.bbox[1] < source.bbox[3]
    (item,) = read_items(ingest(project, storage).items, storage)
    with rasterio.open(item.assets["image"].href) as copy:
        assert copy.transform.e == -10
        assert copy.read(1)[0, 0] == 40 * 64 + 10


@pytest.mark.parametrize(
    ("transform", "what"),
    [
        (Affine(-10, 0, 500_640, 0, -10, 5_100_000), "has a rotated or mirrored grid; warp it"),
        (Affine.identity(), "does not tell its grid; write it into the file"),
    ],
    ids=["mirrored", "none"],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_write_clip_of_another_grid_is_refused(
    transform: Affine, what: str, tmp_path: Path
) -> None:
    with rasterio.open(
        tmp_path / "red.tif",
        "w",
        driver="GTiff",
        width=4,
        height=4,
        count=1,
        dtype="uint8",
        crs=CRS,
        transform=transform,
    ) as file:
        file.write(np.ones((4, 4), "uint8"), 1)
    with pytest.raises(DataError, match=rf"{tmp_path}/red\.tif\) {what}"):
        clip(tmp_path / "red.tif")


def test_ingest_of_an_original_file_keeps_its_offset_for_find_scaling(
    area: Area, storage: Storage
) -> None:
    # the copy is a COG, whose offset Earth Search would have subtracted
    area.add("2024-05-01", np.ones((4, 4), "uint16"), np.ones((4, 4), "uint8"))
    area.items[0].properties["earthsearch:boa_offset_applied"] = True
    area.items[0].assets["B04"].media_type = pystac.MediaType.JPEG2000
    project = make_project(data={"catalogue": str(area.save()), "bands": {"red": "B04"}})
    (item,) = read_items(ingest(project, storage).items, storage)
    assert find_scaling(item, "B04") == (0.0001, -0.1, 0)


def test_write_clip_that_the_disk_does_not_hold_is_refused_before_it_is_read(
    tmp_path: Path,
) -> None:
    path = tmp_path / "huge.tif"
    profile = {"driver": "GTiff", "crs": CRS, "transform": TRANSFORM, "count": 1}
    huge = {"width": 2**21, "height": 2**21, "tiled": True, "sparse_ok": True, "bigtiff": "YES"}
    with rasterio.open(path, "w", **profile, **huge, dtype="float32"):
        pass  # without a block, its file is small
    image = Image("huge", "B04", str(path))
    told = r"B04 of item huge, 2097152 x 2097152 pixels, needs 17.6 TB, .* make .data. area"
    with rasterio.open(path) as file, pytest.raises(StorageError, match=told):
        write_clip(file, image, None, tmp_path / "cog.tif")
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".tif"] == ["huge.tif"]


def test_write_clip_of_a_wide_image_reads_few_rows_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = tmp_path / "wide.tif", list[int]()
    values = np.arange(40 * 64, dtype="uint16").reshape(40, 64) + 1
    write_raster(path, values)
    monkeypatch.setattr("terraflow.eo.images.clip.STRIP_BYTES", 64 * 2 * 7)
    real = Filling.read

    def note(filling: Filling, file: DatasetReader, part: Window) -> Pixels:
        read.append(part.height)
        return real(filling, file, part)

    monkeypatch.setattr(Filling, "read", note)
    with rasterio.open(path) as file:
        write_clip(file, Image("wide", "B04", str(path)), None, tmp_path / "cog.tif")
    assert read == [7, 7, 7, 7, 7, 5]
    with rasterio.open(tmp_path / "cog.tif") as copy:
        assert (copy.read(1) == values).all()


def test_without_query_cuts_signatures_and_passwords() -> None:
    text = "'/vsicurl/https://me:hush@h/x.tif?sig=hush&b=1' and https://h/@a/y.tif?z, s3://b/c.tif"
    assert without_query(text) == "'/vsicurl/https://h/x.tif' and https://h/@a/y.tif s3://b/c.tif"
