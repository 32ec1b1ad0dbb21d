"""Both projects from the platform's wheel, in folders that know nothing of this repository."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import mlflow
import pytest
from simulate import copy_project

from harness import ROOT

pytestmark = pytest.mark.services

STEPS = ("ingest", "preprocess", "train", "map", "report", "monitor")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that has the wheel, and borrows what the wheel depends on.

    A path in a .pth file lends the packages that lie there, but not what is installed editable
    there: .pth files are read in the environment's own folder only.
    """
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "wheel"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    [wheel] = re.findall(r"\S+\.whl", done.stdout)
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    command = ["uv", "pip", "install", "--quiet", "--no-deps", "--offline", "--python", python]
    subprocess.run([sys.executable, "-m", *command, ROOT / wheel], check=True)
    [site] = folder.glob("lib/python*/site-packages")
    lent = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site / "lent.pth").write_text("\n".join(lent))
    return python


PROBE = """
import importlib.util, json, sys, terraflow
from terraflow.eo.project import find_project
print(json.dumps({
    "terraflow": terraflow.__file__,
    "project": sys.modules[find_project().package].__file__,
    "land_cover": bool(importlib.util.find_spec("land_cover")),
}))
"""


@pytest.mark.parametrize("name", ["flood", "crop_yield"])
def test_project_from_the_wheel_goes_through_every_step(
    name: str, python: Path, mlflow_server: int, tmp_path: Path
) -> None:
    root = copy_project(name, tmp_path)
    hidden = ("TERRAFLOW_", "AWS_", "MLFLOW_", "PYTHONPATH")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)} | {
        "PYTHONPATH": str(root / "src"),
        "TERRAFLOW_STORE": "local",
        "TERRAFLOW_MLFLOW_PORT": str(mlflow_server),
        "TERRAFLOW_STARTED_BY": "make",
    }

    def run(*command: str) -> str:
        done = subprocess.run(
            [python, *command],
            cwd=root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    found = json.loads(run("-c", PROBE))
    assert Path(found["terraflow"]).is_relative_to(python.parents[1])
    assert not Path(found["terraflow"]).is_relative_to(ROOT / "src")
    assert Path(found["project"]).is_relative_to(root / "src")
    assert not found["land_cover"]  # this repository's src is nowhere on the path
    said = {step: run("-m", "invoke", step) for step in STEPS}
    [uri] = re.findall(r"^Map: (\S+)$", said["map"], re.MULTILINE)
    assert Path(uri).is_relative_to(root / "var")
    assert "Stable." in said["monitor"]
    assert 'make map ARGS="--model' in said["train"]
    assert f"model        models:/{name.replace('_', '-')}/1".split() == (
        run("-m", "invoke", "origin", uri).splitlines()[1].split()
    )
    model = name.replace("_", "-")
    mlflow.set_tracking_uri(f"http://127.0.0.1:{mlflow_server}")
    version = mlflow.MlflowClient().get_model_version_by_alias(model, "champion")
    experiment = mlflow.get_run(version.run_id).info.experiment_id
    assert mlflow.get_experiment(experiment).name == model
