from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_server import MlflowServer
from odd_shell import NONSENSE, PRINT
from terraflow.credentials import read_mlflow_token, read_secrets
from terraflow.errors import ConfigError
from terraflow.settings import Settings, load
from terraflow.stack.environment import environment
from terraflow.stack.setup import prepare
from terraflow.stack.shell import client_environment, exports, stack_to_see

ROOT = Path(__file__).resolve().parents[3]
SECRETS = ("minio_user", "minio_password")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A stack that is set up as far as a shell needs it, with MinIO as its store."""
    monkeypatch.setenv("TERRAFLOW_STORE", "minio")
    settings = load()
    read_secrets(settings)
    return settings


def invoke(*words: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "invoke", *words],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_exports_are_the_difference_as_sh_reads_it() -> None:
    before = {"A": "1", "GONE": "x", "SAME": "s", "BASH_FUNC_f%%": "() { :; }"}
    after = {"A": "it's $HOME", "SAME": "s", "MY_TOKEN": "t", "KEY_FILE": "/f"}
    lines = exports(before, after, secrets=False)
    assert lines == ["unset GONE", """export A='it'"'"'s $HOME'""", "export KEY_FILE=/f"]
    assert exports(before, after, secrets=True) == [*lines, "export MY_TOKEN=t"]


def test_env_turns_a_users_shell_into_one_of_the_stack(seen: Settings) -> None:
    odd = {name: value for family in NONSENSE.values() for name, value in family.items()}
    odd["PYTHONPATH"] = f"{odd['PYTHONPATH']}{os.pathsep}{ROOT / 'src'}"
    lines = invoke("env", **odd)
    code = f'{lines}exec "{sys.executable}" -c "{PRINT}"'
    told = subprocess.check_output(["bash", "-c", code], env={**os.environ, **odd}, text=True)
    variables = json.loads(told)
    assert variables["MLFLOW_TRACKING_URI"] == seen.mlflow_url
    assert variables["MLFLOW_TRACKING_TOKEN"] == read_mlflow_token(seen)
    assert variables["AIRFLOW_HOME"] == str(seen.var / "airflow")
    assert variables["AWS_ENDPOINT_URL_S3"] == seen.s3_endpoint
    assert variables["JUPYTER_CONFIG_DIR"] == str(seen.var / "jupyter")
    assert "MLFLOW_RUN_ID" not in variables
    assert variables["PYTHONPATH"] == str(ROOT / "src")
    assert "PYTHONWARNINGS" not in variables
    assert "/nowhere" not in json.dumps(variables)


def test_env_shows_secrets_only_where_it_is_asked_to(seen: Settings) -> None:
    secrets = read_secrets(seen)
    hidden = [*secrets.values(), read_mlflow_token(seen)]
    assert not any(value in invoke("env") for value in hidden)
    shown = invoke("env", "--show-credentials")
    assert all(secrets[name] in shown for name in SECRETS)
    assert f"MLFLOW_TRACKING_TOKEN={read_mlflow_token(seen)}" in shown


def in_terminal(shell: str, typed: str, **variables: str) -> str:
    """Type lines into `invoke shell`, as in a terminal; return all that is shown."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "invoke", "shell"],
        cwd=ROOT,
        env={**os.environ, "SHELL": shell, "TERM": "dumb", **variables},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    os.write(master, f"{typed}\nexit\n".encode())
    shown = b""
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:  # the terminal is closed with the last that has it
            break
        if not chunk:
            break
        shown += chunk
    os.close(master)
    assert process.wait(60) == 0, shown
    return shown.decode()


@pytest.mark.parametrize("shell", ["bash", "zsh", "sh"])
def test_shell_sees_the_stack_whatever_the_users_files_say(
    shell: str, seen: Settings, tmp_path: Path
) -> None:
    program = shutil.which(shell)
    if not program:
        pytest.skip(f"there is no {shell} here")
    home = tmp_path / "home"
    home.mkdir()
    for name in (".bashrc", ".zshrc"):
        line = "export MLFLOW_TRACKING_URI=http://127.0.0.1:9 MY_OWN=1 AWS_PROFILE=another\n"
        (home / name).write_text(line)
    typed = 'echo "<$MLFLOW_TRACKING_URI|$AWS_PROFILE|$MY_OWN|$TERRAFLOW_ROOT>"'
    shown = in_terminal(program, typed, HOME=str(home), AWS_PROFILE="another")
    own = "" if shell == "sh" else "1"
    assert f"<{seen.mlflow_url}||{own}|{ROOT}>" in shown
    assert not any(value in shown for value in read_secrets(seen).values())
    for path in (seen.var / "shell").iterdir() if shell != "sh" else ():
        assert path.stat().st_mode & 0o077 == 0
        assert not any(value in path.read_text() for value in read_secrets(seen).values())


def test_shell_that_can_not_be_run_is_a_sentence(seen: Settings) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "shell"],
        cwd=ROOT,
        env={**os.environ, "SHELL": "/nowhere/fish"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "SHELL is /nowhere/fish, which can't be run (No such file or directory)" in done.stderr


def test_shell_before_any_setup_tells_what_to_run() -> None:
    with pytest.raises(ConfigError, match=r"There is no stack in .* to see yet; set it up with"):
        stack_to_see()


def test_shell_of_a_stopped_stack_with_ports_of_0_tells_to_start_it(
    seen: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERRAFLOW_MLFLOW_PORT", "0")
    with pytest.raises(ConfigError, match="ports of 0, which get their numbers when it starts"):
        stack_to_see()


def test_mlflow_by_hand_asks_the_stacks_server_and_leaves_no_database(
    seen: Settings, mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TERRAFLOW_MLFLOW_PORT", str(mlflow_server.port))
    monkeypatch.setenv("TERRAFLOW_MLFLOW_TOKEN_FILE", str(mlflow_server.token_file))
    found = client_environment(load())
    command = [sys.executable, "-m", "mlflow", "experiments", "search"]
    told = subprocess.check_output(command, cwd=tmp_path, env=found, text=True)
    assert "Default" in told
    assert not (tmp_path / "mlflow.db").exists()


def test_airflow_by_hand_reads_the_stacks_configuration(seen: Settings) -> None:
    prepare(seen.model_copy(update={"store": "local"}))
    found = client_environment(seen)
    words = ["config", "get-value", "core", "dags_folder"]
    command = [sys.executable, "-m", "airflow", *words]
    told = subprocess.check_output(command, env=found, text=True)
    assert told.split()[-1] == str(ROOT / "dags")


def test_clients_get_nothing_that_is_the_services_own(seen: Settings) -> None:
    clients, services = client_environment(seen), environment(seen)
    assert clients["TERRAFLOW_RESOLVED"] == "shell"
    assert {"SPT_NOENV", "MLFLOW_SERVER_ALLOWED_HOSTS"} <= services.keys() - clients.keys()
    assert "TERRAFLOW_MLFLOW_DATABASE" not in clients
