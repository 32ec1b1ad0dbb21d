"""What a project brings of its own, and how a model remembers it."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from terraflow.eo.built_in import BUILT_IN, DEFAULT
from terraflow.eo.config.digests import code_closure, code_digest, value_digest
from terraflow.eo.config.record import Record
from terraflow.eo.features.own import function_name
from terraflow.eo.features.recipe import FeatureFunction
from terraflow.eo.targets.target import Target
from terraflow.errors import ConfigError, DataError

__all__ = [
    "HookRecord",
    "Hooks",
    "ModelFactory",
    "code_folders",
    "find_hooks",
    "hooks_digest",
    "record_hooks",
]

#: A project's own model: an estimator type of scikit-learn's API, or a function that makes one.
ModelFactory = Callable[..., Any]
#: Names of folders that hold installed packages, in whichever environment; Debian has the second.
SITES = {"site-packages", "dist-packages"}


@dataclass(frozen=True)
class Hooks:
    """What a project brings of its own.

    Attributes
    ----------
    features : sequence of callable
        Functions that compute features of a pixel; see `features.own`.
    models : mapping
        Name to an estimator type of scikit-learn's API, or to a function that makes one.
    target : Target
    package : str
        The project's package, which is kept with its models; "" where it is not known.
    """

    features: Sequence[FeatureFunction] = ()
    models: Mapping[str, ModelFactory] = field(default_factory=dict)
    target: Target = field(default_factory=DEFAULT)
    package: str = ""


class HookRecord(Record):
    """The hooks of a model, by name, and a digest of their code.

    Attributes
    ----------
    target : str
        Name of a built-in target, or module:name of the project's own.
    features : list of str
        Functions, as module:name.
    model : str
        What made the estimator, as module:name, where it is the project's own.
    digest : str
        Digest of the code of features and target, which decide what a map holds.
    """

    target: str = DEFAULT.name
    features: list[str] = []
    model: str = ""
    digest: str = ""

    @property
    def names(self) -> list[str]:
        """All of them, as module:name."""
        return [name for name in (*self.features, self.model, self.target) if ":" in name]


def record_hooks(hooks: Hooks, model: str) -> HookRecord:
    """Name the hooks that a model depends on.

    Parameters
    ----------
    model : str
        What [model] names.

    Raises
    ------
    ConfigError
        One is not to be found by its name.
    """
    own = hooks.models.get(model)
    target = hooks.target
    built_in = type(target) in BUILT_IN.values()
    return HookRecord(
        target=target.name if built_in else function_name(type(target)),
        features=[function_name(function) for function in hooks.features],
        model=function_name(own) if own and _module_of(own) else "",
        digest=hooks_digest(hooks),
    )


def hooks_digest(hooks: Hooks) -> str:
    """Digest features and target: which, in order, and their code with what it imports.

    Of what they import, the modules of their own package count; "" stands for no hooks.

    Raises
    ------
    ConfigError
        One is not to be found by its name, as one that is defined in another function.
    """
    own: list[Any] = [*hooks.features]
    if type(hooks.target) not in BUILT_IN.values():
        own.append(type(hooks.target))
    if not own:
        return ""
    modules = {name for hook in own for name in code_closure(_module_of(hook))}
    return value_digest(
        [[function_name(hook) for hook in own], code_digest(modules, whole_packages=False)]
    )


def code_folders(record: HookRecord, package: str) -> list[str]:
    """Find the code that is kept with a model: the folder of each package that holds a hook.

    Packages that were installed are not copied, but for the project's own.

    Parameters
    ----------
    package : str
        The project's.
    """
    found = []
    for name in sorted({_top(name) for name in record.names}):
        spec = find_spec(name)
        if spec and spec.origin and (name == package or not is_installed(spec.origin)):
            path = Path(spec.origin)
            found.append(str(path.parent if path.name == "__init__.py" else path))
    return found


def is_installed(path: str) -> bool:
    """Tell whether a module's file lies where packages are installed to.

    That may be another environment's or a user's folder of packages, which the path has, too.
    """
    folders = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")}
    return bool(SITES & {*Path(path).parts}) or any(
        Path(path).is_relative_to(folder) for folder in folders
    )


def find_hooks(record: HookRecord, here: Hooks, model: str, *, known_only: bool = False) -> Hooks:
    """Find the hooks that a model depends on: the project's, else by import.

    Parameters
    ----------
    here : Hooks
        Of the project that asks.
    model : str
        Name of the model, for messages.
    known_only : bool
        Import nothing: a stranger's model may name any function of any package.

    Raises
    ------
    ConfigError
        One would have to be imported, and may not.
    DataError
        One is missing, or its code changed since the training; the message names them.
    """
    own = {function_name(function): function for function in here.features}
    own_target = {function_name(type(here.target)): type(here.target), **BUILT_IN}
    foreign = [name for name in record.features if name not in own]
    foreign += [record.target] if record.target not in own_target else []
    if known_only and foreign:
        raise ConfigError(
            f"Model {model} is not of this stack's registry, and would run {', '.join(foreign)}, "
            "which is not of this project; look at it, and say --trust if you trust who made it."
        )
    missing: list[str] = []
    features = [_find(name, own, missing) for name in record.features]
    target = _find(record.target, own_target, missing)
    if missing:
        raise DataError(
            f"Model {model} needs {', '.join(missing)}, which can't be imported here; install the "
            "project that it was trained in, or run this in its folder."
        )
    same = type(here.target) is target  # one derived of it may encode a map otherwise
    found = Hooks(features, here.models, here.target if same else target())
    if record.digest and hooks_digest(found) != record.digest:
        named = [*record.features, *([record.target] if ":" in record.target else [])]
        raise DataError(
            f"The code of {', '.join(named)} changed since model {model} was trained, so that its "
            "features would be others; train again, or go back to the commit that its run names."
        )
    return found


def _module_of(hook: Any) -> str:
    """Name the module of a hook, from which others can import it."""
    name = function_name(hook)
    if "<" in name or name.startswith("__main__:") or not hasattr(hook, "__module__"):
        raise ConfigError(
            f"{name} is no function of a module, by whose name a model could find it again; define "
            "it at the top level of a module of the project."
        )
    return str(hook.__module__)


def _top(name: str) -> str:
    return name.partition(":")[0].partition(".")[0]


def _find(name: str, known: Mapping[str, Any], missing: list[str]) -> Any:
    if name in known:
        return known[name]
    try:
        return resolve_name(name)
    except (ImportError, AttributeError, ValueError):
        missing.append(name)
        return None
