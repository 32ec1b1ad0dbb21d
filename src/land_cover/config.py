"""The project's configuration: area, dates, bands, classes, labels, model."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from terraflow import config

__all__ = ["SIMULATED", "ProjectConfig", "load_config"]

SIMULATED = "simulated"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Data(_Section):
    """Which images.

    Attributes
    ----------
    catalogue : str
        "simulated", or a STAC catalogue by path or URI.
    start, end : date
        First and last day, both included.
    bands : dict
        Name of a band in the features to key of its asset.
    """

    catalogue: str = SIMULATED
    start: date
    end: date
    bands: dict[str, str] = Field(min_length=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start > self.end:
            raise ValueError(f"start {self.start} is after end {self.end}; swap them")
        return self


class CloudMask(_Section):
    """Which pixels are clear: those whose value in `asset` is one of `clear`."""

    asset: str
    clear: list[int] = Field(min_length=1)


class Labels(_Section):
    """Reference polygons.

    Attributes
    ----------
    source : str
        "simulated", or a file in any format OGR reads.
    class_field : str
        Attribute that names the class.
    classes : dict or None
        Value of `class_field` to class name; values not listed are left out. None takes the values
        as they are.
    samples_per_class : int or None
        At most so many pixels of each class, drawn at random; None takes all.
    """

    source: str = SIMULATED
    class_field: str
    classes: dict[str, str] | None = None
    samples_per_class: int | None = Field(None, ge=1)


class Features(_Section):
    """Statistics over time of each band and index.

    Attributes
    ----------
    composites : {"month", "month_of_year"}
        Median per calendar month, of each year or over all years.
    indices : list
        Normalised differences by name.
    """

    composites: Literal["month", "month_of_year"] = "month"
    indices: list[Literal["ndvi", "ndwi"]] = []

    @field_validator("indices")
    @classmethod
    def _unique(cls, indices: list[str]) -> list[str]:
        return list(dict.fromkeys(indices))


class Model(_Section):
    """Random forest."""

    trees: int = Field(200, ge=1)
    min_samples_leaf: int = Field(1, ge=1)


class Validation(_Section):
    """Cross-validation over square blocks of pixels, which keeps neighbours together."""

    block_size_px: int = Field(17, ge=1)
    folds: int = Field(5, ge=2)


class ProjectConfig(_Section):
    """All of config/land_cover.toml.

    Attributes
    ----------
    name : str
        Of the MLflow experiment and of the registered model.
    seed : int
        Of everything random.
    """

    name: str = Field("land-cover", pattern=r"^[a-z0-9][a-z0-9-]*$")
    seed: int = 42
    data: Data
    cloud_mask: CloudMask
    labels: Labels
    features: Features = Features()
    model: Model = Model()
    validation: Validation = Validation()

    @property
    def simulated(self) -> bool:
        """Whether the images are simulated."""
        return self.data.catalogue == SIMULATED


def load_config(path: str | Path = "") -> ProjectConfig:
    """Read config/land_cover.toml with its local overrides, or the one file that is named.

    Relative paths in a file start at its folder.

    Raises
    ------
    ConfigError
        The file is missing, or keys are wrong; all are named.
    """
    if path:
        named = config.user_path(path)
        layers = [config.Layer(str(named), config.read_toml(named), {})]
    else:
        layers = config.file_layers("land_cover.toml")
        named = config.config_dir() / "land_cover.toml"
        if not layers:
            config.read_toml(named)
    project = config.validate(ProjectConfig, layers)
    data = project.data.model_copy(
        update={"catalogue": _absolute(project.data.catalogue, named.parent)}
    )
    labels = project.labels.model_copy(
        update={"source": _absolute(project.labels.source, named.parent)}
    )
    return project.model_copy(update={"data": data, "labels": labels})


def _absolute(source: str, folder: Path) -> str:
    if source == SIMULATED or "://" in source:
        return source
    return str((folder / Path(source).expanduser()).resolve())
