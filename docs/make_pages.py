"""Write what docs/configuration.md and docs/troubleshooting.md say of each key and each message.

`python docs/make_pages.py` after a change of either; a test compares. What stands above the mark in
these pages is written by hand.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from datetime import date
from inspect import cleandoc
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from terraflow import errors
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.settings import Settings

DOCS = Path(__file__).resolve().parent
SOURCE = DOCS.parent / "src" / "terraflow"
MARK = "<!-- From here on written by docs/make_pages.py. -->\n"
#: Rooms of the code by what a user does there, for the table of messages.
ROOMS = {
    "Start and run the stack": ("stack", "process", "."),
    "Settings and secrets": (
        "config.py",
        "settings.py",
        "sections.py",
        "credentials.py",
        "eo/config",
    ),
    "Images and catalogues": ("eo/images", "storage"),
    "Labels, features and samples": ("eo/targets", "eo/features", "eo/samples"),
    "Models and training": ("eo/models", "eo/training", "eo/promotion", "tracking"),
    "Maps, reports and drift": ("eo/maps", "eo/validation", "eo/monitoring"),
    "The project's own code": ("eo",),
    "Airflow": ("orchestration",),
    "The model server": ("serving",),
    "Commands and new projects": ("tasks", "projects", "console.py"),
}

#: Errors whose message a user sees.
SHOWN = {name for name, kind in vars(errors).items() if isinstance(kind, type)}


def configuration() -> str:
    """Tables of all keys: of the stack, then of a project."""
    parts = ["## The stack: config/terraflow.toml\n"]
    parts += _sections(Settings, variables=True)
    parts += ["## A project: config/PROJECT.toml\n", *_sections(ProjectConfig, variables=False)]
    return "\n".join(parts)


def _sections(model: type[BaseModel], *, variables: bool) -> Iterator[str]:
    plain = {k: f for k, f in model.model_fields.items() if _section(f) is None}
    yield _table(model, plain, "", variables=variables)
    for name, field in model.model_fields.items():
        if section := _section(field):
            yield f"### [{name}]\n\n{cleandoc(section.__doc__ or '').splitlines()[0]}\n"
            yield _table(section, section.model_fields, name, variables=variables)


def _section(field: FieldInfo) -> type[BaseModel] | None:
    for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _table(
    model: type[BaseModel], fields: dict[str, FieldInfo], section: str, *, variables: bool
) -> str:
    told = _attributes(model)
    heads = ["key", "default", "what it is"]
    heads[1:1] = ["variable"] if variables else []
    rows = [heads, ["---"] * len(heads)]
    for key, field in fields.items():
        words = [f"`{key}`", _default(field), field.description or told.get(key, "")]
        variable = "_".join(filter(None, ("TERRAFLOW", section, key))).upper()
        words[1:1] = [f"`{variable}`"] if variables else []
        rows.append(words)
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        made = field.default_factory() if field.default_factory else None  # type: ignore[call-arg]
        return f"`{made}`" if made is not None else "must be set"
    return "" if field.default is None else f"`{_toml(field.default)}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value) if not isinstance(value, date) else value.isoformat()


def _attributes(model: type[BaseModel]) -> dict[str, str]:
    """Read the Attributes of a numpydoc docstring: name to what is said of it."""
    text = cleandoc(model.__doc__ or "").partition("Attributes\n----------\n")[2]
    found = {}
    entry = re.compile(r"^(\w[^\n]*) : [^\n]*\n((?:    [^\n]*\n?)*)", re.MULTILINE)
    for names, body in entry.findall(text):
        found |= dict.fromkeys(names.split(", "), _plain(body))
    return found


def _plain(text: str) -> str:
    """Write a docstring's words on one line of a table, for who does not write Python."""
    return " ".join(re.sub(r"\bNone\b", "Unset", text).split()).replace("|", "\\|")


def troubleshooting() -> str:
    """Tables of all messages, by what a user does."""
    parts = []
    for title, rooms in ROOMS.items():
        rows = sorted({row for path in _modules(rooms) for row in _messages(path)})
        parts += [f"### {title}\n", "| what is printed | what to do |\n| --- | --- |"]
        parts += [f"| {failed} | {remedy} |" for failed, remedy in rows]
        parts.append("")
    return "\n".join(parts)


def _modules(rooms: tuple[str, ...]) -> Iterator[Path]:
    """Find the modules of some rooms; one belongs to the longest name that fits."""
    every = [room for group in ROOMS.values() for room in group]
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        fits = [room for room in every if room == "." or f"{name}/".startswith(f"{room}/")]
        if max(fits, key=len) in rooms:
            yield path


def _messages(path: Path) -> Iterator[tuple[str, str]]:
    """List what a module raises for a user, and the remedy in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
            continue
        name = getattr(node.exc.func, "id", "")
        if name not in SHOWN and not (name == "ValueError" and _is_of_a_key(path)):
            continue
        text = " ".join(_text(node.exc.args[0]).split()).replace("|", "\\|").rstrip(".")
        failed, found, remedy = text.rpartition("; ")
        if re.search(r"\w{3}", text):
            ends_as_told = "as it says" if text.endswith("…") else ""  # a sentence is filled in
            yield (failed, remedy) if found else (text, ends_as_told)


def _is_of_a_key(path: Path) -> bool:
    """Tell whether a module checks keys: pydantic turns its ValueErrors into sentences."""
    return path.name in {"settings.py", "sections.py"} or path.parent.name == "config"


def _text(node: ast.expr) -> str:
    """Write a message with … for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return re.sub("…+", "…", "".join(map(_text, node.values)))
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return "…"


#: Page to what is written below its mark.
PAGES = {"configuration.md": configuration, "troubleshooting.md": troubleshooting}


def page(name: str) -> str:
    """Give a page with what belongs below its mark."""
    by_hand = (DOCS / name).read_text().partition(MARK)[0]
    return f"{by_hand}{MARK}\n{PAGES[name]()}".rstrip() + "\n"


if __name__ == "__main__":
    for one in PAGES:
        (DOCS / one).write_text(page(one))
