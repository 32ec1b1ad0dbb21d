from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp

from area import TRANSFORM, write_raster
from terraflow.eo.config.imagery import StaticLayer
from terraflow.eo.features.layers import describe_layers, read_layer
from terraflow.errors import DataError

GRID = GeoBox((16, 16), TRANSFORM, "EPSG:32633")
#: The same ground as GRID in pixels of half and of twice the size, and half a pixel off.
FINE = GeoBox((32, 32), TRANSFORM * Affine.scale(0.5), "EPSG:32633")
COARSE = GeoBox((8, 8), TRANSFORM * Affine.scale(2), "EPSG:32633")
OFF = GeoBox((15, 15), TRANSFORM * Affine.translation(0.5, 0.5), "EPSG:32633")
#: Soil of code 1 in even columns, of code 10 in odd ones.
SOIL = np.tile(np.array([1, 10], "uint8"), (16, 8))
RAMP = np.tile(np.arange(16, dtype="float32"), (16, 1))

Array = npt.NDArray[Any]


def write_bands(path: Path, bands: list[Array], **changes: Any) -> None:
    """Write a raster of several bands; `mask` and `interp` beside rasterio's keys."""
    mask, interp = changes.pop("mask", None), changes.pop("interp", None)
    descriptions, scales = changes.pop("descriptions", None), changes.pop("scales", None)
    height, width = bands[0].shape
    values = {"crs": "EPSG:32633", "transform": TRANSFORM} | changes
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=width,
        height=height,
        count=len(bands),
        dtype=bands[0].dtype,
        **values,
    ) as file:
        if interp:
            file.colorinterp = interp
        file.write(np.stack(bands))
        if descriptions:
            file.descriptions = descriptions
        if scales:
            file.scales, file.offsets = scales
        if mask is not None:
            file.write_mask(mask)


def read(path: Path, geobox: GeoBox = GRID, **keys: Any) -> dict[str, Array]:
    told = StaticLayer.model_validate({"path": str(path)} | keys)
    (layer,) = describe_layers({"soil": told}, geobox)
    found = read_layer(layer, geobox)
    assert list(found) == list(layer.names)
    return dict(found)


@pytest.mark.parametrize("geobox", [GRID, FINE, COARSE, OFF], ids=["grid", "fine", "coarse", "off"])
def test_read_layer_codes_stay_codes_on_every_grid(geobox: GeoBox, tmp_path: Path) -> None:
    write_raster(tmp_path / "soil.tif", SOIL)
    assert set(np.unique(read(tmp_path / "soil.tif", geobox)["soil"])) <= {1, 10}


@pytest.mark.parametrize("geobox", [FINE, COARSE, OFF], ids=["fine", "coarse", "off"])
def test_read_layer_aspect_across_north_does_not_become_south(
    geobox: GeoBox, tmp_path: Path
) -> None:
    write_raster(tmp_path / "aspect.tif", np.where(SOIL == 1, 359, 1).astype("int16"))
    assert set(np.unique(read(tmp_path / "aspect.tif", geobox)["soil"])) <= {1, 359}


def test_read_layer_in_degrees_keeps_its_codes(tmp_path: Path) -> None:
    path = tmp_path / "soil.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=16,
        height=16,
        count=1,
        dtype="uint8",
        crs="EPSG:4326",
        transform=Affine(0.0002, 0, 14.999, 0, -0.0002, 46.053),
    ) as file:
        file.write(SOIL, 1)
    values = read(path)["soil"]
    assert set(np.unique(values[np.isfinite(values)])) == {1, 10}


def test_read_layer_numbers_are_averaged_where_the_grid_is_coarser(tmp_path: Path) -> None:
    write_raster(tmp_path / "height.tif", np.tile([0.0, 0, 0, 8], (16, 4)).astype("float32"))
    quarter = GeoBox((4, 4), TRANSFORM * Affine.scale(4), "EPSG:32633")
    np.testing.assert_allclose(read(tmp_path / "height.tif", quarter)["soil"], 2)


