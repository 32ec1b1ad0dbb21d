"""The sections of config/land_cover.toml."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from terraflow.eo.config.addresses import Address, without_credentials

__all__ = [
    "SIMULATED",
    "Checks",
    "CloudMask",
    "Data",
    "Features",
    "Grid",
    "Labels",
    "Map",
    "Model",
    "Monitor",
    "Scaling",
    "Section",
    "Validation",
]

SIMULATED = "simulated"


def _statistic(name: str) -> str:
    if not re.fullmatch(r"min|max|mean|std|p\d{1,2}", name):
        raise ValueError("write min, max, mean, std, or a percentile as p10; p50 is the median")
    return name


def _colour(text: str) -> str:
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        raise ValueError("write a colour as #1f6b35")
    return text


class Section(BaseModel):
    """Values that don't change and keys that are known."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Scaling(Section):
    """Physical value = digital number * scale + offset; what is None comes from the item."""

    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None


class Data(Section):
    """Which images.

    Attributes
    ----------
    catalogue : str
        "simulated", a STAC API, or a static STAC catalogue, collection or item collection; by path
        or URI. Ignored where `files` is given.
    collection : str
        Collection to search; a STAC API needs one.
    sign : {"none", "planetary-computer"}
        How addresses of assets are signed.
    files : str
        Pattern of rasters without a catalogue, as "scenes/*.tif".
    name_pattern : str
        Regular expression of a file's name, with the groups date (digits YYYYMMDD, separators
        allowed) and band, both optional: without a date there is one undated scene, without a
        band the file's own bands are taken.
    area : list of float, str or None
        West, south, east, north in degrees (EPSG:4326), or a GeoJSON file; None takes all.
    start, end : date or None
        First and last day, both included; None is open, and undated files then pass.
    max_cloud_cover : float or None
        Per cent, of items that tell their eo:cloud_cover.
    max_items : int or None
        So many, of least cloud cover, are taken.
    bands : dict
        Name of a band in the features to key of its asset; "key.2" is the second band of an asset.
    scaling : dict
        Band name to scale, offset and nodata that override the item's own.
    """

    catalogue: Address = SIMULATED
    collection: str = ""
    sign: Literal["none", "planetary-computer"] = "none"
    files: Address = ""
    name_pattern: str = r"(?P<date>\d{4}[-_]?\d{2}[-_]?\d{2})"
    area: tuple[float, float, float, float] | str | None = None
    start: date | None = None
    end: date | None = None
    max_cloud_cover: float | None = Field(None, ge=0, le=100)
    max_items: int | None = Field(None, ge=1)
    bands: dict[str, str] = Field(min_length=1)
    scaling: dict[str, Scaling] = {}

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.start and self.end and self.start > self.end:
            raise ValueError(f"start {self.start} is after end {self.end}; swap them")
        if isinstance(self.area, tuple):
            west, south, east, north = self.area
            if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
                raise ValueError(
                    f"area {list(self.area)} is no box; write west, south, east, north in degrees"
                )
        if unknown := set(self.scaling) - set(self.bands):
            raise ValueError(f"scaling names {', '.join(sorted(unknown))}, which bands does not")
        return self

    @field_validator("area")
    @classmethod
    def _area_without_credentials(cls, area: object) -> object:
        return without_credentials(area) if isinstance(area, str) else area

    @field_validator("name_pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return pattern


class Grid(Section):
    """Grid of everything computed; what is None comes from the first item's first band.

    Attributes
    ----------
    crs : str or None
        As "EPSG:32633", or WKT.
    resolution : float or None
        Size of a square pixel in the units of the CRS.
    resampling : str
        Of bands, by GDAL's names; masks and classes always take the nearest.
    """

    crs: str | None = None
    resolution: float | None = Field(None, gt=0)
    resampling: Literal["nearest", "bilinear", "cubic", "average"] = "nearest"


class CloudMask(Section):
    """Which pixels are clear; without a section `cloud_mask` all are.

    Attributes
    ----------
    asset : str
        Key of the asset with classes, flags or a mask.
    clear : list of int or None
        Values that are clear, as Sentinel-2's scene classification has them.
    cloudy_bits : list of int or None
        Bits (0 is the lowest) any of which makes a pixel unclear, as in Landsat's QA_PIXEL.
    """

    asset: str
    clear: list[int] | None = Field(None, min_length=1)
    cloudy_bits: list[Annotated[int, Field(ge=0, le=30)]] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.clear is None) == (self.cloudy_bits is None):
            raise ValueError("exactly one of clear and cloudy_bits is expected")
        return self


