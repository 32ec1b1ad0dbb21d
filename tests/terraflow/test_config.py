from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from terraflow.config import project_root, user_path
from terraflow.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a folder in it."""
    folder = tmp_path / "project"
    (folder / "notebooks" / "deep").mkdir(parents=True)
    (folder / "Procfile").touch()
    (folder / "pyproject.toml").touch()
    return folder


@pytest.mark.parametrize("stand", [".", "notebooks", "notebooks/deep"])
def test_project_root_is_found_upwards(
    stand: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project / stand)
    assert project_root() == project


def test_project_root_needs_both_files(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "notebooks" / "pyproject.toml").touch()
    monkeypatch.chdir(project / "notebooks")
    assert project_root() == project


def test_project_root_nearest_wins(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = project / "notebooks"
    (inner / "Procfile").touch()
    (inner / "pyproject.toml").touch()
    monkeypatch.chdir(inner / "deep")
    assert project_root() == inner


def test_project_root_is_found_from_the_users_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INIT_CWD", str(project / "notebooks"))
    assert project_root() == project
    assert user_path("map.tif") == project / "notebooks" / "map.tif"


def test_project_root_is_named_by_the_environment(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("TERRAFLOW_ROOT", str(project))
    assert project_root() == project
    assert user_path("map.tif") == ROOT / "map.tif"


def test_project_root_named_wrong_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERRAFLOW_ROOT", str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"where there is no Procfile and pyproject\.toml; name a"
    ):
        project_root()


def test_project_root_none_says_what_was_looked_for_from_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        project_root()
    assert str(tmp_path) in str(caught.value)
    assert "Procfile and pyproject.toml; go to your project's folder" in str(caught.value)


def test_task_outside_a_project_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("from terraflow.tasks import namespace\n")
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "status"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("No TerraFlow project")
    assert len(done.stderr.splitlines()) == 1
