"""Starting and ending at bad moments, stores, and wrong surroundings."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
from mlflow.entities import Run
from sklearn.linear_model import LogisticRegression

from harness import PORTS, ROOT, Stack, interrupt, wait_for
from terraflow.stack.services import SERVICES

NewStack = Callable[..., Stack]


def log_run(stack: Stack, text: str) -> Run:
    stack.track()
    mlflow.set_experiment("lifecycle")
    with mlflow.start_run() as run:
        mlflow.log_text(text, "note.txt")
    return run


def log_model(stack: Stack) -> str:
    """Log a small model and return its URI."""
    stack.track()
    mlflow.set_experiment("serve")
    frame = pd.DataFrame({"a": [1.0, 2.0]})
    with mlflow.start_run():
        info = mlflow.sklearn.log_model(
            LogisticRegression().fit(frame, ["x", "y"]),
            name="model",
            pip_requirements=["scikit-learn"],
            signature=mlflow.models.infer_signature(frame, np.array(["x", "y"])),
        )
    return str(info.model_uri)


def read_note(run: Run) -> str:
    return str(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/note.txt"))


def without_minio(stack: Stack, tmp_path: Path) -> None:
    """Leave no binary, no Go and no cache to find MinIO in."""
    stack.environment["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), "/usr/bin", "/bin"]
    )
    stack.environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    for name in ("go", "minio"):
        if found := shutil.which(name, path=stack.environment["PATH"]):
            pytest.skip(f"{found} lies beside what the stack needs, so it can't be hidden here")


def test_store_minio_without_a_way_to_a_binary_gives_both_remedies(
    new_stack: NewStack, tmp_path: Path
) -> None:
    stack = new_stack(bare=True, TERRAFLOW_STORE="minio")
    without_minio(stack, tmp_path)
    said = stack.fails("up", "--detach")
    assert 'store = "minio" needs a MinIO server' in said
    assert "pixi" in said
    assert "Go" in said
    assert not stack.processes()


@pytest.mark.slow
def test_store_unset_without_a_way_to_a_binary_falls_back_to_local_and_says_so(
    new_stack: NewStack, tmp_path: Path
) -> None:
    stack = new_stack()
    without_minio(stack, tmp_path)
    said = stack.ok("up", "--detach", "--only", "mlflow")
    assert 'store = "local"' in said
    run = log_run(stack, "local")
    assert read_note(run) == "local"
    assert list(stack.artifacts.glob(f"*/{run.info.run_id}/artifacts/note.txt"))
    del stack.environment["XDG_CACHE_HOME"]  # now MinIO could be had: what is stored stays in sight
    stack.environment["PATH"] = os.environ["PATH"]
    stack.ok("down")
    stack.ok("up", "--detach", "--only", "mlflow")
    assert stack.settings()["store"] == "local"
    stack.track()
    assert read_note(run) == "local"


@pytest.mark.slow
def test_store_s3_takes_any_endpoint(stack: Stack, new_stack: NewStack) -> None:
    shown = stack.credentials()
    client = new_stack(
        "client",
        TERRAFLOW_STORE="s3",
        TERRAFLOW_S3_ENDPOINT=stack.url("minio"),
        TERRAFLOW_S3_ARTIFACT_BUCKET="other-artifacts",
        TERRAFLOW_S3_DATA_BUCKET="other-data",
        AWS_ACCESS_KEY_ID=shown["minio user"],
        AWS_SECRET_ACCESS_KEY=shown["minio password"],
    )
    assert "minio" not in client.ok("up", "--detach", "--only", "mlflow")
    run = log_run(client, "far")
    assert read_note(run) == "far"
    assert list((stack.var / "minio" / "data" / "other-artifacts").glob(f"*/{run.info.run_id}"))


def test_store_s3_with_wrong_keys_is_a_sentence(stack: Stack, new_stack: NewStack) -> None:
    client = new_stack(
        "client",
        TERRAFLOW_STORE="s3",
        TERRAFLOW_S3_ENDPOINT=stack.url("minio"),
        AWS_ACCESS_KEY_ID="nobody",
        AWS_SECRET_ACCESS_KEY="wrong-wrong",
    )
    assert "Bucket mlflow at http" in client.fails("setup")


def test_up_killed_leaves_no_orphan_and_the_next_has_everything(
    new_stack: NewStack, minio_binary: Path
) -> None:
    stack = new_stack(TERRAFLOW_STORE="minio")
    stack.ok("up", "--detach", "--only", "mlflow,jupyter")
    run = log_run(stack, "kept")
    said = stack.fails("up", "--detach")
    os.kill(int(said.split("(pid ")[1].split(",")[0]), signal.SIGKILL)
    stack.wait_until_gone(10)
    assert {row["state"] for row in stack.services().values()} == {"stopped"}
    stack.ok("up", "--detach", "--only", "mlflow")
    stack.track()
    assert mlflow.get_run(run.info.run_id).info.status == "FINISHED"
    assert read_note(run) == "kept"


@pytest.mark.parametrize("helper", ["runs", "is suspended"])
def test_up_at_once_after_a_kill_waits_for_the_old_services(
    helper: str, new_stack: NewStack
) -> None:
    stack = new_stack(TERRAFLOW_STORE="local")
    stack.ok("up", "--detach", "--only", "jupyter")
    said = stack.fails("up", "--detach")
    honcho = psutil.Process(int(said.split("(pid ")[1].split(",")[0]))
    if helper == "is suspended":
        honcho.children()[0].suspend()
    honcho.kill()
    stack.ok("up", "--detach", "--only", "jupyter")
    assert stack.services()["jupyter"]["state"] == "ready"


def test_up_in_the_foreground_ctrl_c_stops_all_within_10_s(
    new_stack: NewStack, tmp_path: Path
) -> None:
    stack = new_stack(TERRAFLOW_STORE="local")
    log = tmp_path / "up.log"
    up = stack.start("up", "--only", "mlflow,jupyter", log=log)
    wait_for(lambda: "Press Ctrl+C" in log.read_text(), 90)
    began = time.monotonic()
    interrupt(up)
    up.wait(10)
    stack.wait_until_gone(max(0.1, 10 - (time.monotonic() - began)))
    assert "Traceback" not in log.read_text()
    assert up.returncode == 130
    assert {row["state"] for row in stack.services().values()} == {"stopped"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "delay_s",
    [
        pytest.param(0.7, marks=pytest.mark.exhaustive),
        2.0,
        pytest.param(5.0, marks=pytest.mark.exhaustive),
    ],
)
def test_up_ctrl_c_during_setup_stops_all_and_the_next_start_is_sound(
    delay_s: float, new_stack: NewStack, tmp_path: Path
) -> None:
    stack = new_stack(bare=True, TERRAFLOW_STORE="local")
    log = tmp_path / "up.log"
    up = stack.start("up", "--only", "mlflow", log=log)
    time.sleep(delay_s)
    interrupt(up)
    up.wait(10)
    stack.wait_until_gone(10)
    assert "Traceback" not in log.read_text()
    stack.ok("up", "--detach", "--only", "mlflow")
    assert read_note(log_run(stack, "sound")) == "sound"


@pytest.mark.slow
def test_up_killed_during_setup_leaves_no_half_database(
    new_stack: NewStack, tmp_path: Path
) -> None:
    stack = new_stack(bare=True, TERRAFLOW_STORE="local")
    up = stack.start("up", "--only", "mlflow", log=tmp_path / "up.log")
    wait_for((stack.var / "mlflow" / "mlflow.migrating").exists)
    up.kill()
    up.wait()
    assert not (stack.var / "mlflow" / "mlflow.db").exists()
    stack.ok("up", "--detach", "--only", "mlflow")
    assert read_note(log_run(stack, "sound")) == "sound"


def test_two_checkouts_on_ports_0_run_side_by_side(new_stack: NewStack) -> None:
    stacks = [new_stack(name, TERRAFLOW_STORE="local") for name in ("one", "two")]
    for stack in stacks:
        stack.ok("up", "--detach", "--only", "jupyter")
    assert stacks[0].url("jupyter") != stacks[1].url("jupyter")
    assert [s.services()["jupyter"]["state"] for s in stacks] == ["ready", "ready"]
    stacks[0].ok("down")
    assert stacks[1].services()["jupyter"]["state"] == "ready"


def test_port_taken_is_told_before_anything_starts(new_stack: NewStack) -> None:
    stack = new_stack(bare=True, TERRAFLOW_STORE="local")
    code = "import socket, time\ns = socket.create_server(('127.0.0.1', 0))\n"
    code += "print(s.getsockname()[1], flush=True)\ntime.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout
        port = other.stdout.readline().strip()
        said = stack.fails("up", "--detach", TERRAFLOW_MLFLOW_PORT=port)
        assert f"Port {port} (mlflow) is taken by process {other.pid}" in said
        assert "TERRAFLOW_MLFLOW_PORT" in said
        assert not (stack.var / "mlflow").exists()
        failed = stack.fails("doctor", TERRAFLOW_MLFLOW_PORT=port)
        assert f"FAILED  port {port}: taken (mlflow)" in failed
    finally:
        other.kill()


def test_invalid_config_names_every_key_and_variable(new_stack: NewStack) -> None:
    stack = new_stack()
    (stack.config / "terraflow.toml").write_text('stor = "x"\n[airflow]\nparallelism = "a"\n')
    said = stack.fails("up", "--detach")
    assert "terraflow.toml: stor is not a known key (did you mean store?)" in said
    assert "terraflow.toml: airflow.parallelism = 'a' is wrong" in said
    said = stack.fails("up", "--set", "stor=x", "--set", "mlflow.port=many")
    assert "command line: stor is not a known key" in said
    assert "command line: mlflow.port = 'many' is wrong" in said
    assert "TERRAFLOW_STOR is not a setting" in stack.fails("status", TERRAFLOW_STOR="minio")


def test_invalid_project_config_names_every_key(new_stack: NewStack) -> None:
    stack = new_stack()
    text = (stack.config / "land_cover.toml").read_text()
    wrong = text.replace("seed = 42", 'seed = "many"').replace("folds = 5", "foldz = 5")
    (stack.config / "wrong.toml").write_text(wrong)
    said = stack.fails("train", "--config", str(stack.config / "wrong.toml"))
    assert "wrong.toml: seed = 'many' is wrong" in said
    assert "wrong.toml: validation.foldz is not a known key (did you mean folds?)" in said
    assert "nowhere.toml does not exist" in stack.fails("train", "--config", "nowhere.toml")


def test_var_not_writable_is_a_sentence(new_stack: NewStack, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    stack = new_stack(bare=True, TERRAFLOW_STORE="local")
    said = stack.fails("up", "--detach", TERRAFLOW_VAR=str(tmp_path / "file" / "var"))
    assert "can't be written: Not a directory" in said
    assert "TERRAFLOW_VAR" in said


def test_commands_without_a_stack_say_what_to_do(new_stack: NewStack) -> None:
    stack = new_stack(bare=True, TERRAFLOW_STORE="local")
    assert "invoke up" in stack.fails("train", TERRAFLOW_MLFLOW_PORT="1")
    assert "invoke up" in stack.fails("train", "--airflow", TERRAFLOW_AIRFLOW_PORT="1")
    assert "invoke up" in stack.fails("serve", "--run-id", "x", TERRAFLOW_MLFLOW_PORT="1")
    (stack.config / "rows.csv").write_text("a\n1\n")
    said = stack.fails("predict", "--input", str(stack.config / "rows.csv"))
    assert "No model server answers" in said
    assert "Nothing was running" in stack.ok("down")
    assert "names no service" in stack.fails("up", "--only", "mlflwo")


def test_setup_twice_changes_nothing(new_stack: NewStack) -> None:
    stack = new_stack(bare=True, TERRAFLOW_STORE="local")
    stack.ok("setup")
    secrets = (stack.var / "secrets.json").read_bytes()
    database = (stack.var / "airflow" / "airflow.db").stat().st_mtime
    assert "preparing" not in stack.ok("setup")
    assert (stack.var / "secrets.json").read_bytes() == secrets
    assert (stack.var / "airflow" / "airflow.db").stat().st_mtime == database


def test_reset_asks_says_what_is_lost_and_deletes(new_stack: NewStack) -> None:
    stack = new_stack(TERRAFLOW_STORE="local")
    stack.ok("setup")
    said = stack.fails("reset")
    assert "all runs and models" in said
    assert "repeat with --yes" in said
    assert stack.var.exists()
    stack.ok("reset", "--yes")
    assert not stack.var.exists()
    assert not stack.artifacts.exists()


def test_honcho_start_beside_a_running_stack_changes_nothing(stack: Stack, tmp_path: Path) -> None:
    before = stack.settings()
    log = tmp_path / "honcho.log"
    fixed = {f"TERRAFLOW_{name}": str(5000 + i) for i, name in enumerate(PORTS)}
    other = Stack(stack.var.parent, **fixed)
    honcho = other.start("start", log=log, command="honcho")
    assert honcho.wait(60) == 1
    assert "TerraFlow already runs here (pid " in log.read_text()
    assert stack.settings() == before
    assert {row["state"] for row in stack.services().values()} == {"ready"}


@pytest.mark.slow
def test_down_ends_a_foreground_serve_but_no_shell(new_stack: NewStack, tmp_path: Path) -> None:
    stack = new_stack(TERRAFLOW_STORE="local")
    stack.ok("up", "--detach", "--only", "mlflow")
    uri = log_model(stack)
    log = tmp_path / "serve.log"
    command = f"{sys.executable} -m invoke serve --model {uri}; echo the shell lives"
    with log.open("wb") as output:
        shell = subprocess.Popen(
            ["sh", "-c", command], cwd=ROOT, env=stack.environment, stdout=output, stderr=output
        )
    wait_for(lambda: "Press Ctrl+C" in log.read_text(), 90)
    stack.ok("down")
    shell.wait(10)
    assert "the shell lives" in log.read_text()
    stack.wait_until_gone(5)


def test_down_during_setup_leaves_no_process(new_stack: NewStack, tmp_path: Path) -> None:
    stack = new_stack(bare=True, TERRAFLOW_STORE="local")
    up = stack.start("up", log=tmp_path / "up.log")
    wait_for((stack.var / "mlflow" / "mlflow.migrating").exists)
    assert "setup.lock" in str(list((stack.var / "run").iterdir()))
    assert "stop it with `invoke down` first" in stack.fails("reset", "--yes")
    stack.ok("down")
    up.wait(10)
    stack.wait_until_gone(3)


def test_honcho_start_runs_the_stack_with_restarts(new_stack: NewStack, tmp_path: Path) -> None:
    ports = {}
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(6)]
    for name, sock in zip(
        ("AIRFLOW", "MLFLOW", "JUPYTER", "MINIO", "MINIO_CONSOLE", "SERVING"), held, strict=True
    ):
        ports[f"TERRAFLOW_{name}_PORT"] = str(sock.getsockname()[1])
        sock.close()
    stack = new_stack(TERRAFLOW_STORE="local", **ports)
    log = tmp_path / "honcho.log"
    lines = ["minio", "mlflow", "jupyter", "airflow"]  # minio waits: nothing needs it
    honcho = stack.start("start", *lines, log=log, command="honcho")
    names = ["mlflow", "jupyter", *(n for n in SERVICES if n.startswith("airflow-"))]
    wait_for(lambda: all(stack.services()[n]["state"] == "ready" for n in names), 120)
    assert "Uvicorn running" in log.read_text()  # plain honcho shows the logs
    assert "already runs here" in stack.fails("up", "--detach")
    before = stack.services()
    for name in ("jupyter", "airflow-scheduler"):
        os.kill(before[name]["pid"], signal.SIGKILL)
        wait_for(
            lambda name=name: (
                stack.services()[name]["state"] == "ready"
                and stack.services()[name]["restarts"] == 1
            )
        )
    after = stack.services()
    others = set(names) - {"jupyter", "airflow-scheduler"}
    assert {n: after[n]["pid"] for n in others} == {n: before[n]["pid"] for n in others}
    interrupt(honcho)
    honcho.wait(10)
    stack.wait_until_gone(5)


def test_service_that_can_not_start_fails_alone_and_status_says_why(
    new_stack: NewStack, minio_binary: Path
) -> None:
    stack = new_stack(TERRAFLOW_STORE="minio")
    stack.ok("setup")
    system = stack.var / "minio" / "data" / ".minio.sys"
    system.mkdir()
    (system / "format.json").write_text("garbage")
    done = stack.run("up", "--detach", "--only", "minio,jupyter")
    assert done.returncode == 1
    assert "minio                  failed: exited with code 1 after 5 restarts" in done.stdout
    assert str(stack.var / "log" / "minio.log") in done.stdout
    services = stack.services()
    assert services["minio"]["state"] == "failed"
    assert "after 5 restarts in 10 minutes; last lines: " in services["minio"]["reason"]
    assert services["jupyter"]["state"] == "ready"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KB: less than a run takes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(["mount", *options], check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.exhaustive
def test_train_disk_full_fails_clearly_and_leaves_nothing_half_written(
    new_stack: NewStack, small_disk: Path
) -> None:
    stack = new_stack(TERRAFLOW_STORE="local", TERRAFLOW_ARTIFACTS=str(small_disk / "artifacts"))
    config = stack.config / "land_cover.toml"
    config.write_text(
        config.read_text().replace("samples_per_class = 1000", "samples_per_class = 500")
    )
    stack.ok("up", "--detach", "--only", "mlflow")
    said = stack.fails("train", MLFLOW_HTTP_REQUEST_MAX_RETRIES="1")
    assert "could not store the run" in said.splitlines()[-1]
    stack.track()
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert [r.info.status for r in runs] == ["FAILED"]
    assert not [p for p in small_disk.rglob("*") if p.is_file()]
    assert not mlflow.MlflowClient().search_registered_models()


@pytest.mark.exhaustive
def test_train_killed_is_not_left_running(new_stack: NewStack, tmp_path: Path) -> None:
    stack = new_stack(TERRAFLOW_STORE="local")
    stack.ok("up", "--detach", "--only", "mlflow")
    stack.track()

    def states() -> list[str]:
        runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
        return sorted(r.info.status for r in runs)

    train = stack.start("train", log=tmp_path / "train.log")
    wait_for(lambda: states() == ["RUNNING"], 180)
    train.kill()
    train.wait()
    stack.ok("train")
    assert states() == ["FINISHED", "KILLED"]


def test_serve_in_the_foreground_ctrl_c_stops_it(stack: Stack, tmp_path: Path) -> None:
    uri = log_model(stack)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        taken = stack.fails("serve", "--model", uri, TERRAFLOW_SERVING_PORT=port)
        assert f"Port {port} (model-server) is taken by process {os.getpid()}" in taken
    log = tmp_path / "serve.log"
    serve = stack.start("serve", "--model", uri, log=log)
    wait_for(lambda: "Press Ctrl+C" in log.read_text(), 90)
    line = next(line for line in log.read_text().splitlines() if line.startswith("curl "))
    answer = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout)["predictions"] in (["x"], ["y"])
    pid = stack.services()["model-server"]["pid"]
    os.kill(pid, signal.SIGKILL)
    url = line.split()[2].removesuffix("/invocations")
    wait_for(lambda: stack.services()["model-server"]["restarts"] == 1 and _answers(url))
    interrupt(serve)
    serve.wait(10)
    assert "model-server" not in stack.services()
    assert not _answers(url)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def test_make_with_too_old_a_python_is_one_line(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    real = sys.executable
    code = "import sys; sys.version_info = (3, 9, 2); exec(sys.argv[1])"
    old.write_text(f'#!/bin/sh\nexec {real} -c "{code}" "$2"\n')
    old.chmod(0o755)
    copy = tmp_path / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv", "var", ".git", "mlflow-*"))
    done = subprocess.run(
        ["make", "status", f"PYTHON={old}"],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    wanted = f"TerraFlow needs Python 3.11, 3.12 or 3.13, but {old} is 3.9; name another"
    assert wanted in done.stderr
    assert "Traceback" not in done.stderr
