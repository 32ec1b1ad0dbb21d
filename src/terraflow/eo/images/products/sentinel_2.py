"""Values of ESA's Sentinel-2 images in JPEG 2000, whose files tell neither scale nor nodata."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pystac

from terraflow.console import say
from terraflow.errors import DataError

__all__ = ["Values", "find_values", "tell_assumed"]

#: By their band_id in metadata files.
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
#: As in T33TVL_20240514T100031_B04_10m.jp2; Level-1C has no resolution in the name.
IMAGE = re.compile(
    rf"(?:^|_)T\d\d[A-Z]{{3}}_(?P<date>\d{{8}})T\d{{6}}_(?P<image>{'|'.join(BANDS)}|AOT|WVP|SCL)"
    r"(_\d\dm)?\.jp2$",
    re.IGNORECASE,
)
#: As in S2A_MSIL2A_20240514T100031_N0510_R122_T33TVL_20240514T161000.SAFE.
BASELINE = re.compile(r"_N(\d\d)(\d\d)_R\d{3}_")
#: From R10m up through IMG_DATA and GRANULE to the product's folder.
FOLDERS_UP = 5
QUANTIFICATION = {"AOT": 1000.0, "WVP": 1000.0}
#: Of this day and after, all is of baseline 04.00 or later; of days before, what was reprocessed.
OFFSET_SINCE = "20220125"
OFFSET_BASELINE = 4.0
OFFSET = -1000.0
#: Key of an asset whose offset no one tells.
ASSUMED = "terraflow:assumed_offset"


@dataclass(frozen=True)
class Values:
    """What the numbers in an image mean.

    Attributes
    ----------
    scale, offset : float or None
        Reflectance (unitless), aerosol optical thickness (unitless) or water vapour (cm) = digital
        number * scale + offset; None of the scene layer (SCL), whose values are codes.
    baseline : str
        Of the processing, as "05.10"; "" is unknown.
    assumed : bool
        Whether the offset is that of first processing because no baseline is known.
    """

    scale: float | None
    offset: float | None
    baseline: str = ""
    assumed: bool = False

    @property
    def fields(self) -> dict[str, Any]:
        """Fields of an asset, by the raster extension of STAC; 0 is nodata, also on edges."""
        band = {"scale": self.scale, "offset": self.offset, "nodata": 0}
        told = {name: value for name, value in band.items() if value is not None}
        return {"raster:bands": [told]} | ({ASSUMED: True} if self.assumed else {})


class _UnsoundError(Exception):
    """A metadata file does not tell what it should."""


def find_values(path: str) -> Values | None:
    """Find what an image's numbers mean.

    The product's metadata file, MTD_MSIL2A.xml or MTD_MSIL1C.xml, tells it, where it lies in the
    image's folder or above. Else the processing baseline in the name of the file or its folders
    does, else the date.

    Parameters
    ----------
    path : str
        Local file.

    Returns
    -------
    Values or None
        None of what is no JPEG 2000 image with a name of ESA's.

    Raises
    ------
    DataError
        The metadata file can't be read.

    References
    ----------
    Sentinel-2 Products Specification Document, BOA_ADD_OFFSET and RADIO_ADD_OFFSET;
    https://sentiwiki.copernicus.eu/web/s2-products
    """
    match = IMAGE.search(Path(path).name)
    if not match:
        return None
    try:
        return _values(Path(path), match["image"].upper(), match["date"])
    except _UnsoundError as error:
        raise DataError(
            f"The product's metadata {error}; fetch the product again, or move this file away to "
            "go by the names of its images."
        ) from error


def tell_assumed(items: Sequence[pystac.Item]) -> None:
    """Tell the user of images whose offset is assumed, if there are any."""
    every = [asset for item in items for asset in item.assets.values()]
    if count := sum(ASSUMED in asset.extra_fields for asset in every):
        say(
            f"{count} image{'s' if count > 1 else ''} of before 2022-01-25 with no processing "
            "baseline in name or metadata: taken without an offset, which is wrong if reprocessed "
            "since; name them within their .SAFE folder, or state [data.scaling]"
        )


def _values(path: Path, image: str, date: str) -> Values:
    file, told = _metadata(path)
    baseline = next(iter(told.get("PROCESSING_BASELINE", {}).values()), "") or _baseline(str(path))
    if baseline.startswith("99"):  # of products made outside of ESA's processing
        baseline = ""
    if image == "SCL":
        return Values(None, None, baseline)
    quantification = _quantification(image, file, told) if file else QUANTIFICATION.get(image, 1e4)
    if image not in BANDS:
        return Values(1 / quantification, 0.0, baseline)
    listed = told.get("BOA_ADD_OFFSET") or told.get("RADIO_ADD_OFFSET") or {}
    index, assumed = str(BANDS.index(image)), False
    if file and index in listed:
        offset = _number(listed[index], file)
    elif baseline:
        offset = OFFSET if _number(baseline, file or path) >= OFFSET_BASELINE else 0.0
    elif file:  # before there were offsets, metadata had no list of them
        offset = 0.0
    else:
        assumed = date < OFFSET_SINCE
        offset = 0.0 if assumed else OFFSET
    return Values(1 / quantification, offset / quantification, baseline, assumed)


def _metadata(image: Path) -> tuple[Path | None, dict[str, dict[str, str]]]:
    """Read the metadata file of an image's product: element to texts, by band_id."""
    for folder in image.absolute().parents[:FOLDERS_UP]:
        for file in sorted(folder.glob("MTD_MSIL[12]?.xml")):
            texts: dict[str, dict[str, str]] = {}
            files = []
            try:
                root = ElementTree.parse(file).getroot()  # noqa: S314 - the user's own file
            except (ElementTree.ParseError, OSError) as error:
                raise _UnsoundError(f"{file} can't be read ({error})") from error
            for element in root.iter():
                name, text = element.tag.rpartition("}")[2], (element.text or "").strip()
                texts.setdefault(name, {})[element.get("band_id", "")] = text
                if name == "IMAGE_FILE":
                    files.append(text.rpartition("/")[2])
            if not files or any(image.stem.endswith(name) for name in files):
                return file, texts
    return None, {}


def _quantification(image: str, file: Path, told: dict[str, dict[str, str]]) -> float:
    kind = image if image in QUANTIFICATION else "BOA"
    names = [f"{kind}_QUANTIFICATION_VALUE", f"L2A_{kind}_QUANTIFICATION_VALUE"]
    names += ["QUANTIFICATION_VALUE"] if kind == "BOA" else []
    found = next((told[name][""] for name in names if "" in told.get(name, {})), "")
    number = _number(found, file)
    if number <= 0:
        raise _UnsoundError(f"{file} has the {names[0]} {found}")
    return number


def _number(text: str, file: Path) -> float:
    try:
        return float(text)
    except ValueError:
        raise _UnsoundError(f"{file} has {text!r} where a number is expected") from None


def _baseline(path: str) -> str:
    found = BASELINE.findall(path)
    return ".".join(found[-1]) if found else ""
