from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pystac
import pytest
import rasterio

from area import CRS, TRANSFORM, make_project
from terraflow.eo.features.recipe import FeatureRecipe
from terraflow.eo.features.windows import FeatureSource
from terraflow.eo.images.assets import find_scaling
from terraflow.eo.images.collection import read_items
from terraflow.eo.images.ingest import ingest
from terraflow.eo.images.sources.local_files import find_files
from terraflow.errors import DataError
from terraflow.storage import Storage

PATTERN = r"(?P<date>\d{8}).*_(?P<band>\w{3})_\d\dm"
PRODUCT = "S2A_MSIL2A_20240514T100031_N0510_R122_T33TVL_20240514T161000.SAFE"
IMAGES = "GRANULE/L2A_T33TVL_A046450_20240514T100028/IMG_DATA/R10m"
NAME = "T33TVL_20240514T100031"
#: As ESA's metadata files have them, but for the length.
METADATA = """<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product.xsd">
  <n1:General_Info>
    <Product_Info>
      <PROCESSING_BASELINE>05.10</PROCESSING_BASELINE>
      <Granule_List><Granule>{files}</Granule></Granule_List>
    </Product_Info>
    <Product_Image_Characteristics>
      <QUANTIFICATION_VALUES_LIST>
        <BOA_QUANTIFICATION_VALUE unit="none">{quantification}</BOA_QUANTIFICATION_VALUE>
        <AOT_QUANTIFICATION_VALUE unit="none">500.0</AOT_QUANTIFICATION_VALUE>
        <WVP_QUANTIFICATION_VALUE unit="cm">1000.0</WVP_QUANTIFICATION_VALUE>
      </QUANTIFICATION_VALUES_LIST>
      {offsets}
    </Product_Image_Characteristics>
  </n1:General_Info>
</n1:Level-2A_User_Product>
"""


