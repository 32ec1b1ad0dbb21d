"""A stack that is started from a shell full of other programs' variables and files."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import mlflow
import psutil
import pytest

from airflow_api import Airflow
from harness import ROOT, Stack
from odd_shell import KEPT, NONSENSE
from terraflow.config import cache_dir

pytestmark = pytest.mark.slow
ODD = {name: value for family in NONSENSE.values() for name, value in family.items()}
#: Of proxies, which are dead here, each process has the user's.
FOREIGN = {name: value for name, value in ODD.items() if name not in KEPT}


def fill_home(home: Path) -> None:
    """Leave what other programs leave in a home folder: certificates, styles, profiles."""
    certificates = home / ".minio" / "certs"
    certificates.mkdir(parents=True)
    words = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=localhost",
        "-days",
        "9",
    ]
    files = ["-keyout", certificates / "private.key", "-out", certificates / "public.crt"]
    subprocess.run(["openssl", *words, *files], check=True, capture_output=True)
    for path, text in {
        ".gdal/gdalrc": "[configoptions]\nGDAL_SKIP=GTiff\n",
        ".config/matplotlib/matplotlibrc": "text.usetex: True\n",
        ".aws/config": "[default]\nendpoint_url = http://127.0.0.1:9\n[profile",
        ".aws/credentials": "no file of credentials",
        ".jupyter/jupyter_server_config.json": '{"ServerApp": {"port": 1}}',
        ".ipython/profile_default/startup/0.py": "raise SystemExit",
    }.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text)


@pytest.fixture(scope="module")
def odd_stack(
    tmp_path_factory: pytest.TempPathFactory, minio_binary: Path, migrated: Path
) -> Iterator[Stack]:
    """All services, started and used from there."""
    folder = tmp_path_factory.mktemp("odd")
    fill_home(folder / "home")
    own = {
        "HOME": str(folder / "home"),
        "XDG_CACHE_HOME": str(cache_dir().parent),
        # the tests' own platform, which may lie elsewhere than the environment's
        "PYTHONPATH": f"{ODD['PYTHONPATH']}:{ROOT / 'src'}",
    }
    one = Stack(folder, TERRAFLOW_STORE="minio")
    one.environment |= ODD | own
    one.take_databases(migrated)
    one.shrink()
    try:
        one.ok("up", "--detach")
        Airflow.at_rest(one)
        yield one
    finally:
        one.close()


def strange(process: psutil.Process) -> dict[str, str]:
    """What a process has of the nonsense."""
    found = process.environ()
    path = found.get("PYTHONPATH", "")
    odd = {name: found[name] for name, value in FOREIGN.items() if found.get(name) == value}
    return odd | ({"PYTHONPATH": path} if "/nowhere" in path else {})


def test_services_are_ready_and_have_none_of_it(odd_stack: Stack) -> None:
    assert {n: row for n, row in odd_stack.services().items() if row["state"] != "ready"} == {}
    processes = odd_stack.processes()
    assert len(processes) > 8
    assert {" ".join(p.cmdline()): strange(p) for p in processes if strange(p)} == {}


def test_kernel_of_a_notebook_has_none_of_it_and_works(odd_stack: Stack) -> None:
    url, token = odd_stack.url("jupyter"), odd_stack.credentials()["jupyter"].split("token=")[1]
    headers = {"Authorization": f"token {token}"}
    with httpx.Client(base_url=url, headers=headers, trust_env=False) as client:
        kernel = client.post("/api/kernels", json={"name": "python3"}).json()
        [one] = [p for p in odd_stack.processes() if "ipykernel_launcher" in " ".join(p.cmdline())]
        assert strange(one) == {}
        assert one.environ()["MLFLOW_TRACKING_URI"] == odd_stack.url("mlflow")
        client.delete(f"/api/kernels/{kernel['id']}")


def test_training_by_a_task_and_map_and_report_go_to_this_stack(odd_stack: Stack) -> None:
    odd_stack.ok("train", timeout=600)
    odd_stack.ok("map", timeout=600)
    assert "quicklook" in odd_stack.ok("report", timeout=600)
    odd_stack.track()
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert {run.info.status for run in runs} == {"FINISHED"}
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True).strip()
    named = {run.data.tags["code_commit"].removesuffix("+changes") for run in runs}
    assert named == {head}


@pytest.mark.exhaustive  # its processes have what the service that starts them has
def test_training_by_airflow_has_none_of_it(odd_stack: Stack) -> None:
    found: dict[str, dict[str, str]] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            for process in odd_stack.processes():
                with suppress(psutil.Error):
                    found[" ".join(process.cmdline())[:60]] = strange(process)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        odd_stack.ok("train", "--airflow", timeout=600)
    finally:
        ended.set()
        watcher.join()
    tasks = {name: odd for name, odd in found.items() if "airflow" in name}
    assert len(tasks) > 3
    services = {name: odd for name, odd in found.items() if "invoke" not in name}
    assert {name: odd for name, odd in services.items() if odd} == {}


def test_model_server_has_none_of_it_and_predicts(odd_stack: Stack) -> None:
    said = odd_stack.ok("serve", "--model", "models:/land-cover@champion", "--detach")
    url = said.split("curl -s ")[1].split("/invocations")[0]
    servers = [p for p in odd_stack.processes() if "terraflow.serving" in " ".join(p.cmdline())]
    assert len(servers) >= 2
    assert [strange(process) for process in servers] == [{}] * len(servers)
    assert httpx.get(f"{url}/health", trust_env=False).status_code == 200
    odd_stack.stop_model_server()


def test_shell_prints_this_stacks_addresses(odd_stack: Stack) -> None:
    lines = odd_stack.ok("env")
    assert f"export MLFLOW_TRACKING_URI={odd_stack.url('mlflow')}\n" in lines
    assert "unset MLFLOW_RUN_ID\n" in lines


def test_doctor_and_status_end_well(odd_stack: Stack) -> None:
    assert "in use by this stack" in odd_stack.run("doctor").stdout
    assert json.loads(odd_stack.ok("status", "--json"))["store"] == "minio"
