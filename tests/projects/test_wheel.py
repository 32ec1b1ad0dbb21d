"""Both projects from the platform's wheel, in folders that know nothing of this repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from simulate import copy_project

from harness import ROOT

pytestmark = pytest.mark.services

STEPS = ("ingest", "preprocess", "train", "map", "report", "monitor")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder into which the wheel is installed, without what it depends on."""
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "wheel"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    [wheel] = re.findall(r"\S+\.whl", done.stdout)
    folder = tmp_path_factory.mktemp("installed")
    command = ["uv", "pip", "install", "--quiet", "--no-deps", "--offline", "--target", folder]
    subprocess.run([sys.executable, "-m", *command, ROOT / wheel], check=True)
    return folder


@pytest.mark.parametrize("name", ["flood", "crop_yield"])
def test_project_from_the_wheel_goes_through_every_step(
    name: str, installed: Path, mlflow_server: int, tmp_path: Path
) -> None:
    root = copy_project(name, tmp_path)
    hidden = ("TERRAFLOW_", "AWS_", "MLFLOW_", "PYTHONPATH")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)} | {
        "PYTHONPATH": os.pathsep.join([str(installed), str(root / "src")]),
        "TERRAFLOW_STORE": "local",
        "TERRAFLOW_MLFLOW_PORT": str(mlflow_server),
        "TERRAFLOW_STARTED_BY": "make",
    }

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    where = run("-c", "import terraflow, sys; print(terraflow.__file__, terraflow.__version__)")
    assert where.split()[0] == str(installed / "terraflow" / "__init__.py")
    said = {step: run("-m", "invoke", step) for step in STEPS}
    [uri] = re.findall(r"^Map: (\S+)$", said["map"], re.MULTILINE)
    assert Path(uri).is_relative_to(root / "var")
    assert "Stable." in said["monitor"]
    assert 'make map ARGS="--model' in said["train"]
    assert f"model        models:/{name.replace('_', '-')}/1".split() == (
        run("-m", "invoke", "origin", uri).splitlines()[1].split()
    )
    mlflow.set_tracking_uri(f"http://127.0.0.1:{mlflow_server}")
    assert mlflow.get_experiment_by_name(name.replace("_", "-")) is not None
