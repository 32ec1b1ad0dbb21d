"""Imports point one way: every import of the packages is read, late and type-only ones too."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"
PACKAGES = ("terraflow", "land_cover")

MAX_MODULES, MAX_LINES, MAX_PROJECT_LINES = 10, 300, 199

#: What each room of the platform may import beside itself; "base" are the modules in no room.
PLATFORM = {
    "base": set(),
    "disks": {"base"},
    "checkout": {"base"},
    "process": {"disks", "base"},
    "projects": {"checkout", "base"},
    "stack": {"checkout", "process", "disks", "base"},
    "tracking": {"checkout", "base"},
    "storage": {"disks", "base"},
    "orchestration": {"eo", "tracking", "storage", "disks", "base"},
    "serving": {"checkout", "stack", "eo", "tracking", "storage", "process", "disks", "base"},
    "eo": {"tracking", "storage", "disks", "base"},
}
#: What each room of eo may import of eo beside itself, with all that those may. `built_in`,
#: `hooks` and `project` are modules for the rooms above them; `eo` are all others in no room.
EO = {
    "config": set(),
    "images": {"config"},
    "features": {"images"},
    "targets": {"config", "features"},
    "built_in": {"targets"},
    "hooks": {"features", "built_in"},
    "project": {"hooks"},
    "samples": {"project"},
    "models": {"hooks"},
    "training": {"samples", "models"},
    "promotion": {"training"},
    "maps": {"training", "models"},
    "validation": {"maps"},
    "monitoring": {"samples", "models"},
    "labelling": {"samples", "models"},
    "eo": {"validation", "monitoring", "promotion", "labelling"},
}
#: Outside of the targets, the model card and the figures, so many modules may know the word class.
MAX_KNOWING_CLASSES = 8
CLASS = re.compile(r"\bclass(es|_\w+|if\w+)?\b|\w+_class(es)?\b")
#: Python's own word, and names of JupyterLab's, MLflow's and QGIS's.
NOT_MEANT = re.compile(
    r"^\s*class \w+[(:]|check_for_updates_class|\"model_class\"|\"class\": \"SimpleMarker\"",
    re.MULTILINE,
)


def find_modules() -> dict[str, Path]:
    """Every module of the packages by its name; a package is the module of its __init__.py."""
    modules = {}
    for package in PACKAGES:
        for path in sorted((SRC / package).rglob("*.py")):
            parts = path.relative_to(SRC).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


MODULES = find_modules()


def imported(module: str, tree: ast.AST, modules: Mapping[str, object]) -> Iterator[str]:
    """Modules of ours that one imports: `from package import name` is the module of that name."""
    is_package = any(name.startswith(f"{module}.") for name in modules)
    parts = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            above = parts[: len(parts) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{origin}.{alias.name}"
                if name in modules or origin in modules:
                    yield name if name in modules else origin


IMPORTS = {
    module: set(imported(module, ast.parse(path.read_text()), MODULES)) - {module}
    for module, path in MODULES.items()
}


def room(module: str) -> str:
    """Room of a module of the platform."""
    parts = module.split(".")
    is_room = len(parts) > 2 or (SRC / Path(*parts)).is_dir()
    return parts[1] if len(parts) > 1 and is_room else "base"


def eo_room(module: str) -> str:
    """Room of a module of eo."""
    parts = module.split(".")
    return parts[2] if len(parts) > 2 and parts[2] in EO else "eo"


def folder(module: str) -> str:
    """Folder that a module lies in; a package's own is the package."""
    return module if (SRC / Path(*module.split("."))).is_dir() else module.rpartition(".")[0]


def edges(package: str) -> list[tuple[str, str]]:
    """List (module, imported module) of one package."""
    return [
        (module, other)
        for module, others in IMPORTS.items()
        if module == package or module.startswith(f"{package}.")
        for other in sorted(others)
    ]


def find_cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """Give one cycle, or an empty list."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def with_all_below(rooms: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Let each room import what those it may import may import."""
    order = TopologicalSorter(rooms).static_order()
    allowed: dict[str, set[str]] = {}
    for name in order:
        allowed[name] = rooms[name].union(*(allowed[other] for other in rooms[name]))
    return allowed