def write_jp2(path: Path, data: npt.NDArray[np.uint16] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.full((16, 16), 1500, "uint16") if data is None else data
    with rasterio.open(
        path,
        "w",
        driver="JP2OpenJPEG",
        width=16,
        height=16,
        count=1,
        dtype=values.dtype,
        crs=CRS,
        transform=TRANSFORM,
        reversible="YES",
        quality="100",
    ) as file:
        file.write(values, 1)
    return path


def metadata(offsets: dict[int, int], quantification: float = 10000, files: str = "") -> str:
    listed = "".join(
        f'<BOA_ADD_OFFSET band_id="{i}">{n}</BOA_ADD_OFFSET>' for i, n in offsets.items()
    )
    listed = f"<BOA_ADD_OFFSET_VALUES_LIST>{listed}</BOA_ADD_OFFSET_VALUES_LIST>" if listed else ""
    return METADATA.format(offsets=listed, quantification=quantification, files=files)


def scaling(path: Path, band: str = "B04") -> tuple[float | None, float | None, float | None]:
    (item,) = find_files(str(path), PATTERN)
    return find_scaling(item, band)


@pytest.mark.parametrize("where", [PRODUCT, "lone"])
def test_ingest_documented_example_gives_the_ndvi_of_reflectances(
    where: str, tmp_path: Path, storage: Storage
) -> None:
    """Of digital numbers NDVI would be 0.4, and 0 on edges would be data."""
    red, nir = np.full((16, 16), 1500, "uint16"), np.full((16, 16), 3500, "uint16")
    red[:4], nir[:4] = 0, 0
    folder = tmp_path / where / IMAGES
    write_jp2(folder / f"{NAME}_B04_10m.jp2", red)
    write_jp2(folder / f"{NAME}_B08_10m.jp2", nir)
    if where == PRODUCT:
        (tmp_path / where / "MTD_MSIL2A.xml").write_text(metadata(dict.fromkeys(range(13), -1000)))
    text = (Path(__file__).parents[5] / "docs/data.md").read_text()
    (pattern,) = re.findall(r"^name_pattern = '(.*)' +# T33", text, re.MULTILINE)
    project = make_project(
        data={
            "files": str(tmp_path / "**/*.jp2"),
            "name_pattern": pattern,
            "bands": {"red": "B04", "nir": "B08"},
        },
        cloud_mask=None,
        features={"indices": ["NDVI"], "statistics": [], "composites": "whole"},
    )
    items = read_items(ingest(project, storage).items, storage)
    source = FeatureSource(items, FeatureRecipe.of(project), storage)
    values = source.compute(source.windows()[0])
    assert list(values.feature.values) == ["red_all", "nir_all", "ndvi_all"]
    assert np.isnan(values.values[:, :4]).all()
    np.testing.assert_allclose(values.values[0, 4:], 0.05, atol=1e-6)
    np.testing.assert_allclose(values.values[2, 4:], 2 / 3, atol=1e-5)


def test_find_files_scaling_is_that_of_the_products_metadata_by_band(tmp_path: Path) -> None:
    folder = tmp_path / PRODUCT / IMAGES
    offsets = {index: -1000 - index for index in range(13)}
    (tmp_path / PRODUCT / "MTD_MSIL2A.xml").parent.mkdir(parents=True)
    (tmp_path / PRODUCT / "MTD_MSIL2A.xml").write_text(metadata(offsets, 20000))
    for band, number in {"B01": 0, "B04": 3, "B08": 7, "B8A": 8, "B09": 9, "B12": 12}.items():
        path = write_jp2(folder / f"{NAME}_{band}_10m.jp2")
        expected = (1 / 20000, (-1000 - number) / 20000, 0)
        assert scaling(path, band) == pytest.approx(expected)
    for band, scale in {"AOT": 0.002, "WVP": 0.001}.items():
        assert scaling(write_jp2(folder / f"{NAME}_{band}_10m.jp2"), band) == (scale, 0, 0)
    assert scaling(write_jp2(folder / f"{NAME}_SCL_20m.jp2"), "SCL") == (None, None, 0)


def test_find_files_scaling_of_level_1c(tmp_path: Path) -> None:
    product = tmp_path / "S2A_MSIL1C_20240514T100031_N0510_R122_T33TVL_20240514T120000.SAFE"
    path = write_jp2(product / "GRANULE/L1C_T33TVL/IMG_DATA" / f"{NAME}_B04.jp2")
    offsets = '<RADIO_ADD_OFFSET band_id="3">-900</RADIO_ADD_OFFSET>'
    (product / "MTD_MSIL1C.xml").write_text(
        f"<a><QUANTIFICATION_VALUE unit='none'>10000</QUANTIFICATION_VALUE>{offsets}</a>"
    )
    (item,) = find_files(str(path), r"(?P<date>\d{8})T\d{6}_(?P<band>\w{3})$")
    assert find_scaling(item, "B04") == pytest.approx((0.0001, -0.09, 0))


def test_find_files_metadata_of_before_there_were_offsets_tells_none(tmp_path: Path) -> None:
    product = tmp_path / "S2A_MSIL2A_20210514T100031_N0300_R122_T33TVL_20210514T161000.SAFE"
    path = write_jp2(product / IMAGES / "T33TVL_20210514T100031_B04_10m.jp2")
    (product / "MTD_MSIL2A.xml").write_text(metadata({}).replace("05.10", "03.00"))
    assert scaling(path) == (0.0001, 0, 0)


def test_find_files_metadata_of_processing_elsewhere_counts_by_its_offsets(tmp_path: Path) -> None:
    """Baseline 99.99 tells nothing, and its older metadata have no offsets."""
    product = tmp_path / PRODUCT.replace("N0510", "N9999")
    path = write_jp2(product / IMAGES / f"{NAME}_B04_10m.jp2")
    (product / "MTD_MSIL2A.xml").write_text(metadata({}).replace("05.10", "99.99"))
    assert scaling(path) == (0.0001, 0, 0)
    text = metadata({3: -1000}).replace("05.10", "99.99")
    (product / "MTD_MSIL2A.xml").write_text(text)
    assert scaling(path) == pytest.approx((0.0001, -0.1, 0))


@pytest.mark.parametrize(
    ("baseline", "date", "offset"),
    [
        ("N0301", "20220124", 0),
        ("N0400", "20220125", -0.1),
        ("N0510", "20240514", -0.1),
        ("N0500", "20180514", -0.1),  # reprocessed, as all of before 2022 is by now
        ("N0214", "20200514", 0),
        ("N9999", "20240514", -0.1),  # a number that tells nothing: by date
    ],
)
@pytest.mark.parametrize("within", [True, False], ids=["folder", "name"])
def test_find_files_without_metadata_scaling_goes_by_the_baseline_in_names(
    baseline: str, date: str, offset: float, within: bool, tmp_path: Path
) -> None:
    stem = f"S2A_MSIL2A_{date}T100031_{baseline}_R122_T33TVL_{date}T161000"
    image = f"T33TVL_{date}T100031_B04_10m.jp2"
    path = write_jp2(tmp_path / (f"{stem}.SAFE/{IMAGES}/{image}" if within else f"{stem}_{image}"))
    (item,) = find_files(str(path), r"T33TVL_(?P<date>\d{8})T\d{6}_(?P<band>\w{3})_10m")
    assert find_scaling(item, "B04") == pytest.approx((0.0001, offset, 0))
    told = item.properties.get("s2:processing_baseline")
    assert told == (None if baseline == "N9999" else f"{baseline[1:3]}.{baseline[3:]}")


@pytest.mark.parametrize(("date", "offset"), [("20220124", 0), ("20220125", -0.1)])
@pytest.mark.parametrize("folder", ["scenes", "scenes_N4615"])
def test_find_files_name_without_a_baseline_goes_by_date(
    date: str, offset: float, folder: str, tmp_path: Path
) -> None:
    path = write_jp2(tmp_path / folder / f"T33TVL_{date}T100031_B04_10m.jp2")
    assert scaling(path) == pytest.approx((0.0001, offset, 0))


def test_ingest_tells_where_an_offset_is_assumed(
    tmp_path: Path, storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"name_pattern": PATTERN, "bands": {"red": "B04"}}
    write_jp2(tmp_path / "new/T33TVL_20240514T100031_B04_10m.jp2")
    new = make_project(data=data | {"files": str(tmp_path / "new/*.jp2")}, cloud_mask=None)
    ingest(new, storage)
    assert "baseline" not in "".join(capsys.readouterr())
    write_jp2(tmp_path / "old/T33TVL_20180514T100031_B04_10m.jp2")
    old = make_project(data=data | {"files": str(tmp_path / "old/*.jp2")}, cloud_mask=None)
    ingest(old, storage)
    said = "".join(capsys.readouterr())
    assert re.search(
        r"1 image of before 2022-01-25 .*no processing baseline.*\[data\.scaling\]", said
    )


def test_find_files_metadata_of_another_product_is_left_aside(tmp_path: Path) -> None:
    """Images of many products, and the metadata of one, in one folder."""
    other = "<IMAGE_FILE>GRANULE/a/IMG_DATA/R10m/T33TVL_20240601T100031_B04_10m</IMAGE_FILE>"
    mine = "<IMAGE_FILE>GRANULE/a/IMG_DATA/R10m/T33TVL_20240514T100031_B04_10m</IMAGE_FILE>"
    path = write_jp2(tmp_path / f"{NAME}_B04_10m.jp2")
    offsets = dict.fromkeys(range(13), -500)
    (tmp_path / "MTD_MSIL2A.xml").write_text(metadata(offsets, files=other))
    assert scaling(path) == pytest.approx((0.0001, -0.1, 0))
    (tmp_path / "MTD_MSIL2A.xml").write_text(metadata(offsets, files=other + mine))
    assert scaling(path) == pytest.approx((0.0001, -0.05, 0))


@pytest.mark.parametrize("text", ["", "<a>", "<a><{0}>x</{0}></a>", "<a><{0}>0</{0}></a>", "<a/>"])
def test_find_files_metadata_that_cannot_be_read_is_named(text: str, tmp_path: Path) -> None:
    path = write_jp2(tmp_path / PRODUCT / IMAGES / f"{NAME}_B04_10m.jp2")
    (tmp_path / PRODUCT / "MTD_MSIL2A.xml").write_text(text.format("BOA_QUANTIFICATION_VALUE"))
    with pytest.raises(DataError, match=r"MTD_MSIL2A\.xml .*; fetch the product again, or"):
        scaling(path)


@pytest.mark.parametrize("name", ["20240514_B04_10m.jp2", f"{NAME}_CLD_20m.jp2"])
def test_find_files_other_images_keep_what_they_tell(name: str, tmp_path: Path) -> None:
    (item,) = find_files(str(write_jp2(tmp_path / name)), PATTERN)
    (key,) = item.assets
    assert find_scaling(item, key) == (None, None, None)


def test_find_files_copies_in_another_format_keep_what_they_tell(tmp_path: Path) -> None:
    """Whoever has converted them may have scaled them."""
    path = tmp_path / f"{NAME}_B04_10m.tif"
    with rasterio.open(write_jp2(tmp_path / "a.jp2")) as file:
        data, profile = file.read(), file.profile | {"driver": "GTiff"}
    with rasterio.open(path, "w", **profile) as file:
        file.write(data)
    assert scaling(path) == (None, None, None)


def test_configured_scaling_goes_before_the_products(tmp_path: Path, storage: Storage) -> None:
    write_jp2(tmp_path / f"{NAME}_B04_10m.jp2")
    project = make_project(
        data={
            "files": str(tmp_path / "*.jp2"),
            "name_pattern": PATTERN,
            "bands": {"red": "B04"},
            "scaling": {"red": {"scale": 1, "offset": 0}},
        },
        cloud_mask=None,
        features={"statistics": [], "composites": "whole"},
    )
    items: list[pystac.Item] = read_items(ingest(project, storage).items, storage)
    source = FeatureSource(items, FeatureRecipe.of(project), storage)
    assert (source.compute(source.windows()[0]).values == 1500).all()
