"""Digests that caches and models go by."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["code_closure", "code_digest", "value_digest"]


def code_digest(names: Iterable[str], *, whole_packages: bool = True) -> str:
    """Digest what modules do: neither comments, docstrings nor layout count.

    Parameters
    ----------
    names : iterable of str
        Modules, or packages.
    whole_packages : bool
        A package stands for all modules in it; False takes its __init__.py alone, as
        `code_closure` means it.

    Returns
    -------
    str
        16 hexadecimal digits.

    Raises
    ------
    ModuleNotFoundError
        There is no module of that name, or its source is not there.
    """
    digest = hashlib.sha256()
    entries = {entry for name in names for entry in _sources(name, whole_packages)}
    for module, path in sorted(entries):
        digest.update(f"{module}\n{_what_it_does(path.read_bytes())}\n".encode())
    return digest.hexdigest()[:16]


def code_closure(name: str) -> set[str]:
    """Name a module and all modules of its own package that it imports, directly or not.

    Raises
    ------
    ModuleNotFoundError
        There is no module of that name, or its source is not there.
    """
    package, found, waiting = name.partition(".")[0], set[str](), [name]
    while waiting:
        here = waiting.pop()
        if here in found:
            continue
        found.add(here)
        path = _source(here)
        parent = here if path.name == "__init__.py" else here.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_bytes())):
            for imported in _imported(node, parent):
                if imported.partition(".")[0] == package and _exists(imported):
                    waiting.append(imported)
    return found


def value_digest(value: Any) -> str:
    """Digest a plain value: 16 hexadecimal digits, the same for the same keys in any order."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache  # each step of a command asks anew, and parsing takes most of its time
def _what_it_does(source: bytes) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        _drop_docstring(node)
    return ast.dump(tree)


def _source(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise ModuleNotFoundError(f"no source of module {name}")
    return Path(spec.origin)


def _sources(name: str, whole_packages: bool) -> Iterator[tuple[str, Path]]:
    path = _source(name)
    if path.name != "__init__.py" or not whole_packages:
        yield name, path
        return
    for inner in path.parent.rglob("*.py"):
        parts = inner.relative_to(path.parent).with_suffix("").parts
        yield ".".join([name, *parts]), inner


def _imported(node: ast.AST, parent: str) -> Iterator[str]:
    """Names that a statement imports, of which some may be no modules."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = parent.rsplit(".", node.level - 1)[0] if node.level else ""
        module = ".".join(part for part in (above, node.module or "") if part)
        yield module
        yield from (f"{module}.{alias.name}" for alias in node.names)


def _exists(name: str) -> bool:
    """Tell whether a module has a file; a folder without __init__.py has none."""
    spec = _find(name)
    return spec is not None and spec.has_location


def _find(name: str) -> ModuleSpec | None:
    """Find a module; only packages above it are run, no module that merely holds a name."""
    above = name.rpartition(".")[0]
    if above:
        package = _find(above)
        if package is None or package.submodule_search_locations is None:
            return None
    return find_spec(name)


def _drop_docstring(node: ast.AST) -> None:
    body = getattr(node, "body", None)
    if not isinstance(body, list) or not body or not isinstance(body[0], ast.Expr):
        return
    text = body[0].value
    if isinstance(text, ast.Constant) and isinstance(text.value, str):
        del body[0]
