"""New projects from the template, as copier renders them."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import packages_distributions
from itertools import product
from pathlib import Path
from typing import Any

import copier
import pytest
import yaml

from harness import hear_ctrl_c, wait_for
from lent import run
from terraflow.checkout.git import git
from terraflow.errors import ConfigError, TerraFlowError
from terraflow.projects.new import make, read_answers

ROOT = Path(__file__).resolve().parents[2]
TAKEN = (ROOT / "template" / "taken_names.txt").read_text().split()
Render = Callable[..., Path]


@pytest.fixture(scope="module")
def render(tmp_path_factory: pytest.TempPathFactory) -> Render:
    """Render without the last steps, which build the platform's wheel."""

    def one(**answers: Any) -> Path:
        target = tmp_path_factory.mktemp("project") / "made"
        copier.run_copy(
            str(ROOT),
            target,
            data=answers,
            defaults=True,
            vcs_ref="HEAD",
            unsafe=True,
            skip_tasks=True,
            quiet=True,
        )
        return target

    return one


def files(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_text() for path in paths}


def test_defaults_give_this_repositorys_own_files(render: Render) -> None:
    made = files(render())
    own = {"README.md", "LICENSE", "pyproject.toml", "pixi.toml", "Makefile"}
    own |= {".copier-answers.yml", ".github/workflows/ci.yml"}
    same = {name for name, text in made.items() if _same(name, text)}
    tests = {name for name in made if name.startswith("tests/")}
    assert set(made) - same - tests == own
    assert {"tests/test_features.py", "tests/test_models.py", "tests/samples.py"} <= tests
    for name in ("features", "models"):
        origin = ROOT / "tests" / "land_cover" / f"test_{name}.py"
        assert made[f"tests/test_{name}.py"] == origin.read_text()


def _same(name: str, text: str) -> bool:
    origin = ROOT / name
    return origin.is_file() and origin.read_text() == text


TASKS = ("example", "mask", "regression", "stubs")
#: Combinations that are tested each time: every store and way of DAGs is among them, and every
#: task but the example, whose project test_project.py tests.
SOME = [
    ("mask", "local", "yaml"),
    ("regression", "minio", "python"),
    ("stubs", "local", "both"),
]
LICENCES = ("MIT", "Apache-2.0", "BSD-3-Clause", "GPL-3.0-or-later", "proprietary")


@pytest.mark.parametrize("licence", LICENCES)
def test_every_licence_is_whole(licence: str, render: Render) -> None:
    made = files(render(licence=licence, author_name="A. B."))
    holder = {"Apache-2.0": "Apache License", "GPL-3.0-or-later": "GNU GENERAL PUBLIC LICENSE"}
    assert holder.get(licence, "A. B.") in made["LICENSE"]
    named = tomllib.loads(made["pyproject.toml"])["project"]["license"]
    assert named == ("LicenseRef-Proprietary" if licence == "proprietary" else licence)


@pytest.mark.parametrize(
    ("task", "store", "dags"),
    list(product(TASKS, ["minio", "local"], ["python", "yaml", "both"])),
)
def test_every_combination_is_sound(task: str, store: str, dags: str, render: Render) -> None:
    answers = {"project_name": "Flood map", "author_name": 'A "B" C', "author_email": "a@b.org"}
    folder = render(task=task, dags=dags, store=store, **answers)
    break_lines(folder)
    made = files(folder)
    for name, text in made.items():
        assert not re.search(r"\[%|%\]|\[\[=|=\]\]", name + text), name
        assert "land_cover" not in name
        if name != "requirements.lock":
            assert not re.search("land.cover", text, re.IGNORECASE), name
        if name.endswith(".py"):
            ast.parse(text)
        if name.endswith(".toml"):
            tomllib.loads(text)
        if name.endswith(".ipynb"):
            json.loads(text)
        if name.endswith((".yml", ".yaml")):
            yaml.safe_load(text)
    project = tomllib.loads(made["pyproject.toml"])
    assert project["tool"]["terraflow"]["project"] == "flood_map.project:PROJECT"
    assert project["project"]["authors"] == [{"name": 'A "B" C', "email": "a@b.org"}]
    stack = tomllib.loads(made["config/terraflow.toml"])
    assert stack.get("store") == (None if store == "minio" else "local")
    training = {name for name in made if name.startswith("dags/flood_map_training")}
    assert (
        training
        == {
            "python": {"dags/flood_map_training.py"},
            "yaml": {"dags/flood_map_training.yml"},
            "both": {"dags/flood_map_training.py", "dags/flood_map_training_yaml.yml"},
        }[dags]
    )
    for words in (["check"], ["format", "--check"]):
        run_python(folder, "ruff", *words, "--no-cache")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "store", "dags"),
    [
        pytest.param(*answers, marks=[] if answers in SOME else [pytest.mark.exhaustive])
        for answers in product(TASKS, ["minio", "local"], ["python", "yaml", "both"])
    ],
)
def test_every_combination_passes_its_unit_tests(
    task: str, store: str, dags: str, render: Render
) -> None:
    name = "Wide fields of Europe by radar"
    folder = render(task=task, store=store, dags=dags, project_name=name)
    break_lines(folder)
    told = run_python(folder, "pytest", "-q", "-m", "not services", "-p", "no:cacheprovider")
    assert " passed" in told
    assert ("xfailed" in told) == (task == "stubs")
    assert not re.search(r"\d (failed|skipped|error)", told)


