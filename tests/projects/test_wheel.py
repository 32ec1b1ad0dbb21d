"""Both projects from the wheel, each in a folder that holds nothing but its own files."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from lent import make_environment
from projects import simulate_crop_yield, simulate_flood
from projects.conftest import ROOT, Place
from terraflow.projects.wheel import build
from terraflow.sections import Mlflow as MlflowSettings
from terraflow.settings import Settings

# each of both, without the wheel, is run with each change; so is a new project, with it
pytestmark = [pytest.mark.services, pytest.mark.exhaustive]

HIDDEN = ("TERRAFLOW_", "PYTHONPATH", "INIT_CWD")
PROBE = """
import importlib.util, json, sys, terraflow
from terraflow.eo.project import find_project
project = find_project()
print(json.dumps({
    "terraflow": terraflow.__file__, "project": sys.modules[project.package].__file__,
    "land_cover": bool(importlib.util.find_spec("land_cover")),
}))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that holds the wheel, built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("Procfile", "pyproject.toml", "README.md", "LICENSE"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    for path in (ROOT / "src").rglob("*"):
        if path.suffix in (".py", ".pyi", ".typed"):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return make_environment(build(folder, folder / "dist"), tmp_path_factory.mktemp("environment"))


class Shell:
    """Commands in a project's folder, by the environment's Python, with the project's package."""

    def __init__(self, folder: Path, environment: Path, mlflow: MlflowSettings) -> None:
        self.folder, self.executable = folder, environment
        clean = {key: value for key, value in os.environ.items() if not key.startswith(HIDDEN)}
        self.environment = clean | {
            "PYTHONPATH": str(folder / "src"),
            "TERRAFLOW_STORE": "local",
            "TERRAFLOW_MLFLOW_PORT": str(mlflow.port),
            "TERRAFLOW_MLFLOW_TOKEN_FILE": str(mlflow.token_file),
        }

    def python(self, *words: str) -> str:
        """Run Python, which must end well; return what it printed."""
        done = subprocess.run(
            [self.executable, *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def invoke(self, *words: str) -> str:
        """Run `invoke WORDS`."""
        return self.python("-m", "invoke", *words)


@pytest.mark.parametrize(
    ("project", "measure", "row"),
    [
        (("flood", simulate_flood.simulate), "macro F1", r"^\| flooded \|"),
        (("crop_yield", simulate_crop_yield.simulate), "RMSE", r"^\| West \| 4608 \|"),
    ],
    ids=["flood", "crop_yield"],
)
def test_project_from_the_wheel(
    project: tuple[str, Callable[[Path], object]],
    measure: str,
    row: str,
    *,
    environment: Path,
    place: Place,
    tracked_settings: Settings,
) -> None:
    name, simulate = project
    folder = place(name)
    simulate(folder / "data")
    shell = Shell(folder, environment, tracked_settings.mlflow)
    found = json.loads(shell.python("-c", PROBE))
    assert Path(found["terraflow"]).is_relative_to(environment.parents[1])
    assert Path(found["project"]).is_relative_to(folder)
    assert not found["land_cover"]  # this repository's src is nowhere on the path

    # each with a registered model of its own, beside what other tests leave on this server
    model = f"{name.replace('_', '-')}-wheel"
    config = folder / "config" / f"{name}.toml"
    config.write_text(f'name = "{model}"\n{config.read_text()}')
    assert f"{model}/collection-" in shell.invoke("ingest")
    assert "Data report: " in shell.invoke("preprocess")
    trained = shell.invoke("train")
    assert re.search(rf"^{measure} +\d", trained, re.MULTILINE)
    assert f"{model} had no champion before version 1. It is the champion now." in trained
    mapped = re.search(r"^Map: (\S+/map\.tif)$", shell.invoke("map"), re.MULTILINE)
    assert mapped
    assert re.search(row, shell.invoke("report"), re.MULTILINE)
    assert f"models:/{model}" in shell.invoke("origin", mapped[1])
    assert "Stable." in shell.invoke("monitor")

    mlflow.set_tracking_uri(tracked_settings.mlflow_url)
    client = mlflow.MlflowClient()
    version = client.get_model_version_by_alias(model, "champion")
    run = client.get_run(version.run_id)
    assert client.get_experiment(run.info.experiment_id).name == model
