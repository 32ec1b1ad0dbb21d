"""A project: what it brings of its own, and what it is with its configuration and its store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pkgutil import resolve_name
from typing import Any

from terraflow import config as configuration
from terraflow import settings
from terraflow.eo.built_in import DEFAULT
from terraflow.eo.config.addresses import checked_uri
from terraflow.eo.config.imagery import Data
from terraflow.eo.config.project_file import ProjectConfig, load_config
from terraflow.eo.config.sections import Model
from terraflow.eo.features.recipe import FeatureFunction, FeatureRecipe
from terraflow.eo.hooks import Hooks, ModelFactory
from terraflow.eo.targets.target import Target
from terraflow.errors import ConfigError, TerraFlowError, error_place, first_line
from terraflow.storage import Storage

__all__ = ["Inputs", "OpenProject", "Project", "StepFunction", "find_project", "open_project"]

#: What a step gets: URIs and options by name; what it returns is given to the step after it.
Inputs = Mapping[str, Any]
StepFunction = Callable[["OpenProject", Inputs], Mapping[str, Any]]


@dataclass(frozen=True)
class Project:
    """What a project brings of its own; everything has a default but the name.

    Attributes
    ----------
    name : str
        The configuration is config/NAME.toml.
    features : sequence of callable
        Functions that compute features of a pixel: a Dataset of clear observations, dims (time, y,
        x), to a dict of name to array (y, x).
    models : mapping
        Name to an estimator type of scikit-learn's API, beside mlp, random_forest and lightgbm.
    target : Target
        What is learnt.
    steps : mapping
        Name to a function `(project, inputs) -> outputs`: under the name of a step of TerraFlow's
        it replaces that step, under another it is a step of the project's own.
    package : str
        The project's package; `find_project` knows it.
    """

    name: str
    features: Sequence[FeatureFunction] = ()
    models: Mapping[str, ModelFactory] = field(default_factory=dict)
    target: Target = field(default_factory=DEFAULT)
    steps: Mapping[str, StepFunction] = field(default_factory=dict)
    package: str = ""

    def __post_init__(self) -> None:
        """Refuse what is no project: the sentence is for whoever writes one."""
        wrong = [f for f in self.features if not callable(f)] if _is_list(self.features) else None
        if wrong is None or wrong:
            shown = self.features if wrong is None else wrong[0]
            raise ConfigError(
                f"Project(features=...) holds {shown!r:.80}; a tuple of functions is expected, as "
                "(phenology,)."
            )
        for key in ("models", "steps"):
            values = getattr(self, key)
            if not isinstance(values, Mapping) or not all(map(callable, values.values())):
                raise ConfigError(
                    f"Project({key}=...) is {values!r:.80}; a dict of names to functions or types "
                    "is expected."
                )
        if not isinstance(self.target, Target):
            raise ConfigError(
                f"Project(target=...) is {self.target!r:.80}; an instance of a Target is expected, "
                "as MyTarget()."
            )

    @property
    def hooks(self) -> Hooks:
        """What models depend on."""
        return Hooks(tuple(self.features), dict(self.models), self.target, self.package)


@dataclass(frozen=True)
class OpenProject:
    """A project with its configuration and its store: what every step gets.

    Attributes
    ----------
    project : Project
    config : ProjectConfig
    storage : Storage
    """

    project: Project
    config: ProjectConfig
    storage: Storage

    @property
    def hooks(self) -> Hooks:
        """The project's own features, models and target."""
        return self.project.hooks

    @property
    def recipe(self) -> FeatureRecipe:
        """How features are made of items."""
        return FeatureRecipe.of(self.config, self.hooks.features)

    def with_model(self, name: str, **parameters: Any) -> OpenProject:
        """Choose another model: by its name, with its parameters."""
        model = Model(name=name, parameters=parameters)
        return replace(self, config=self.config.model_copy(update={"model": model}))

    def with_dates(self, start: str | date | None, end: str | date | None) -> OpenProject:
        """Choose other dates of the images, as 2024-04-01; None keeps those of [data].

        Raises
        ------
        ConfigError
            One is no date, or the end lies before the start.
        """
        data = self.config.data
        changes = {key: day for key, day in (("start", start), ("end", end)) if day}
        try:
            data = Data.model_validate(data.model_dump() | changes)
        except ValueError as error:
            raise ConfigError(
                f"Dates {start or data.start} to {end or data.end} are wrong: {_problem(error)}; "
                "write them as 2024-04-01, the earlier one first."
            ) from error
        return replace(self, config=self.config.model_copy(update={"data": data}))

    @property
    def champion(self) -> str:
        """URI of the registered model that promotion chose."""
        return f"models:/{self.config.name}@champion"


def _problem(error: ValueError) -> str:
    errors = getattr(error, "errors", None)
    return str(errors()[0]["msg"]) if errors else first_line(error)


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def find_project() -> Project:
    """Import the project that pyproject.toml names, as [tool.terraflow] project.

    Raises
    ------
    ConfigError
        pyproject.toml names none, or what it names can't be imported or is no project.
    """
    path = configuration.project_root() / "pyproject.toml"
    name = configuration.read_toml(path).get("tool", {}).get("terraflow", {}).get("project")
    if not isinstance(name, str):
        raise ConfigError(
            f'{path} names no project; add `project = "PACKAGE.project:PROJECT"` to '
            "[tool.terraflow]."
        )
    try:
        project = resolve_name(name)
    except TerraFlowError:
        raise
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"Project {name}, which {path} names, can't be imported: {first_line(error)}"
            f"{error_place(error)}; correct the name, or install the project, as "
            "`pip install --editable .` does."
        ) from error
    except Exception as error:
        raise ConfigError(
            f"Project {name}, which {path} names, can't be imported: {type(error).__name__}: "
            f"{first_line(error)}{error_place(error)}; correct it."
        ) from error
    if not isinstance(project, Project):
        raise ConfigError(
            f"{name}, which {path} names, is a {type(project).__name__}; a Project of terraflow.eo "
            "is expected."
        )
    return replace(project, package=name.partition(":")[0].partition(".")[0])


def open_project(path: str = "", *, files: str = "", project: Project | None = None) -> OpenProject:
    """Read a project's configuration, and connect it with the store.

    Parameters
    ----------
    path : str
        A project file instead of config/NAME.toml, relative to the folder the user stands in.
    files : str
        Pattern of rasters, in place of [data] files, relative to the folder the user stands in.
    project : Project, optional
        By default the one that pyproject.toml names.

    Raises
    ------
    ConfigError
        The project can't be found, its configuration is wrong, or `files` holds credentials.
    """
    project = project or find_project()
    config = load_config(path, project=project.name)
    if files:
        pattern = files if "://" in files else str(configuration.user_path(files))
        data = config.data.model_copy(update={"files": checked_uri(pattern)})
        config = config.model_copy(update={"data": data})
    return OpenProject(project, config, Storage(settings.load()))
