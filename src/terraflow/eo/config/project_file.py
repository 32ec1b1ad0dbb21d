"""The project's configuration: area, dates, bands, classes, labels, model."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from terraflow import config
from terraflow.eo.config.sections import (
    SIMULATED,
    Checks,
    CloudMask,
    Data,
    Features,
    Grid,
    Labels,
    Map,
    Model,
    Monitor,
    Section,
    Validation,
)

__all__ = ["SIMULATED", "ProjectConfig", "load_config"]


class ProjectConfig(Section):
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
    grid: Grid = Grid()
    cloud_mask: CloudMask | None = None
    labels: Labels = Labels()
    features: Features = Features()
    checks: Checks = Checks()
    model: Model = Model()
    validation: Validation = Validation()
    map: Map = Map()
    monitor: Monitor = Monitor()

    @property
    def simulated(self) -> bool:
        """Whether the images are simulated."""
        return self.data.catalogue == SIMULATED and not self.data.files


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
    return _from_folder(project, named.parent)


def _from_folder(project: ProjectConfig, folder: Path) -> ProjectConfig:
    data, features = project.data, project.features
    changes = {"catalogue": _absolute(data.catalogue, folder)}
    if data.files:
        changes["files"] = _absolute(data.files, folder)
    if isinstance(data.area, str):
        changes["area"] = _absolute(data.area, folder)
    layers = {name: _absolute(source, folder) for name, source in features.layers.items()}
    labels = {"source": _absolute(project.labels.source, folder)}
    return project.model_copy(
        update={
            "data": data.model_copy(update=changes),
            "labels": project.labels.model_copy(update=labels),
            "features": features.model_copy(update={"layers": layers}),
        }
    )


def _absolute(source: str, folder: Path) -> str:
    if source == SIMULATED or "://" in source:
        return source
    return str((folder / Path(source).expanduser()).resolve())
