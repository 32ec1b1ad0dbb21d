from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from terraflow.eo.project import Project, find_project, open_project
from terraflow.eo.targets.classes.classification import Classification
from terraflow.errors import ConfigError
from terraflow.settings import Settings

MINIMAL = '[data]\nbands = { red = "B04" }\n'
PROJECT = """
from terraflow.eo.project import Project

OTHER = "no project"
PROJECT = Project("fields", models={"mine": dict})
"""


def hook(cube: Any) -> dict[str, Any]:
    return {}


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Write a project's folder, with a package `fields_of_a_test`, whose pyproject.toml says so."""
    root = tmp_path / "root"
    package = root / "src" / "fields_of_a_test"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "project.py").write_text(PROJECT)
    (package / "failing.py").write_text("import package_that_is_not_there\n")
    (package / "broken.py").write_text("PROJECT = 1 / 0\n")
    refused = "from terraflow.eo.project import Project\n\nPROJECT = Project('f', features=3)\n"
    (package / "refused.py").write_text(refused)
    for name in ("Procfile", "pyproject.toml"):
        (root / name).touch()
    monkeypatch.setenv("TERRAFLOW_ROOT", str(root))
    monkeypatch.syspath_prepend(str(root / "src"))

    def write(text: str) -> Path:
        (root / "pyproject.toml").write_text(text)
        return root / "pyproject.toml"

    return write


def test_find_project_imports_what_pyproject_names(named: Callable[[str], Path]) -> None:
    named('[tool.terraflow]\nproject = "fields_of_a_test.project:PROJECT"')
    found = find_project()
    assert found.name == "fields"
    assert found.models == {"mine": dict}
    assert found.package == "fields_of_a_test"
    assert found.hooks.package == "fields_of_a_test"


@pytest.mark.parametrize(
    "text",
    ["", "[tool.terraflow]", "[tool.terraflow]\nproject = 3", "[tool.other]\nproject = 'a:b'"],
    ids=["empty", "no key", "no text", "another tool"],
)
def test_find_project_without_a_name_says_which_line_to_add(
    text: str, named: Callable[[str], Path]
) -> None:
    path = named(text)
    with pytest.raises(ConfigError) as found:
        find_project()
    assert str(found.value) == (
        f'{path} names no project; add `project = "PACKAGE.project:PROJECT"` to [tool.terraflow].'
    )


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("package_of_nobody.project:PROJECT", "No module named 'package_of_nobody'"),
        ("fields_of_a_test.projekt:PROJECT", "No module named 'fields_of_a_test.projekt'"),
        ("fields_of_a_test.project:PROJEKT", "has no attribute 'PROJEKT'"),
        ("fields_of_a_test.failing:PROJECT", "No module named 'package_that_is_not_there'"),
        ("fields of a test", "invalid format"),
    ],
)
def test_find_project_that_cannot_be_imported_says_why(
    name: str, why: str, named: Callable[[str], Path]
) -> None:
    path = named(f'[tool.terraflow]\nproject = "{name}"')
    with pytest.raises(ConfigError) as found:
        find_project()
    said = str(found.value)
    assert said.startswith(f"Project {name}, which {path} names, can't be imported: ")
    assert why in said
    assert said.endswith(
        "; correct the name, or install the project, as `pip install --editable .` does."
    )


def test_find_project_that_is_none_names_its_type(named: Callable[[str], Path]) -> None:
    path = named('[tool.terraflow]\nproject = "fields_of_a_test.project:OTHER"')
    with pytest.raises(ConfigError) as found:
        find_project()
    assert str(found.value) == (
        f"fields_of_a_test.project:OTHER, which {path} names, is a str; a Project of terraflow.eo "
        "is expected."
    )


def test_find_project_that_fails_names_the_error_and_its_line(
    named: Callable[[str], Path],
) -> None:
    path = named('[tool.terraflow]\nproject = "fields_of_a_test.broken:PROJECT"')
    with pytest.raises(ConfigError) as found:
        find_project()
    assert str(found.value) == (
        f"Project fields_of_a_test.broken:PROJECT, which {path} names, can't be imported: "
        "ZeroDivisionError: division by zero (broken.py, line 1); correct it."
    )


