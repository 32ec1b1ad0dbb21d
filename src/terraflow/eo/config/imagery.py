"""The sections of a project file that say which images there are, and how they are read."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from terraflow.eo.config.addresses import Address, without_credentials
from terraflow.eo.config.bounds import crosses, width_deg
from terraflow.eo.config.section import Section

__all__ = ["SIMULATED", "CloudMask", "Data", "Grid", "Scaling", "StaticLayer"]

SIMULATED = "simulated"


class Scaling(Section):
    """Physical value = digital number * scale + offset; what is None comes from the item.

    `nodata` is one more value that is none, beside what item and file tell.
    """

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
        Regular expression of a file's name, with the groups date (YYYYMMDD, separators allowed, or
        YYYYDDD of the day of the year) and band, both optional: without a date there is one undated
        scene, without a band the file's own bands are taken. One with a / is searched in the path.
        "" finds the date by itself, as products write it.
    date_format : str
        How the group date is written, where it is otherwise: as "%d%m%Y", by Python's strptime.
    area : list of float, str or None
        West, south, east, north in degrees (EPSG:4326), of which the box in the images' CRS is
        taken whole; or a GeoJSON file of polygons: only pixels whose centre lies in one count. A
        west greater than east crosses the antimeridian. None takes all.
    start, end : date or None
        First and last day, both included; None is open, and undated files then pass.
    max_cloud_cover : float or None
        Per cent, of items that tell their eo:cloud_cover.
    max_items : int or None
        So many are taken, by turns of all tiles and months, of each those of least cloud cover.
    bands : dict
        Name of a band in the features to key of its asset; "key.2" is the second band of an asset.
    scaling : dict
        Band name to scale and offset that override the item's own, and to a nodata beside it.
    """

    catalogue: Address = SIMULATED
    collection: str = ""
    sign: Literal["none", "planetary-computer"] = "none"
    files: Address = ""
    name_pattern: str = ""
    date_format: str = ""
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
            within = -180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90
            # swapped by mistake, a box would go around the globe
            if not within or west == east or (west > east and width_deg(self.area) > 180):
                raise ValueError(
                    f"area {list(self.area)} is no box; write west, south, east, north in degrees, "
                    "and west greater than east only where it crosses the antimeridian"
                )
        if self.date_format and "date" not in re.compile(self.name_pattern).groupindex:
            raise ValueError(
                f"date_format {self.date_format!r} has nothing to read; give name_pattern a group "
                "date, as '(?P<date>\\d{8})'"
            )
        if unknown := set(self.scaling) - set(self.bands):
            raise ValueError(
                f"scaling names {', '.join(sorted(unknown))}, which bands does not; correct one of "
                "them"
            )
        return self

    @property
    def has_outline(self) -> bool:
        """Whether the area is polygons, beyond which no pixel counts.

        So is a box across the antimeridian: an image that spans the globe has it on both sides.
        """
        return isinstance(self.area, str) or (self.area is not None and crosses(self.area))

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
            raise ValueError(
                f"{pattern!r} is no regular expression: {error}; write one as Python's re reads it"
            ) from error
        return pattern

    @field_validator("date_format")
    @classmethod
    def _tells_the_day(cls, written: str) -> str:
        day = datetime(2023, 11, 22, 13, 14, 15)
        try:
            told = datetime.strptime(day.strftime(written), written) if written else day
        except (ValueError, re.error) as error:
            raise ValueError(
                f"{written!r} is no format of strptime ({error}); write one as '%d%m%Y'"
            ) from error
        if told.year != day.year:
            raise ValueError(f"{written!r} has no year; write one as '%d%m%Y'")
        return written