@pytest.mark.parametrize("geobox", [FINE, OFF], ids=["fine", "off"])
def test_read_layer_numbers_are_interpolated_where_the_grid_is_not(
    geobox: GeoBox, tmp_path: Path
) -> None:
    write_raster(tmp_path / "height.tif", RAMP)
    inner = np.s_[2:-2, 2:-2]
    # of what lies at x metres from the edge the ramp is x / 10 - 1/2
    columns = (np.arange(geobox.width) + 0.5) * geobox.affine.a + geobox.affine.c - 500_000
    expected = np.broadcast_to(columns / 10 - 0.5, geobox.shape)
    found = read(tmp_path / "height.tif", geobox)["soil"]
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-4)


def test_describe_layers_rule_of_resampling_is_of_the_whole_grid(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", RAMP)
    write_raster(tmp_path / "b.tif", SOIL)
    told = {name: StaticLayer(path=str(tmp_path / f"{name}.tif")) for name in "ab"}
    found = {
        grid: [layer.resampling.name for layer in describe_layers(told, geobox)]
        for grid, geobox in {"same": GRID, "fine": FINE, "coarse": COARSE, "off": OFF}.items()
    }
    assert found == {
        "same": ["bilinear", "nearest"],
        "fine": ["bilinear", "nearest"],
        "coarse": ["average", "nearest"],
        "off": ["bilinear", "nearest"],
    }


def test_read_layer_resampling_of_the_configuration_goes_first(tmp_path: Path) -> None:
    write_raster(tmp_path / "soil.tif", SOIL)
    assert (read(tmp_path / "soil.tif", COARSE, resampling="average")["soil"] == 5.5).all()
    write_raster(tmp_path / "codes.tif", SOIL.astype("float32"))
    assert set(np.unique(read(tmp_path / "codes.tif", COARSE, resampling="nearest")["soil"])) <= {
        1,
        10,
    }
    most = np.tile(np.array([[1, 1], [1, 9]], "uint8"), (8, 8))
    write_raster(tmp_path / "most.tif", most)
    assert (read(tmp_path / "most.tif", COARSE, resampling="mode")["soil"] == 1).all()


def test_read_layer_scale_and_offset_are_the_files_or_the_configurations(tmp_path: Path) -> None:
    path = tmp_path / "height.tif"
    write_bands(path, [np.full((16, 16), 200, "int16")], scales=([0.1], [5.0]))
    assert read(path)["soil"] == pytest.approx(np.full((16, 16), 25.0))
    assert read(path, scale=1, offset=0)["soil"] == pytest.approx(np.full((16, 16), 200.0))
    assert read(path, scale=0.5)["soil"] == pytest.approx(np.full((16, 16), 105.0))
    write_raster(tmp_path / "plain.tif", np.full((16, 16), 200, "int16"))
    assert read(tmp_path / "plain.tif", offset=-1)["soil"] == pytest.approx(np.full((16, 16), 199))


def test_describe_layers_scaled_integers_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "height.tif"
    write_bands(path, [SOIL], scales=([0.1], [0.0]))
    (layer,) = describe_layers({"h": StaticLayer(path=str(path))}, COARSE)
    assert layer.resampling.name == "average"
    (layer,) = describe_layers({"h": StaticLayer(path=str(path), scale=1)}, COARSE)
    assert layer.resampling.name == "nearest"


def test_read_layer_each_band_is_a_feature(tmp_path: Path) -> None:
    path = tmp_path / "embedding.tif"
    bands = [np.full((16, 16), number, "float32") for number in (1, 2, 3)]
    write_bands(path, bands)
    found = read(path)
    assert {name: values.mean() for name, values in found.items()} == {
        "soil_1": 1,
        "soil_2": 2,
        "soil_3": 3,
    }
    assert {n: v.mean() for n, v in read(path, bands=[3, 1]).items()} == {"soil_3": 3, "soil_1": 1}
    assert {n: v.mean() for n, v in read(path, bands=[2]).items()} == {"soil": 2}


def test_read_layer_bands_are_named_by_their_descriptions(tmp_path: Path) -> None:
    path = tmp_path / "embedding.tif"
    write_bands(path, [RAMP, RAMP + 1], descriptions=("A00", "clay (%)"))
    assert list(read(path)) == ["soil_A00", "soil_clay"]
    write_bands(path, [RAMP, RAMP + 1], descriptions=("clay %", "clay"))  # alike once made names
    assert list(read(path)) == ["soil_1", "soil_2"]
    write_bands(path, [RAMP, RAMP + 1], descriptions=("clay", None))
    assert list(read(path)) == ["soil_1", "soil_2"]


def expect_first_missing(values: Array, also: tuple[int, int] | None = None) -> None:
    missing = np.zeros((16, 16), bool)
    missing[0, 0] = True
    if also:
        missing[also] = True
    np.testing.assert_array_equal(np.isnan(values), missing)


def first_masked() -> Array:
    mask = np.full((16, 16), 255, "uint8")
    mask[0, 0] = 0
    return mask


@pytest.mark.parametrize("internal", [True, False])
@pytest.mark.parametrize("nodata", [None, 16])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_read_layer_mask_of_the_file_is_nodata(
    internal: bool, nodata: int | None, dtype: str, tmp_path: Path
) -> None:
    values = np.ones((16, 16), dtype)
    values[4, 4] = 16
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal):
        write_bands(tmp_path / "soil.tif", [values], mask=first_masked(), nodata=nodata)
    also = (4, 4) if nodata else None
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):  # as images are read
        expect_first_missing(read(tmp_path / "soil.tif")["soil"], also)
    expect_first_missing(read(tmp_path / "soil.tif", nodata=16)["soil"], (4, 4))


