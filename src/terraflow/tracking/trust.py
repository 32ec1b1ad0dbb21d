"""What code a model would run when it is loaded, found out without loading it."""

from __future__ import annotations

import pickletools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from terraflow.errors import ConfigError, first_line

__all__ = ["check_address", "check_trusted", "code_that_runs", "is_ours"]

#: Addresses in this stack's MLflow: a name or an id follows, and no other server's.
_OURS = re.compile(r"(models|runs):/[^/]")

#: Loaders that run nothing of a model in skops format, or in LightGBM's own; to the keys that name
#: their files.
LOADERS = {
    "mlflow.sklearn": ("model_path", "pickled_model"),
    "mlflow.lightgbm": ("data",),
}
#: The type whose file is LightGBM's own text.
BOOSTER = "lightgbm.basic.Booster"
#: Types that a skops file may name beside skops' own: those of the models that TerraFlow trains.
KNOWN_TYPES = {
    "collections.OrderedDict",
    BOOSTER,
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
}
MAX_NAMES = 5


def is_ours(uri: str) -> bool:
    """Tell whether an address leads to a model of this stack's MLflow."""
    return bool(_OURS.match(uri))


def check_address(uri: str, server: str) -> None:
    """Refuse an address to whose server MLflow's client would send this stack's token.

    Parameters
    ----------
    uri : str
        Of a model.
    server : str
        Address of this stack's MLflow.

    Raises
    ------
    ConfigError
        It is another server's.
    """
    parts = urlsplit(uri.strip())
    by_http = parts.scheme.lower() in ("http", "https", "mlflow-artifacts")
    if by_http and parts.netloc not in ("", urlsplit(server).netloc):
        raise ConfigError(
            f"Model {uri} lies on another server, which would get the token of this stack's "
            "MLflow; download it by that server's own means, and name its folder."
        )


def check_trusted(folder: Path, uri: str, *, ours: bool) -> None:
    """Refuse a model that would run code which nobody has vouched for.

    Parameters
    ----------
    folder : Path
        The model's files.
    uri : str
        For the message.
    ours : bool
        It comes from this stack's MLflow: then code that was logged with it, and types of the
        project in a skops file, are trusted.

    Raises
    ------
    ConfigError
        It would run such code.
    """
    if found := list(code_that_runs(folder, ours=ours)):
        raise ConfigError(
            f"Model {uri} runs code when it is loaded: {'; '.join(found)}; look at it, and say "
            "--trust if you trust who made it."
        )


def code_that_runs(folder: Path, *, ours: bool) -> Iterator[str]:
    """Name each thing in a model's folder that runs when it is loaded."""
    from mlflow.models import Model  # noqa: PLC0415 - slow

    flavors = Model.load(str(folder)).flavors
    function = flavors.get("python_function", {})
    loader = str(function.get("loader_module"))
    own = flavors.get(loader.rpartition(".")[2], {}) if loader in LOADERS else {}
    files = {str(f[key]) for f in (function, own) for key in LOADERS.get(loader, ()) if key in f}
    outside = {n for n in files if not _is_plain(folder, n)}
    pickles = {path for path in folder.rglob("*") if _is_pickle(path)}
    is_text = loader == "mlflow.lightgbm" and own.get("model_class", BOOSTER) == BOOSTER
    is_skops = own.get("serialization_format") == "skops"
    if not is_text and not is_skops:  # MLflow goes by the format, whatever the names
        pickles |= {folder / name for name in files - outside}
    for name in sorted(outside):
        yield f"the file {name}, which does not lie right in its folder"
    yield from _second_models(folder, flavors, loader) if loader in LOADERS else ()
    for path in sorted(pickles):
        yield f"the pickle {path.relative_to(folder)} calls {_imports(path)}"
    if loader not in LOADERS and not pickles:
        yield f"the loader {loader}"
    if ours:
        return
    for name in sorted(files - outside) if is_skops and not is_text else ():
        if types := _foreign_types(folder / name):
            yield f"types of {name}: {_some(types)}"
    if code := sorted({str(f["code"]) for f in flavors.values() if f.get("code")}):
        yield f"the folder {', '.join(code)}"


def _is_plain(folder: Path, name: str) -> bool:
    """Tell whether a name is that of a file right in a folder."""
    path = folder / name
    return path.parent == folder and path.name == name and not path.is_symlink() and path.is_file()


def _second_models(folder: Path, flavors: dict[str, Any], loader: str) -> Iterator[str]:
    """Name what may be loaded in place of the model that its loader names."""
    known = {"python_function", loader.rpartition(".")[2]}
    if other := sorted(set(flavors) - known):
        yield f"flavors beside that of its loader: {_some(other)}"
    if loader == "mlflow.sklearn" and (data := flavors["python_function"].get("data")):
        yield f"the model in {data}"
    for path in sorted(folder.rglob("*")):
        if path.name.lower() == "mlmodel" and path.parent != folder:
            yield f"the model in {path.parent.relative_to(folder)}"


def _is_pickle(path: Path) -> bool:
    """Tell by the first bytes: a pickle of protocol 2 or newer, whatever its name."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.read(2)
    return path.suffix in {".pkl", ".pickle", ".joblib"} or (
        first[:1] == b"\x80" and first[1:] in (b"\x02", b"\x03", b"\x04", b"\x05")
    )


def _imports(path: Path) -> str:
    """List what a pickle names, as pickletools reads it."""
    names: dict[str, None] = {}
    strings: list[str] = []
    try:
        with path.open("rb") as file:
            for code, argument, _ in pickletools.genops(file):
                if isinstance(argument, str):
                    strings.append(argument)
                if code.name in {"GLOBAL", "INST"}:
                    names[str(argument).replace(" ", ".")] = None
                elif code.name == "STACK_GLOBAL" and len(strings) > 1:
                    names[".".join(strings[-2:])] = None
    except (ValueError, OSError, IndexError) as error:
        return f"what can't be told ({first_line(error)})"
    return _some(list(names)) or "nothing that it names"


def _foreign_types(path: Path) -> list[str]:
    """Types that a skops file would make and that no model of TerraFlow's has."""
    import skops.io  # noqa: PLC0415 - slow

    try:
        types = skops.io.get_untrusted_types(file=path)
    except Exception as error:  # whatever is wrong in a file of a stranger
        return [f"what can't be told ({first_line(error)})"]
    return [name for name in types if name not in KNOWN_TYPES]


def _some(names: list[Any]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(map(str, names[:MAX_NAMES])) + more