class Labels(Section):
    """Reference data.

    Attributes
    ----------
    source : str
        "simulated", or polygons or points in any format OGR reads, or a raster of class numbers.
    class_field : str
        Attribute that names the class; not used with a raster.
    classes : dict or None
        Value to class name, which renames and merges; values not listed are ignored. None takes
        the values as they are.
    shrink : float
        Distance in the units of the grid's CRS by which polygons are made smaller all around.
    samples_per_class : int or None
        At most so many pixels of each class, drawn at random; None takes all.
    """

    source: Address = SIMULATED
    class_field: str = "class_name"
    classes: dict[str, str] | None = None
    shrink: float = Field(0, ge=0)
    samples_per_class: int | None = Field(None, ge=1)


class Features(Section):
    """What is computed of each band and index.

    Attributes
    ----------
    composites : {"month", "month_of_year", "season", "season_of_year", "whole"}
        Periods: of each year, or over all years. Seasons are DJF, MAM, JJA, SON.
    percentile : float
        Of the clear values in a period; 50 is the median.
    statistics : list
        Over all clear values in time; "p10" is the 10th percentile.
    indices : list of str
        Spectral indices by their names in spyndex.
    constants : dict
        Values for the constants in indices, as L of SAVI; spyndex's defaults otherwise.
    layers : dict
        Name of a feature to a single-band raster that does not change in time, as elevation.
    neighbourhood : list of int
        Sides in pixels (odd) of squares over which mean and standard deviation are added, of
        every composite and statistic and of the layers.
    """

    composites: Literal["month", "month_of_year", "season", "season_of_year", "whole"] = "month"
    percentile: float = Field(50, ge=0, le=100)
    statistics: list[Annotated[str, AfterValidator(_statistic)]] = [
        "max",
        "std",
    ]
    indices: list[str] = []
    constants: dict[str, float] = {}
    layers: dict[str, Address] = {}
    neighbourhood: list[Annotated[int, Field(ge=3)]] = []

    @field_validator("indices", "statistics", "neighbourhood")
    @classmethod
    def _unique(cls, names: list[Any]) -> list[Any]:
        return list(dict.fromkeys(names))

    @field_validator("neighbourhood")
    @classmethod
    def _odd(cls, sides: list[int]) -> list[int]:
        if even := [side for side in sides if side % 2 == 0]:
            raise ValueError(f"side {even[0]} is even; a pixel in the middle needs an odd one")
        return sides


class Checks(Section):
    """What data must fulfil before training; a None is not checked.

    Attributes
    ----------
    min_clear_share : float or None
        Least share (0-1) of clear observations in any period.
    min_samples_per_class : int or None
        Least number of labelled pixels with features.
    value_range : dict
        Band or index to its least and greatest plausible value.
    max_outside_range : float
        Greatest share (0-1) of clear values outside `value_range`.
    """

    min_clear_share: float | None = Field(None, ge=0, le=1)
    min_samples_per_class: int | None = Field(None, ge=1)
    value_range: dict[str, tuple[float, float]] = {}
    max_outside_range: float = Field(0.01, ge=0, le=1)


class Model(Section):
    """A classifier by name, and its parameters.

    Attributes
    ----------
    name : str
        mlp, random_forest or lightgbm; `classifiers` checks it.
    parameters : dict
        As scikit-learn's or LightGBM's classifier takes them, over our defaults.
    """

    name: str = "mlp"
    parameters: dict[str, bool | int | float | str | list[int]] = {}


class Validation(Section):
    """Cross-validation over square blocks of pixels, which keeps neighbours together.

    Attributes
    ----------
    block_size_px : int
        Side of a block.
    folds : int
    whole_polygons : bool
        All pixels of a polygon take one block, that which holds a point within the polygon. False
        cuts polygons at blocks' edges, which a few polygons larger than a block call for.
    gap_px : int
        Training pixels at most so many columns and rows from a test pixel are left out; a gap
        as wide as neighbourhood features reach keeps test pixels out of training windows.
    resamples : int
        Of blocks, for 95 % intervals.
    """

    block_size_px: int = Field(17, ge=1)
    folds: int = Field(5, ge=2)
    whole_polygons: bool = True
    gap_px: int = Field(0, ge=0)
    resamples: int = Field(1000, ge=100)


class Map(Section):
    """What becomes of a map.

    Attributes
    ----------
    minimum_mapping_unit_px : int
        Smaller patches are merged into their largest neighbour in the report.
    colours : dict
        Class name to "#rrggbb"; others come from a palette.
    """

    minimum_mapping_unit_px: int = Field(4, ge=1)
    colours: dict[str, Annotated[str, AfterValidator(_colour)]] = {}


class Monitor(Section):
    """When new scenes have drifted from the training data.

    Attributes
    ----------
    max_psi : float
        Greatest population stability index of any feature; 0.25 is the customary mark of a shift.
    max_outside_range : float
        Greatest share (0-1) of pixels with any feature outside the training range.
    """

    max_psi: float = Field(0.25, gt=0)
    max_outside_range: float = Field(0.2, ge=0, le=1)
