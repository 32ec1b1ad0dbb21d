"""The sections of a project file that say what is learnt from the images, and how."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator

from terraflow.eo.config.addresses import Address
from terraflow.eo.config.imagery import StaticLayer
from terraflow.eo.config.section import Section

__all__ = [
    "Features",
    "Map",
    "Model",
    "Monitor",
    "Priors",
    "Promotion",
    "Validation",
    "Watch",
]


def _statistic(name: str) -> str:
    if not re.fullmatch(r"min|max|mean|std|p\d{1,2}", name):
        raise ValueError("write min, max, mean, std, or a percentile as p10; p50 is the median")
    return name


def _colour(text: str) -> str:
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        raise ValueError(f"{text!r} is no colour; write it as #1f6b35")
    return text


#: Shares of strata, which need not add up to 1.
#: Of numbers of pixels: rows and columns are counted in 32 bits.
MOST_PX = 2**31 - 1
Priors = Literal["labels", "equal"] | dict[str, Annotated[float, Field(gt=0)]]


class Features(Section):
    """What is computed of each band and index.

    Attributes
    ----------
    composites : {"month", "month_of_year", "season", "season_of_year", "whole"}
        Periods: of each year, or over all years. Seasons are DJF, MAM, JJA, SON.
    percentile : float
        Of the clear values in a period; 50 is the median.
    max_gap_days : float or None
        A pixel that is not clear in a period gets its value from the clear periods before and
        after, of which the nearer lies at most so many days away, from middle to middle; farther
        ones leave it without that feature. 92 days are a season: what grows looks otherwise in the
        next but one. None, of models from before 0.2, is without limit and knows no turn of the
        year.
    statistics : list
        Over all clear values in time; "p10" is the 10th percentile.
    indices : list of str
        Spectral indices by their names in spyndex.
    constants : dict
        Values for the constants in indices, as L of SAVI; spyndex's defaults otherwise.
    layers : dict
        Name of a feature to a raster that does not change in time, as elevation: its address, or a
        table of path, resampling, bands, scale, offset and nodata.
    neighbourhood : list of int
        Sides in pixels (odd, at most 1001) of squares over which mean and standard deviation are
        added, of every composite and statistic and of the layers.
    """

    #: What a record means that lacks a key.
    UNRECORDED: ClassVar[dict[str, Any]] = {"max_gap_days": None}

    composites: Literal["month", "month_of_year", "season", "season_of_year", "whole"] = "month"
    percentile: float = Field(50, ge=0, le=100)
    max_gap_days: float | None = Field(92, gt=0, allow_inf_nan=False)
    statistics: list[Annotated[str, AfterValidator(_statistic)]] = [
        "max",
        "std",
    ]
    indices: list[str] = []
    constants: dict[str, float] = {}
    layers: dict[str, StaticLayer] = {}
    neighbourhood: list[Annotated[int, Field(ge=3, le=1001)]] = []

    @property
    def gap_text(self) -> str:
        """What is told of pixels that [features] max_gap_days costs."""
        return (
            f"have no features: in some period they are not clear within {self.max_gap_days:g} "
            "days ([features] max_gap_days)"
        )

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


class Model(Section):
    """A model by name, and its parameters.

    Attributes
    ----------
    name : str
        mlp, random_forest or lightgbm, or one of the project's own; `estimators` checks it.
    parameters : dict
        As scikit-learn's or LightGBM's estimator takes them, over TerraFlow's defaults.
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
        Parts of the blocks, each held out once.
    whole_polygons : bool
        All pixels of a polygon take one block, that which holds a point within the polygon; so do
        those of a patch of a raster of at most 100 rows and columns. False cuts polygons at blocks'
        edges, which a few polygons larger than a block call for.
    gap_px : int
        Training pixels at most so many columns and rows from a test pixel are left out; a gap
        as wide as neighbourhood features reach keeps test pixels out of training windows.
    resamples : int
        Of blocks, to correct the best score of a search for the choice.
    """

    block_size_px: int = Field(17, ge=1, le=MOST_PX)
    folds: int = Field(5, ge=2)
    whole_polygons: bool = True
    gap_px: int = Field(0, ge=0, le=MOST_PX)
    resamples: int = Field(1000, ge=100, le=1_000_000)


class Map(Section):
    """What becomes of a map.

    Attributes
    ----------
    minimum_mapping_unit_px : int
        Smaller patches are merged into their largest neighbour in the report.
    areas : str
        Polygons, in any format OGR reads, over which the report gives a mean, where the map holds
        numbers; "" takes the whole map.
    areas_field : str
        Attribute that names an area; "" numbers them.
    areas_layer : str
        Of a file with several layers.
    scene_days : int or None
        The map of one scene is made of the images of so many days up to its own. None takes the
        scene alone with composites = "whole", and a year otherwise, so that every period has its
        images.
    quality : bool
        Beside a map lies a file of its quality: clear observations, how many values may be the
        true one, and how unlike the training samples a pixel is.
    priors : {"labels", "equal"} or dict
        Shares in which a model expects strata, as of the land cover: those of the labelled pixels,
        equal ones, or `{ water = 0.1, forest = 0.9 }`. Samples are weighted so while it learns.
    colours : dict
        Name of a value to "#rrggbb"; others come from a palette.
    """

    minimum_mapping_unit_px: int = Field(4, ge=1, le=MOST_PX)
    areas: Address = ""
    areas_field: str = ""
    areas_layer: str = ""
    scene_days: int | None = Field(None, ge=1)
    quality: bool = True
    priors: Priors = "labels"
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


class Promotion(Section):
    """Who lets a better model take over.

    Attributes
    ----------
    approve : bool
        A person is asked before a model that the gate lets through becomes the champion.
    """

    approve: bool = False


class Watch(Section):
    """How often Airflow looks for new items.

    Attributes
    ----------
    store_s : float
        Seconds between two looks into the store, for what `ingest` wrote.
    catalogue_s : float
        Seconds between two looks into [data] catalogue or files, for what to ingest; 0 never looks.
    """

    store_s: float = Field(10, ge=1)
    catalogue_s: float = Field(600, ge=0)
