"""The sections of a project file that say what reference data are, and what samples must be."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from terraflow.eo.config.addresses import Address
from terraflow.eo.config.imagery import SIMULATED
from terraflow.eo.config.section import Section

__all__ = ["Checks", "Labels"]


class Labels(Section):
    """Reference data.

    Attributes
    ----------
    source : str
        "simulated", or polygons or points in any format OGR reads, or a table of points, as CSV,
        with columns longitude and latitude, or x and y, or a raster of class numbers.
    crs : str or None
        Of a table's coordinates, or of geometries whose file tells none or one that they can't be
        in, as "EPSG:32633"; longitude and latitude are degrees (EPSG:4326) without it.
    layer : str or None
        Which of several: layer of a GeoPackage, folder of a KML, sheet of a spreadsheet, file of a
        zip or a folder, geometry column of a GeoParquet. None needs one alone that holds labels.
    field : str
        Attribute that holds what is learnt, as the name of a class; not used with a raster. It was
        called `class_field` before version 0.2, which is still read.
    band : int or None
        Of a raster, from 1; None takes the only one.
    classes : dict or None
        Value to class name, which renames and merges; values not listed are ignored. None takes
        the values as they are.
    shrink : float
        Distance in the units of the grid's CRS by which polygons are made smaller all around.
    overlaps : {"drop", "refuse", "first", "last"}
        What becomes of a pixel whose labels contradict each other: it is left out, it is an error,
        or it takes the first or the last of the file. Models before version 0.2 took the last.
    samples_per_class : int or None
        At most so many pixels of each class, drawn at random; None takes all.
    """

    #: The key of `most_of_each`, for messages.
    MOST_OF_EACH: ClassVar[str] = "samples_per_class"
    FORMER: ClassVar[dict[str, str]] = {"class_field": "field"}
    UNRECORDED: ClassVar[dict[str, Any]] = {"overlaps": "last"}

    source: Address = SIMULATED
    crs: str | None = None
    layer: str | None = None
    field: str = "class_name"
    band: int | None = Field(None, ge=1)
    classes: dict[str, str] | None = None
    shrink: float = Field(0, ge=0)
    overlaps: Literal["drop", "refuse", "first", "last"] = "drop"
    samples_per_class: int | None = Field(None, ge=1)

    @property
    def most_of_each(self) -> int | None:
        """Most pixels of each stratum, as a class is one."""
        return self.samples_per_class

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if twice := [new for old, new in cls.FORMER.items() if {old, new} <= set(values)]:
            raise ValueError(
                f"{twice[0]} is given twice, by its present and its former name; remove one"
            )
        return {cls.FORMER.get(key, key): value for key, value in values.items()}


class Checks(Section):
    """What data must fulfil before training; a None is not checked.

    Attributes
    ----------
    min_clear_share : float or None
        Least share (0-1) of clear observations in any period.
    min_samples_per_class : int or None
        Least number of labelled pixels with features.
    value_range : dict
        Band or index to its least and greatest plausible value; an index has its own by default.
    max_outside_range : float
        Greatest share (0-1) of clear values outside `value_range`.
    """

    min_clear_share: float | None = Field(None, ge=0, le=1)
    min_samples_per_class: int | None = Field(None, ge=1)
    value_range: dict[str, tuple[float, float]] = {}
    max_outside_range: float = Field(0.01, ge=0, le=1)

    @property
    def min_samples(self) -> int | None:
        """Least number of labelled pixels of each stratum, as a class is one."""
        return self.min_samples_per_class
