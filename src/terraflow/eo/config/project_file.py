"""What a project file may say: all its sections, how it is read, and how a record of it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, Field

from terraflow import config
from terraflow.eo.config.addresses import local_path
from terraflow.eo.config.imagery import SIMULATED, CloudMask, Data, Grid
from terraflow.eo.config.labels import Checks, Labels
from terraflow.eo.config.section import Section
from terraflow.eo.config.sections import (
    Features,
    Map,
    Model,
    Monitor,
    Promotion,
    Validation,
    Watch,
)
from terraflow.files import expand_home

__all__ = ["ProjectConfig", "load_config", "read_recorded"]


class ProjectConfig(Section):
    """All of config/PROJECT.toml.

    Attributes
    ----------
    name : str
        Name of the MLflow experiment and of the registered model; by default the package's, with
        hyphens.
    seed : int
        Seed of everything random.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    seed: int = Field(42, ge=0, le=2**32 - 1)
    data: Data
    grid: Grid = Grid()
    cloud_mask: CloudMask | None = None
    labels: Labels = Labels()
    features: Features = Features()
    checks: Checks = Checks()
    model: Model = Model()
    validation: Validation = Validation()
    map: Map = Map()
    promotion: Promotion = Promotion()
    monitor: Monitor = Monitor()
    watch: Watch = Watch()

    @property
    def simulated(self) -> bool:
        """Whether the images are simulated."""
        return self.data.catalogue == SIMULATED and not self.data.files


def load_config(path: str | Path = "", *, project: str) -> ProjectConfig:
    """Read config/PROJECT.toml with its local overrides, or the one file that is named.

    Relative paths in a file start at its folder.

    Parameters
    ----------
    path : str or Path
        A file, relative to the folder the user stands in; "" takes config/PROJECT.toml.
    project : str
        Name of the project's package. With hyphens for underscores it is also the `name` that
        counts where the file has none.

    Raises
    ------
    ConfigError
        The file is missing, or keys are wrong; all are named.
    """
    if path:
        named = config.user_path(path)
        layers = [config.Layer(str(named), config.read_toml(named), {})]
    else:
        layers = config.file_layers(f"{project}.toml")
        named = config.config_dir() / f"{project}.toml"
        if not layers:
            config.read_toml(named)
    default = config.Layer("default", {"name": project.replace("_", "-")}, {})
    return _from_folder(config.validate(ProjectConfig, [default, *layers]), named.parent)


def read_recorded(values: Mapping[str, Any]) -> ProjectConfig:
    """Read the configuration that a model or a run recorded, also one of another version.

    Keys that this version does not know are left aside, and keys that the older one did not know
    take their defaults, or what a section says that they meant before there was one.

    Raises
    ------
    ValueError
        A value is of the wrong type, or a key without a default is missing.
    """
    recorded = {"features": {}} | dict(values)
    return ProjectConfig.model_validate(_known(recorded, ProjectConfig))


def _known(values: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Drop the keys that a model of pydantic does not know, at every depth."""
    names = set(model.model_fields) | set(getattr(model, "FORMER", {}))
    kept = dict(getattr(model, "UNRECORDED", {}))
    for key, value in values.items():
        if key not in names:
            continue
        field = model.model_fields.get(key)
        kept[key] = _known_inside(value, field.annotation) if field else value
    return kept


def _known_inside(value: Any, annotation: Any) -> Any:
    """Drop unknown keys of a section, of one that may be None, or of a dict of sections."""
    inner = [part for part in (annotation, *get_args(annotation)) if _is_section(part)]
    if isinstance(value, str) and inner and (plain := getattr(inner[0], "PLAIN", "")):
        value = {plain: value}
    if not inner or not isinstance(value, Mapping):
        return value
    if get_origin(annotation) is dict:
        return {name: _known_inside(each, inner[0]) for name, each in value.items()}
    return _known(value, inner[0])


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _from_folder(project: ProjectConfig, folder: Path) -> ProjectConfig:
    data, features = project.data, project.features
    changes = {"catalogue": _absolute(data.catalogue, folder)}
    if data.files:
        changes["files"] = _absolute(data.files, folder)
    if isinstance(data.area, str):
        changes["area"] = _absolute(data.area, folder)
    layers = {
        name: layer.model_copy(update={"path": _absolute(layer.path, folder)})
        for name, layer in features.layers.items()
    }
    labels = {"source": _absolute(project.labels.source, folder)}
    areas = {"areas": _absolute(project.map.areas, folder)} if project.map.areas else {}
    return project.model_copy(
        update={
            "data": data.model_copy(update=changes),
            "labels": project.labels.model_copy(update=labels),
            "features": features.model_copy(update={"layers": layers}),
            "map": project.map.model_copy(update=areas),
        }
    )


def _absolute(source: str, folder: Path) -> str:
    path = "" if source == SIMULATED else local_path(source)
    return str((folder / expand_home(path)).resolve()) if path else source
