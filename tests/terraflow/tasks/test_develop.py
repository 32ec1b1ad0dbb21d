from __future__ import annotations

import json
import os
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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("Procfile", "pyproject.toml", "README.md", "LICENSE", "tasks.py"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    for path in (ROOT / "src").rglob("*"):
        if path.suffix in (".py", ".typed"):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    stale = folder / "build" / "lib" / "terraflow" / "gone.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    own = {"TERRAFLOW_ROOT": str(folder), "PYTHONPATH": str(folder / "src")}
    command = [sys.executable, "-m", "invoke", "wheel"]
    subprocess.run(command, cwd=folder, env=os.environ | own, check=True)
    return folder / "dist" / f"terraflow_eo-{PROJECT['version']}-py3-none-any.whl"


def test_wheel_holds_the_platform_and_nothing_of_the_project(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    metadata = f"terraflow_eo-{PROJECT['version']}.dist-info"
    assert {name.split("/")[0] for name in names} == {"terraflow", metadata}
    source = ROOT / "src"
    modules = {p.relative_to(source).as_posix() for p in (source / "terraflow").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert "terraflow/py.typed" in names


def test_wheel_alone_is_imported_without_any_other_package(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path], check=True)
    [site] = tmp_path.glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    code = "import terraflow.eo, sys; print(terraflow.eo.__file__, len(dir(terraflow.eo)))"
    done = subprocess.run(
        [tmp_path / "bin" / "python", "-I", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(site))


def test_wheel_serves_a_project_elsewhere(wheel: Path, tmp_path: Path) -> None:
    site, project = tmp_path / "site", tmp_path / "project"
    zipfile.ZipFile(wheel).extractall(site)
    (project / "notebooks").mkdir(parents=True)
    (project / "pyproject.toml").write_text('[project]\nname = "flood"\n')
    for name in ("Procfile", "tasks.py"):
        (project / name).write_bytes((ROOT / name).read_bytes())
    hidden = ("TERRAFLOW_", "INIT_CWD")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "status", "--json"],
        cwd=project / "notebooks",
        env=clean | {"PYTHONPATH": str(site), "TERRAFLOW_STORE": "local"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    assert {service["state"] for service in services} == {"stopped"}
