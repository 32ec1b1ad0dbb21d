"""The notebooks, from top to bottom, against the running stack."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from harness import ROOT, Stack

NOTEBOOKS = [
    *(ROOT / "notebooks").glob("*.ipynb"),
    *(ROOT / "notebooks" / "examples").glob("*.ipynb"),
]


@pytest.fixture(scope="module")
def served(stack: Stack) -> Iterator[Stack]:
    """A champion of the simulated area, served."""
    stack.ok("train")
    stack.ok("serve", "--model", "models:/land-cover@champion", "--detach")
    yield stack
    stack.stop_model_server()


@pytest.fixture(scope="module")
def variables(served: Stack) -> dict[str, str]:
    """The environment that JupyterLab gives a notebook."""
    url, token = served.url("jupyter"), served.credentials()["jupyter"].split("token=")[1]
    headers = {"Authorization": f"token {token}"}
    kernel = httpx.post(f"{url}/api/kernels", headers=headers, json={"name": "python3"}).json()
    [process] = [p for p in served.processes() if "ipykernel_launcher" in " ".join(p.cmdline())]
    environment = process.environ()
    httpx.delete(f"{url}/api/kernels/{kernel['id']}", headers=headers)
    assert environment["MLFLOW_TRACKING_URI"] == served.url("mlflow")
    assert environment["AWS_ENDPOINT_URL_S3"] == served.url("minio")
    return environment


@pytest.mark.parametrize(
    "notebook",
    [pytest.param(p, id=p.stem, marks=pytest.mark.slow if p.stem < "1" else ()) for p in NOTEBOOKS],
)
def test_notebook_runs_and_examples_show_pictures(
    notebook: Path, variables: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "jupyter",
            "execute",
            str(notebook),
            f"--output={tmp_path / notebook.name}",
        ],
        cwd=notebook.parent,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cells = json.loads((tmp_path / notebook.name).read_text())["cells"]
    shown = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    if notebook.parent.name == "examples":
        assert any("image/png" in data for data in shown)


def test_jupyterlab_opens_the_welcome_page(served: Stack) -> None:
    page = httpx.get(served.credentials()["jupyter"], follow_redirects=True)
    assert page.url.path == "/lab/tree/welcome.ipynb"
    assert page.status_code == 200