@pytest.mark.exhaustive
@pytest.mark.parametrize("task", TASKS)
def test_every_task_passes_lint_whatever_the_length_of_its_name(task: str, render: Render) -> None:
    for name in ("Sea", "Wide fields of Europe by radar"):
        folder = render(task=task, project_name=name)
        break_lines(folder)
        run_python(folder, "mypy")
        run_python(folder, "ruff", "check", "--no-cache")
        run_python(folder, "ruff", "format", "--check", "--no-cache")


def run_python(folder: Path, *words: str) -> str:
    return run(folder, sys.executable, "-m", *words, PYTHONPATH=str(folder / "src"))


def break_lines(folder: Path) -> None:
    """As the last steps of a new project do."""
    run_python(folder, "ruff", "format", "--no-cache")


@pytest.mark.parametrize(
    "text",
    [
        "🌊 Flood",
        "Ä \"B\" 'C'",
        "C:\\new \\1",
        "A # b = [c]",
        "{{ x }} [[ y ]] [% z %]",
        "<b>&amp;",
    ],
)
def test_texts_arrive_as_they_are(text: str, render: Render) -> None:
    made = files(
        render(project_name=text, package_name="flood", description=text, author_name=text)
    )
    project = tomllib.loads(made["pyproject.toml"])["project"]
    assert (project["description"], project["authors"]) == (text, [{"name": text}])
    assert tomllib.loads(made["pixi.toml"])["workspace"]["description"] == text
    assert made["README.md"].startswith(f"# {text}\n")
    assert f" {text}\n" in made["LICENSE"]


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"project_name": "Flood\nmap"}, "Write a name in one line"),
        ({"description": " "}, "Write one line"),
        ({"author_name": ""}, "Write a name in one line"),
        ({"author_email": "ann"}, "Write an address"),
        ({"author_email": "Ann <ann@x.org>"}, "Write an address"),
        ({"author_email": "ann@x"}, "Write an address"),
        ({"author_email": "ä@b.org"}, "Write an address"),
    ],
)
def test_texts_that_would_break_the_project_are_refused(
    answers: dict[str, str], told: str, render: Render
) -> None:
    with pytest.raises(ValueError, match=told):
        render(**answers)


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("Über Äcker", "ueber_aecker"),
        ("3 Floods!", "floods"),
        (
            "Monitoring of winter wheat yields in northern Germany",
            "monitoring_of_winter_wheat_yields_in_nor",
        ),
    ],
)
def test_package_is_named_as_the_project(name: str, package: str, render: Render) -> None:
    assert f"src/{package}/project.py" in files(render(project_name=name))


def test_description_ends_with_one_full_stop(render: Render) -> None:
    assert "Maps floods. Built with" in files(render(description="Maps floods."))["README.md"]


def test_template_of_a_relative_path_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    options = {"defaults": True, "vcs_ref": "HEAD", "unsafe": True, "skip_tasks": True}
    copier.run_copy(".", tmp_path / "made", quiet=True, **options)
    answers = yaml.safe_load((tmp_path / "made" / ".copier-answers.yml").read_text())
    assert answers["_src_path"] == str(ROOT)


