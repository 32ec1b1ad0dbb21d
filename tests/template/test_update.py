"""A project takes over what its template and the platform have since, and keeps what is its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lent import run
from terraflow.errors import ConfigError, TerraFlowError
from terraflow.projects.new import make
from terraflow.projects.update import update

ROOT = Path(__file__).resolve().parents[2]
NOBODY = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
#: Stands for the Makefile's targets, whose environment would take a minute to be made.
MAKE = f"""#!/bin/sh
case "$2" in
environment) exit 0 ;;
test) exec {sys.executable} -m pytest -q -p no:cacheprovider tests/test_own.py ;;
*) exit 9 ;;
esac
"""
#: In no style that a formatter would leave.
OWN_MODULE = '"""My own module."""\nX = {  1:2 }\n'
OWN_TEST = """
from pathlib import Path


def test_own() -> None:
    assert "nothing is allowed" not in Path("README.md").read_text()
"""


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *NOBODY, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout


def commit(folder: Path, *, tag: str = "") -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "Change")
    if tag:
        git(folder, "tag", tag)


def change(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text()
    assert old in text, f"{old} is not in {name}"
    (folder / name).write_text(text.replace(old, new, 1))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this repository, whose version has a tag."""
    folder = tmp_path_factory.mktemp("template") / "platform"
    git(folder.parent, "clone", "--quiet", str(ROOT), str(folder))
    if changes := git(ROOT, "diff", "HEAD", "--binary"):
        subprocess.run(["git", "apply"], cwd=folder, input=changes, text=True, check=True)
    change(folder, "pyproject.toml", 'version = "', 'version = "1.')
    commit(folder, tag="v1.0.0")
    return folder


@pytest.fixture(scope="module")
def made(template: Path) -> Path:
    """A project at the first tag, with edits of its own."""
    folder = template.parent / "mine"
    make(template, folder, {"package_name": "mine", "store": "local"}, defaults=True)
    for name, text in EDITS.items():
        with (folder / name).open("a") as file:
            file.write(text)
    change(folder, "config/mine.toml", "seed = 42", "seed = 7")
    (folder / "tests" / "test_own.py").write_text(OWN_TEST)
    (folder / "src" / "mine" / "own.py").write_text(OWN_MODULE)
    commit(folder, tag="as-made")
    return folder