def test_imports_are_seen_late_relative_and_by_name() -> None:
    code = (
        "from . import c\nfrom .c import x\nimport p.d\nfrom p import e, f\n"
        "def late():\n    from p.q.r import y\n"
    )
    modules = dict.fromkeys(("p", "p.b", "p.c", "p.d", "p.e", "p.q", "p.q.r"))
    found = set(imported("p.b", ast.parse(code), modules))
    assert found == {"p", "p.c", "p.d", "p.e", "p.q.r"}
    assert set(imported("p", ast.parse("from .q import r"), modules)) == {"p.q.r"}
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert with_all_below({"a": {"b"}, "b": {"c"}, "c": set()})["a"] == {"b", "c"}


@pytest.mark.parametrize("here", PLATFORM)
def test_platform_imports_point_one_way(here: str) -> None:
    wrong = [
        (module, other)
        for module, other in edges("terraflow")
        if room(module) == here and other.startswith("terraflow")
        if room(other) not in {here} | PLATFORM[here]
    ]
    assert wrong == []


def test_platform_knows_no_project() -> None:
    assert [edge for edge in edges("terraflow") if not edge[1].startswith("terraflow")] == []


def test_every_room_has_its_rule() -> None:
    assert {room(module) for module in MODULES if module.startswith("terraflow")} == {
        *PLATFORM,
        "tasks",
    }


def test_no_cycles_between_modules_of_the_platform() -> None:
    platform = {m: {o for o in IMPORTS[m] if room(o) != "eo"} for m in MODULES if room(m) != "eo"}
    assert find_cycle(platform) == []


def test_no_cycles_between_folders_of_the_platform() -> None:
    assert find_cycle(folder_graph(eo=False)) == []


def folder_graph(*, eo: bool) -> dict[str, set[str]]:
    """Which folder imports which: those of eo, or all others."""
    graph: dict[str, set[str]] = {}
    for module, others in IMPORTS.items():
        for other in others:
            if (
                room(module) == room(other) == "eo"
                if eo
                else "eo" not in (room(module), room(other))
            ):
                graph.setdefault(folder(module), set()).add(folder(other))
    return {here: there - {here} for here, there in graph.items()}


def test_eo_has_a_rule_for_each_room() -> None:
    rooms = {eo_room(module) for module in MODULES if module.startswith("terraflow.eo")}
    assert rooms == set(EO)


def test_eo_imports_point_one_way() -> None:
    allowed = with_all_below(EO)
    wrong = [
        (module, other)
        for module, other in edges("terraflow.eo")
        if (here := eo_room(module)) and other.startswith("terraflow.eo")
        if eo_room(other) not in {here} | allowed[here]
    ]
    assert wrong == []


def test_no_cycles_between_modules_of_eo() -> None:
    eo = {m: {o for o in IMPORTS[m] if room(o) == "eo"} for m in MODULES if room(m) == "eo"}
    assert find_cycle(eo) == []


def test_no_cycles_between_folders_of_eo() -> None:
    assert find_cycle(folder_graph(eo=True)) == []


def test_project_imports_the_platform_only() -> None:
    wrong = [e for e in edges("land_cover") if e[1].split(".")[0] not in PACKAGES]
    assert wrong == []
    assert find_cycle({m: IMPORTS[m] for m in MODULES if m.startswith("land_cover")}) == []


@pytest.mark.parametrize("name", sorted({folder(module) for module in MODULES}))
def test_folder_has_no_more_modules_than_one_looks_over(name: str) -> None:
    inside = [p.name for p in (SRC / Path(*name.split("."))).glob("*.py")]
    assert len([n for n in inside if n != "__init__.py"]) <= MAX_MODULES, inside


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


@pytest.mark.parametrize("here", [*PLATFORM, "tasks"])
def test_no_module_is_long(here: str) -> None:
    long = {m: n for m, p in MODULES.items() if room(m) == here and (n := lines(p)) > MAX_LINES}
    assert long == {}


def test_project_is_small() -> None:
    assert sum(lines(p) for m, p in MODULES.items() if m.startswith("land_cover")) <= (
        MAX_PROJECT_LINES
    )


def test_few_modules_know_classes() -> None:
    home = ("terraflow.eo.targets", "terraflow.eo.training.card")
    knowing = [
        module
        for module, path in MODULES.items()
        if module.startswith("terraflow") and not module.startswith(home)
        if CLASS.search(NOT_MEANT.sub("", path.read_text()))
    ]
    assert len(knowing) <= MAX_KNOWING_CLASSES, knowing