@pytest.mark.parametrize("nodata", [None, 16])
def test_read_layer_alpha_is_nodata_and_no_feature(nodata: int | None, tmp_path: Path) -> None:
    values = np.ones((16, 16), "uint8")
    values[4, 4] = 16
    interp = [ColorInterp.gray, ColorInterp.alpha]
    write_bands(tmp_path / "soil.tif", [values, first_masked()], interp=interp, nodata=nodata)
    found = read(tmp_path / "soil.tif")
    assert list(found) == ["soil"]
    expect_first_missing(found["soil"], (4, 4) if nodata else None)
    expect_first_missing(read(tmp_path / "soil.tif", nodata=16)["soil"], (4, 4))


def test_read_layer_nodata_of_each_band_is_its_own(tmp_path: Path) -> None:
    first, second = np.ones((16, 16), "uint8"), np.full((16, 16), 2, "uint8")
    first[0, 0] = second[4, 4] = 0
    write_bands(tmp_path / "soil.tif", [first, second], nodata=0)
    found = read(tmp_path / "soil.tif")
    expect_first_missing(found["soil_1"])
    assert np.isnan(found["soil_2"][4, 4])
    assert found["soil_2"][0, 0] == 2


def test_read_layer_missing_numbers_do_not_spread(tmp_path: Path) -> None:
    values = RAMP.copy()
    values[0, 0] = np.nan
    write_raster(tmp_path / "height.tif", values)
    found = read(tmp_path / "height.tif", COARSE)["soil"]
    assert found[0, 0] == pytest.approx(2 / 3)


def test_read_layer_nodata_is_missing_before_it_is_scaled(tmp_path: Path) -> None:
    values = np.full((16, 16), 10, "int16")
    values[0, 0] = -99
    write_raster(tmp_path / "height.tif", values)
    found = read(tmp_path / "height.tif", scale=0.1, nodata=-99)["soil"]
    expect_first_missing(found)
    assert found[1, 1] == pytest.approx(1)


def test_read_layer_lands_on_the_grid(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:16, :16]
    values = (100 * rows + columns).astype("float32")
    values[5, 5] = -1
    write_raster(tmp_path / "height.tif", values, -1)
    layer = read(tmp_path / "height.tif", GRID[4:8, 2:9])["soil"]
    expected = values[4:8, 2:9].copy()
    expected[1, 3] = np.nan
    np.testing.assert_allclose(layer, expected)