@pytest.fixture
def project(
    made: Path, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The project, whose tests make runs without an environment of its own."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "make").write_text(MAKE)
    (bin_folder / "make").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    (made / ".venv").mkdir()
    (made / ".venv" / ".ready").touch()
    yield made
    for folder, tag in ((made, "as-made"), (template, "v1.0.0")):
        git(folder, "reset", "--quiet", "--hard", tag)
        git(folder, "clean", "-ffdxq")
    if "v2.0.0" in git(template, "tag"):
        git(template, "tag", "--delete", "v2.0.0")


EDITS = {
    "src/mine/features.py": "\n\n# my own feature\n",
    "dags/mine_training.py": "\n# my own line\n",
    "tasks.py": "\n# my own task\n",
    "README.md": "\nMy own words.\n",
}


@pytest.fixture
def newer(template: Path) -> Callable[..., None]:
    """Release a newer version of the template."""

    def release(**changes: tuple[str, str]) -> None:
        change(template, "pyproject.toml", 'version = "1.', 'version = "2.')
        change(template, "dags/land_cover_training.py", "\n\nBrings", "\n\nNewly. Brings")
        change(template, "config/land_cover.toml", "folds = 5", "folds = 6")
        for name, (old, new) in changes.items():
            change(template, {"readme": "template/project/README.md.jinja"}[name], old, new)
        commit(template, tag="v2.0.0")

    return release


def test_update_takes_over_what_is_new_and_keeps_what_is_own(
    project: Path, newer: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    newer(readme=("## Start", "## How to start"))
    assert update(project)
    for name, text in EDITS.items():
        assert (project / name).read_text().endswith(text), name
    assert "seed = 7" in (project / "config" / "mine.toml").read_text()
    assert "folds = 6" in (project / "config" / "mine.toml").read_text()
    assert "Newly. " in (project / "dags" / "mine_training.py").read_text()
    assert "## How to start" in (project / "README.md").read_text()
    assert (project / "src" / "mine" / "own.py").read_text() == OWN_MODULE
    [wheel] = (project / "vendor").glob("*.whl")
    assert "-2." in wheel.name
    assert (project / "requirements.lock").read_text().count("./vendor/") == 1
    assert f"./vendor/{wheel.name} " in (project / "requirements.lock").read_text()
    assert wheel.name in (project / "pyproject.toml").read_text()
    assert "v2.0.0" in (project / ".copier-answers.yml").read_text()
    assert "Look at it with `git diff HEAD`" in capsys.readouterr().out
    commit(project)
    assert update(project)
    assert "Nothing is newer" in capsys.readouterr().out


@pytest.mark.slow
def test_update_whose_tests_fail_is_taken_back(
    project: Path, newer: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    head, [wheel] = git(project, "rev-parse", "HEAD"), (project / "vendor").glob("*.whl")
    newer(readme=("## Start", "nothing is allowed\n\n## Start"))
    assert not update(project)
    assert git(project, "status", "--porcelain") == ""
    assert git(project, "rev-parse", "HEAD") == head
    assert list((project / "vendor").glob("*.whl")) == [wheel]
    assert "all was taken back" in capsys.readouterr().out
    assert not update(project, keep=True)
    assert "nothing is allowed" in (project / "README.md").read_text()
    assert "the update was kept" in capsys.readouterr().out


def test_update_lists_conflicts_and_says_what_to_do(
    project: Path, newer: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    change(project, "README.md", "## Start", "## My start")
    commit(project)
    newer(readme=("## Start", "## How to start"))
    assert not update(project)
    told = capsys.readouterr().out
    assert "changed the same lines of:\n  README.md\n" in told
    assert "keep what is right between <<<<<<< and >>>>>>>" in told
    text = (project / "README.md").read_text()
    assert "## My start" in text
    assert "## How to start" in text


@pytest.mark.exhaustive
def test_update_lists_a_conflict_in_the_metadata(
    project: Path, template: Path, newer: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    change(project, "pyproject.toml", "line-length = 100", "line-length = 88")
    commit(project)
    name = "template/project/pyproject.toml.jinja"
    change(template, name, "line-length = 100", "line-length = 110")
    newer()
    assert not update(project)
    assert "changed the same lines of:\n  pyproject.toml\n" in capsys.readouterr().out


def test_update_taken_back_keeps_files_that_git_was_told_not_to_see(
    project: Path, newer: Callable[..., None]
) -> None:
    git(project, "config", "status.showUntrackedFiles", "no")
    (project / "notes.txt").write_text("mine")
    newer(readme=("## Start", "nothing is allowed\n\n## Start"))
    with pytest.raises(ConfigError, match=r"changes that are not committed \(notes.txt\)"):
        update(project)
    assert (project / "notes.txt").read_text() == "mine"
    git(project, "config", "--unset", "status.showUntrackedFiles")


@pytest.mark.parametrize("text", ["", "_src_path: x\n", "a: [\n", "- 1\n"])
def test_update_of_damaged_answers_is_a_sentence(text: str, project: Path) -> None:
    (project / ".copier-answers.yml").write_text(text)
    commit(project)
    with pytest.raises(ConfigError, match="does not tell the template and its commit"):
        update(project)


@pytest.mark.slow
def test_update_stopped_by_ctrl_c_is_taken_back(
    project: Path, newer: Callable[..., None], tmp_path: Path
) -> None:
    newer()
    make_script = tmp_path / "bin" / "make"
    make_script.write_text('#!/bin/sh\n[ "$2" = test ] && kill -INT $PPID && sleep 5\nexit 0\n')
    code = (
        "import sys, pathlib; from terraflow.projects.update import update; update(pathlib.Path())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGINT, done.stderr
    assert git(project, "status", "--porcelain") == ""


@pytest.mark.exhaustive
def test_update_with_packages_of_its_own_locks_anew_or_is_taken_back(
    project: Path, newer: Callable[..., None]
) -> None:
    change(project, "pyproject.toml", "dependencies = [\n", 'dependencies = [\n    "pystac",\n')
    commit(project)
    newer()
    with pytest.raises(TerraFlowError, match=r"requirements\.lock can't be written; nothing was"):
        update(project)  # the make of these tests can't lock
    assert git(project, "status", "--porcelain") == ""


def test_update_to_no_version_changes_nothing(project: Path, newer: Callable[..., None]) -> None:
    newer()
    with pytest.raises(TerraFlowError, match=r"can't be taken over: .*; nothing was changed"):
        update(project, ref="v9.9.9")
    assert git(project, "status", "--porcelain") == ""


def test_update_where_it_can_not_be_taken_back_is_refused(project: Path) -> None:
    (project / "note.txt").touch()
    with pytest.raises(ConfigError, match=r"changes that are not committed \(note.txt\)"):
        update(project)
    (project / "note.txt").unlink()
    (project / ".venv" / ".ready").unlink()
    with pytest.raises(ConfigError, match="neither an environment that make made nor pixi"):
        update(project)
    (project / ".venv" / ".ready").touch()
    (project / ".git").rename(project / "git")
    with pytest.raises(ConfigError, match="no git repository with a commit"):
        update(project)
    (project / "git").rename(project / ".git")


def test_update_of_what_was_not_made_from_the_template_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"has no \.copier-answers\.yml"):
        update(ROOT)


@pytest.mark.services
@pytest.mark.exhaustive
def test_model_from_before_an_update_maps_after_it(
    template: Path, newer: Callable[..., None], tmp_path: Path
) -> None:
    """As a user: an environment of its own, the real stack, and the project's own tests."""
    folder = tmp_path / "fields"
    answers = {"project_name": "Fields", "store": "local"}
    make(template, folder, answers, defaults=True)
    names = ("AIRFLOW", "MLFLOW", "JUPYTER", "MINIO", "MINIO_CONSOLE", "SERVING")
    ports = {f"TERRAFLOW_{name}_PORT": "0" for name in names}

    def task(target: str, words: str = "") -> str:
        return run(folder, "make", target, f"ARGS={words}", **ports)

    try:
        task("up", "--detach --only mlflow")
        assert "It is the champion now" in task("train")
        task("down")
        with (folder / "src" / "fields" / "features.py").open("a") as file:
            file.write("\n\n# my own line\n")
        commit(folder)
        newer()
        said = task("update")
        assert "Updated." in said
        assert " passed" in said
        task("up", "--detach --only mlflow")
        assert "/maps/fields-v1-" in task("map")
        assert "my own line" in (folder / "src" / "fields" / "features.py").read_text()
    finally:
        task("down")