def test_mask_and_regression_differ_from_the_example_where_they_should(render: Render) -> None:
    mask = tomllib.loads(files(render(task="mask"))["config/water_mask.toml"])
    assert set(mask["labels"]["classes"].values()) == set(mask["map"]["colours"])
    assert len(mask["map"]["colours"]) == 2
    made = files(render(task="regression"))
    numbers = tomllib.loads(made["config/crop_yield.toml"])
    assert numbers["labels"]["field"] == "yield_t_ha"
    assert numbers["model"]["name"] == "random_forest"
    assert "map" not in numbers
    assert 'name, column, unit = "crop_yield"' in made["src/crop_yield/target.py"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Flood", "small letters"),
        ("1flood", "small letters"),
        ("flood-map", "small letters"),
        ("json", "take another, as my_json"),
        ("rasterio", "take another, as my_rasterio"),
        ("terraflow", "take another, as my_terraflow"),
        ("tests", "take another, as my_tests"),
        ("class", "take another, as my_class"),
        ("scikit_learn", "take another, as my_scikit_learn"),
        ("terraflow_eo", "take another, as my_terraflow_eo"),
        ("test_data", "take another, as my_test_data"),
        ("conftest", "take another, as my_conftest"),
        ("project", "take another, as my_project"),
        ("none", "take another, as my_none"),
        ("json\n", "small letters"),
        ("flood_", "does not end with an underscore"),
        ("a" * 41, "at most 40"),
    ],
)
def test_package_names_that_can_not_be_are_refused(name: str, told: str, render: Render) -> None:
    with pytest.raises(ValueError, match=told):
        render(package_name=name)


def test_taken_names_are_those_of_python_and_of_what_is_installed() -> None:
    assert sorted(TAKEN) == TAKEN
    small = re.compile(r"[a-z][a-z0-9_]*")
    locked = re.findall(r"(?m)^([a-z][a-z0-9.-]*)==", (ROOT / "requirements.lock").read_text())
    distributions = {re.sub("[-.]+", "_", name) for name in locked}
    modules = {*sys.stdlib_module_names, *packages_distributions()} - {"land_cover"}
    for name in modules | distributions:
        assert name in TAKEN or not small.fullmatch(name), name


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["store"], "--data store is no key=value"),
        (["stor=local"], r"no question stor \(did you mean store\?\)"),
        (["wheel=x"], "there is no question wheel"),
        (["package_name=json"], "The project was not made: .*my_json"),
        (["store=ftp"], "The project was not made"),
    ],
)
def test_new_wrong_answers_are_sentences(words: list[str], told: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, TerraFlowError), match=told):
        make(ROOT, tmp_path / "made", read_answers(ROOT, words), defaults=True)
    assert not (tmp_path / "made").exists()


def test_new_whose_making_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ruff").write_text("#!/bin/sh\necho it broke >&2; exit 3\n")
    (tmp_path / "bin" / "ruff").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    (tmp_path / "bin" / "python").symlink_to(Path(sys.exec_prefix) / "bin" / "python")
    for target in (there, tmp_path / "new"):
        with pytest.raises(TerraFlowError, match=r"^The project was not made: "):
            make(ROOT, target, {}, defaults=True)
    assert list(there.iterdir()) == []
    assert not (tmp_path / "new").exists()


def test_new_where_no_folder_can_be_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for target in (tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        with pytest.raises(TerraFlowError, match=r"The project was not made: .*; correct that"):
            make(ROOT, target, {}, defaults=True)


def test_new_stopped_by_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "made"
    process = subprocess.Popen(
        [sys.executable, "-m", "invoke", "new", target, "--defaults"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=hear_ctrl_c,
    )
    wait_for((target / "vendor").exists)  # the wheel is being built
    os.killpg(process.pid, signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert not target.exists()
    assert "Traceback" not in told


def test_new_commits_whatever_git_is_told_to_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("commit-msg", "pre-commit"):
        (hooks / name).write_text("#!/bin/sh\nexit 1\n")
        (hooks / name).chmod(0o755)
    (tmp_path / "gitconfig").write_text(
        f"[user]\nname =\nemail = a@b.org\n[commit]\ngpgsign = true\n[core]\n"
        f"hooksPath = {hooks}\nautocrlf = true\nsafecrlf = true\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    target = tmp_path / "made"
    make(ROOT, target, {"store": "local"}, defaults=True)
    assert git(target, "status", "--porcelain") == ""
    assert "Start the project" in git(target, "log", "--oneline")


def test_new_into_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is not empty; name another folder"):
        make(ROOT, tmp_path, {}, defaults=True)


def test_new_without_a_template_says_where_there_is_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no copier\.yml.*in a checkout of TerraFlow"):
        read_answers(tmp_path, [])