def test_find_project_error_of_ours_is_passed_on(named: Callable[[str], Path]) -> None:
    named('[tool.terraflow]\nproject = "fields_of_a_test.refused:PROJECT"')
    with pytest.raises(ConfigError, match=r"^Project\(features=\.\.\.\) holds 3; "):
        find_project()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"features": hook}, "Project(features=...) holds <function hook at "),
        ({"features": "hook"}, "Project(features=...) holds 'hook'; a tuple of functions is"),
        ({"features": (hook, 3)}, "Project(features=...) holds 3; a tuple of functions is"),
        ({"models": [dict]}, "Project(models=...) is [<class 'dict'>]; a dict of names to"),
        ({"models": {"mine": "forest"}}, "Project(models=...) is {'mine': 'forest'}; a dict of"),
        ({"steps": hook}, "Project(steps=...) is <function hook at "),
        ({"steps": {"map": None}}, "Project(steps=...) is {'map': None}; a dict of names to"),
        ({"target": Classification}, "Project(target=...) is <class 'terraflow."),
        ({"target": "classes"}, "Project(target=...) is 'classes'; an instance of a Target is"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_project_wrong_part_is_refused_in_one_sentence(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as found:
        Project("fields", **wrong)
    said = str(found.value)
    assert said.startswith(told)
    assert " is expected" in said
    assert said.endswith(".")
    assert len(said.splitlines()) == 1


def test_project_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(ConfigError) as found:
        Project("fields", features="f" * 1000)
    assert len(str(found.value)) < 200


def test_project_with_a_name_alone_has_defaults() -> None:
    project = Project("fields")
    assert (project.features, project.models, project.steps) == ((), {}, {})
    assert isinstance(project.target, Classification)


def test_project_hooks_are_what_models_depend_on() -> None:
    project = Project("fields", features=[hook], models={"mine": dict}, package="fields")
    assert project.hooks.features == (hook,)
    assert project.hooks.models == {"mine": dict}
    assert isinstance(project.hooks.target, Classification)
    assert project.hooks.package == "fields"


def test_open_project_reads_the_configuration_of_its_name(
    config_dir: Path, settings: Settings
) -> None:
    (config_dir / "fields.toml").write_text(MINIMAL)
    project = Project("fields", features=[hook])
    found = open_project(project=project)
    assert found.project is project
    assert found.config.name == "fields"
    assert found.hooks.features == (hook,)
    assert found.champion == "models:/fields@champion"
    assert found.storage.settings == settings


def test_open_project_takes_the_one_that_pyproject_names(
    named: Callable[[str], Path], config_dir: Path, settings: Settings
) -> None:
    named('[tool.terraflow]\nproject = "fields_of_a_test.project:PROJECT"')
    (config_dir / "fields.toml").write_text(MINIMAL)
    assert open_project().project == find_project()


def test_open_project_path_is_read_instead(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\n' + MINIMAL)
    assert open_project(str(path), project=Project("fields")).config.name == "mine"


def test_open_project_missing_configuration_is_named(settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"fields\.toml"):
        open_project(project=Project("fields"))


def test_open_project_files_replace_those_configured_and_nothing_else(
    tmp_path: Path, settings: Settings
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[data]\nfiles = "old/*.tif"\nstart = 2024-04-01\nbands = { red = "B04" }\n')
    project = Project("fields")
    before = open_project(str(path), project=project).config
    after = open_project(str(path), files="/new/*.tif", project=project).config
    assert before.data.files == str(tmp_path / "old" / "*.tif")
    assert after.data.files == "/new/*.tif"
    data = before.data.model_copy(update={"files": "/new/*.tif"})
    assert after == before.model_copy(update={"data": data})


def test_open_project_files_of_a_simulated_project_are_not_simulated(
    tmp_path: Path, settings: Settings
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL)
    project = Project("fields")
    assert open_project(str(path), project=project).config.simulated
    assert not open_project(str(path), files="/new/*.tif", project=project).config.simulated


def test_open_project_files_are_relative_to_the_user_and_hold_no_credentials(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INIT_CWD", str(tmp_path))
    opened = open_project(files="scenes/*.tif", project=Project("land_cover"))
    assert opened.config.data.files == str(tmp_path / "scenes" / "*.tif")
    with pytest.raises(ConfigError, match="holds credentials"):
        open_project(files="https://user:secret@host/*.tif", project=Project("land_cover"))