@pytest.mark.parametrize("resampling", ["bilinear", "cubic", "average", "nearest"])
@pytest.mark.parametrize(("layer_m", "grid_m"), [(3, 10), (25, 10)])
def test_read_layer_is_the_same_wherever_the_grid_is_cut(
    resampling: str, layer_m: int, grid_m: int, tmp_path: Path
) -> None:
    side = 600 // layer_m
    values = np.random.default_rng(0).random((side, side)).astype("float32")
    transform = Affine(layer_m, 0, 500_000, 0, -layer_m, 5_100_000)
    write_bands(tmp_path / "layer.tif", [values], transform=transform)
    affine = Affine(grid_m, 0, 500_000, 0, -grid_m, 5_100_000)
    geobox = GeoBox((60, 60), affine, "EPSG:32633")
    whole = read(tmp_path / "layer.tif", geobox, resampling=resampling)["soil"]
    for rows, columns in ((slice(0, 7), slice(0, 60)), (slice(20, 55), slice(33, 36))):
        part = read(tmp_path / "layer.tif", geobox[rows, columns], resampling=resampling)["soil"]
        np.testing.assert_array_equal(part, whole[rows, columns])


def test_read_layer_beyond_its_edge_is_missing(tmp_path: Path) -> None:
    write_raster(tmp_path / "height.tif", np.ones((16, 16), "float32"))
    layer = read(tmp_path / "height.tif", GRID.pad(2))["soil"]
    assert np.isnan(layer[:2]).all()
    assert (layer[2:-2, 2:-2] == 1).all()


def test_describe_layers_missing_is_named() -> None:
    with pytest.raises(DataError, match=r"Layer soil can't be read from /nowhere\.tif"):
        read(Path("/nowhere.tif"))


def test_read_layer_cut_off_is_named(tmp_path: Path) -> None:
    path = tmp_path / "height.tif"
    write_raster(path, np.random.default_rng(0).random((16, 16)).astype("float32"))
    (layer,) = describe_layers({"height": StaticLayer(path=str(path))}, GRID)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"Layer height can't be read from .*height\.tif"):
        read_layer(layer, GRID)


def test_describe_layers_without_crs_is_refused(tmp_path: Path) -> None:
    write_raster(tmp_path / "height.tif", np.ones((16, 16), "float32"), crs=None)
    with pytest.raises(DataError, match=r"Layer soil, .*height\.tif, has no CRS"):
        read(tmp_path / "height.tif")


def test_describe_layers_band_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_raster(tmp_path / "height.tif", RAMP)
    with pytest.raises(DataError, match=r"Layer soil, .*, has 1 band, not 2; correct bands in"):
        read(tmp_path / "height.tif", bands=[1, 2])


def test_describe_layers_nodata_that_no_pixel_can_hold_is_named(tmp_path: Path) -> None:
    write_raster(tmp_path / "soil.tif", SOIL)
    with pytest.raises(DataError, match=r"Layer soil, .*, holds uint8, .* nodata -9999"):
        read(tmp_path / "soil.tif", nodata=-9999)


#: What the western half of a layer is told not to be.
WEST = np.tile(np.arange(32) < 16, (32, 1))


def halved(west: float, dtype: str) -> Array:
    return np.where(WEST, west, 100).astype(dtype)