class Grid(Section):
    """Grid of everything computed; what is None comes from the first item's first band.

    Attributes
    ----------
    crs : str or None
        As "EPSG:32633", or WKT.
    resolution : float or None
        Size of a square pixel in the units of the CRS.
    resampling : str
        Of bands, by GDAL's names; "auto" averages to a coarser grid, and to a finer one, or one
        that lies between the pixels, it is bilinear. Masks and labels always take the nearest.
    """

    #: What a record means that lacks a key.
    UNRECORDED: ClassVar[dict[str, Any]] = {"resampling": "nearest"}

    crs: str | None = None
    resolution: float | None = Field(None, gt=0, allow_inf_nan=False)
    resampling: Literal["auto", "nearest", "bilinear", "cubic", "average"] = "auto"


class CloudMask(Section):
    """Which pixels are clear; without a section `cloud_mask` all are.

    Attributes
    ----------
    asset : str
        Key of the asset with codes, flags or a mask.
    clear : list of int or None
        Codes that are clear, as of Sentinel-2's scene layer (SCL).
    cloudy_bits : list of int or None
        Bits (0 is the lowest) any of which makes a pixel unclear, as in Landsat's QA_PIXEL.
    above : float or None
        Of a mask of fractions, such as a probability of clouds: what is above this is cloudy, in
        the unit that the file's scale and offset lead to.
    nodata : float, str or None
        The value that tells nothing; "none" says that there is no such value, "file" that it is
        what file and item tell, whatever else it means. None is as "file", but that a value in
        `clear` is clear, and one that is clear by `cloudy_bits` or `above` is an error.
    dilate_m : float
        Pixels as near as this to one that is not clear, in metres between their centres, are not
        clear either.
    """

    #: What a record means that lacks a key.
    UNRECORDED: ClassVar[dict[str, Any]] = {"nodata": "file"}

    asset: str
    clear: list[int] | None = Field(None, min_length=1)
    cloudy_bits: list[Annotated[int, Field(ge=0, le=52)]] | None = Field(None, min_length=1)
    above: float | None = Field(None, allow_inf_nan=False)
    nodata: float | Literal["none", "file"] | None = None
    dilate_m: float = Field(0, ge=0, le=10_000)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        rules = (self.clear, self.cloudy_bits, self.above)
        if sum(rule is not None for rule in rules) != 1:
            raise ValueError(
                "exactly one of clear, cloudy_bits and above is expected; remove the others, or "
                "write one"
            )
        if self.clear and self.nodata in self.clear:
            raise ValueError(
                f"nodata {self.nodata:g} is a value of clear, too; remove it from one of them"
            )
        return self


class StaticLayer(Section):
    """A raster that does not change in time; a plain address is one with all defaults.

    Attributes
    ----------
    path : str
        Any raster that GDAL reads.
    resampling : str or None
        By GDAL's names. None takes nearest for integers without scale and offset, which may be
        codes; and for all else average where the grid is coarser, bilinear elsewhere.
    bands : list of int or None
        Numbers of bands, from 1, each a feature; None takes all but an alpha band.
    scale, offset : float or None
        Physical value = stored value * scale + offset; what is None comes from the file.
    nodata : float or None
        A stored value that is missing, beside what the file tells.
    """

    #: The key that a plain address stands for.
    PLAIN: ClassVar[str] = "path"
    #: What an address alone means in a record of before version 0.2.
    UNRECORDED: ClassVar[dict[str, Any]] = {
        "resampling": "bilinear",
        "bands": [1],
        "scale": 1,
        "offset": 0,
    }

    path: Address
    resampling: Literal["nearest", "bilinear", "cubic", "average", "mode"] | None = None
    bands: list[Annotated[int, Field(ge=1)]] | None = Field(None, min_length=1)
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_address(cls, value: Any) -> Any:
        return {cls.PLAIN: without_credentials(value)} if isinstance(value, str) else value

    @field_validator("bands")
    @classmethod
    def _once(cls, bands: list[int] | None) -> list[int] | None:
        if bands and len(set(bands)) < len(bands):
            raise ValueError(f"{bands} names a band twice; name each once")
        return bands
