from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from invoke.context import Context

import terraflow
from terraflow.tasks import develop

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that are called instead of being run."""
    called: list[list[str]] = []
    monkeypatch.setattr(subprocess, "call", lambda words, **_: called.append(words[1:]) or 0)
    return called


def test_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    develop.version(Context())
    assert capsys.readouterr().out == f"{terraflow.__version__}\n"
    assert terraflow.__version__ == PROJECT["version"]


def test_terraflow_has_no_other_lazy_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'versions'"):
        terraflow.versions  # noqa: B018


def test_import_of_terraflow_reads_no_metadata() -> None:
    code = "import sys, terraflow; print('importlib.metadata' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "False\n"


def test_lock_holds_every_extra(commands: list[list[str]]) -> None:
    develop.lock(Context())
    [words] = commands
    extras = {words[i + 1] for i, word in enumerate(words) if word == "--extra"}
    assert extras == set(PROJECT["optional-dependencies"])


def test_test_passes_words_on(commands: list[list[str]]) -> None:
    develop.test(Context(), k="two words", m="not services")
    assert commands == [["-m", "pytest", "-k", "two words", "-m", "not services"]]


def test_lint_fails_if_one_check_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "call", lambda words, **_: int("mypy" in words))
    with pytest.raises(SystemExit) as ended:
        develop.lint(Context())
    assert ended.value.code == 1


def test_wheel_holds_the_platform_and_nothing_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("Procfile", "pyproject.toml", "README.md", "LICENSE"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for path in (ROOT / "src").rglob("*"):
        if path.suffix in (".py", ".typed"):
            target = tmp_path / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    stale = tmp_path / "build" / "lib" / "terraflow" / "gone.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    monkeypatch.setenv("TERRAFLOW_ROOT", str(tmp_path))
    develop.wheel(Context())
    built = Path(capsys.readouterr().out.strip())
    assert built == tmp_path / "dist" / f"terraflow_eo-{PROJECT['version']}-py3-none-any.whl"
    names = zipfile.ZipFile(built).namelist()
    assert {name.split("/")[0] for name in names} == {
        "terraflow",
        f"terraflow_eo-{PROJECT['version']}.dist-info",
    }
    modules = {
        p.relative_to(ROOT / "src").as_posix() for p in (ROOT / "src/terraflow").rglob("*.py")
    }
    assert {name for name in names if name.endswith(".py")} == modules
    assert "terraflow/py.typed" in names