@pytest.mark.parametrize(
    ("values", "keys", "told"),
    [
        (halved(-np.inf, "float32"), {}, {}),
        (halved(np.inf, "float64"), {}, {}),
        (halved(1e300, "float64"), {}, {}),
        (halved(-3.4028234663852886e38, "float32"), {"nodata": -3.4e38}, {}),
        (halved(-3.4028234663852886e38, "float32"), {}, {"nodata": -3.4028235e38}),
        (halved(-9999, "int16"), {"nodata": -9999}, {"nodata": 0}),
        (halved(0, "uint8"), {"mask": ~WEST * np.uint8(255)}, {}),
        (halved(0, "uint16"), {"mask": ~WEST * np.uint8(255)}, {}),
        (halved(0, "uint16"), {"alpha": ~WEST * 65535}, {}),
        (halved(0, "uint16"), {"alpha": ~WEST * 1}, {}),
        (halved(0, "float32"), {"alpha": ~WEST * 1, "nodata": -1}, {}),
    ],
)
@pytest.mark.parametrize(
    "geobox",
    [
        GeoBox((32, 32), TRANSFORM, "EPSG:32633"),
        GeoBox((64, 64), TRANSFORM * Affine.scale(0.5), "EPSG:32633"),
        GeoBox((8, 8), TRANSFORM * Affine.scale(4), "EPSG:32633"),
        GeoBox((31, 31), TRANSFORM * Affine.translation(0.5, 0.5), "EPSG:32633"),
    ],
    ids=["grid", "fine", "coarse", "off"],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_read_layer_what_is_no_value_takes_no_part_at_any_resolution(
    values: Array, keys: dict[str, Any], told: dict[str, Any], geobox: GeoBox, tmp_path: Path
) -> None:
    keys, bands = dict(keys), [values]
    if (alpha := keys.pop("alpha", None)) is not None:
        bands = [values, alpha.astype(values.dtype)]
        keys["interp"] = [ColorInterp.gray, ColorInterp.alpha]
    write_bands(tmp_path / "soil.tif", bands, **keys)
    resampling = "average" if geobox.width == 8 else "bilinear"
    found = read(tmp_path / "soil.tif", geobox, resampling=resampling, **told)["soil"]
    known = np.isfinite(found)
    assert set(found[known]) == {100}
    centres = (np.arange(geobox.width) + 0.5) * geobox.affine.a + geobox.affine.c - 500_000
    assert known[:, centres > 160].all()
    assert not known[:, centres < 150].any()
    assert not np.isinf(found).any()


def test_read_layer_of_many_pixels_is_read_in_parts_that_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).random((200, 200)).astype("float32")
    transform = Affine(3, 0, 500_000, 0, -3, 5_100_000)
    write_bands(tmp_path / "layer.tif", [values, values + 1], transform=transform)
    whole = read(tmp_path / "layer.tif", GRID.pad(3))
    monkeypatch.setattr("terraflow.eo.features.layers.MOST_PX", 100)
    for name, image in read(tmp_path / "layer.tif", GRID.pad(3)).items():
        np.testing.assert_array_equal(image, whole[name])


@pytest.mark.parametrize(
    "transform",
    [
        TRANSFORM * Affine.rotation(90) * Affine.scale(1, -1),
        TRANSFORM * Affine(1, 0, 0, 0, -1, 16),
        TRANSFORM * Affine(-1, 0, 16, 0, 1, 0),
        TRANSFORM * Affine.rotation(10),
    ],
    ids=["swapped", "south-up", "mirrored", "rotated"],
)
def test_read_layer_of_any_grid_lands_where_it_lies(transform: Affine, tmp_path: Path) -> None:
    values = np.arange(256, dtype="float32").reshape(16, 16)
    write_bands(tmp_path / "layer.tif", [values], transform=transform)
    found = read(tmp_path / "layer.tif", GRID.pad(16), resampling="nearest")["soil"]
    for row, column in ((0, 0), (3, 11), (15, 15)):
        x, y = ~GRID.pad(16).affine * (transform * (column + 0.5, row + 0.5))
        if 0 <= x < 48 and 0 <= y < 48:
            assert found[int(y), int(x)] == values[row, column]


@pytest.mark.parametrize(
    ("crs", "transform", "what"),
    [
        ('LOCAL_CS["site",UNIT["metre",1]]', TRANSFORM, "has the local CRS 'site', which can't be"),
        ("EPSG:4978", TRANSFORM, "has the geocentric CRS 'WGS 84'"),
        ("EPSG:4326", TRANSFORM, "has coordinates as 500080, 5099920 in the degrees of 'WGS 84'"),
        ("EPSG:32633", Affine.identity(), "does not tell its grid"),
    ],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_describe_layers_that_can_not_be_placed_is_refused(
    crs: str, transform: Affine, what: str, tmp_path: Path
) -> None:
    write_bands(tmp_path / "soil.tif", [SOIL], crs=crs, transform=transform)
    with pytest.raises(DataError, match=rf"^Layer soil, .*soil\.tif, {what}"):
        read(tmp_path / "soil.tif")


def test_describe_layers_of_complex_numbers_is_refused(tmp_path: Path) -> None:
    write_bands(tmp_path / "soil.tif", [SOIL.astype("complex64")])
    with pytest.raises(DataError, match="is of complex numbers"):
        read(tmp_path / "soil.tif")
