"""Nobody reads what is written any more: nothing dies of it, hangs, or is left."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import ROOT, Stack, hear_ctrl_c, interrupt, wait_for

NewStack = Callable[..., Stack]
pytestmark = pytest.mark.slow
UP = [sys.executable, "-m", "invoke", "up", "--only", "mlflow"]


def in_shell(stack: Stack, redirection: str) -> subprocess.Popen[bytes]:
    """Start `up` by a shell that is replaced by it, in a process group of its own."""
    return subprocess.Popen(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *UP],
        cwd=ROOT,
        env=stack.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=hear_ctrl_c,
    )


def is_ready(stack: Stack) -> bool:
    return stack.services().get("mlflow", {}).get("state") == "ready"


@pytest.mark.parametrize(
    ("when", "end"),
    [
        ("at once", "down"),
        ("when all is ready", "Ctrl+C"),
        pytest.param("at once", "Ctrl+C", marks=pytest.mark.exhaustive),
        pytest.param("when all is ready", "down", marks=pytest.mark.exhaustive),
    ],
)
def test_up_whose_reader_is_gone_runs_and_ends(new_stack: NewStack, when: str, end: str) -> None:
    """As `make up | tee log` at Ctrl+C, where tee is the first to end."""
    stack = new_stack(TERRAFLOW_STORE="local")
    up = in_shell(stack, "")
    assert up.stdout
    if when == "at once":
        up.stdout.close()
        wait_for(lambda: is_ready(stack), 90)
    else:
        while b"Press Ctrl+C" not in up.stdout.readline():
            assert up.poll() is None
        up.stdout.close()
    os.kill(stack.services()["mlflow"]["pid"], signal.SIGKILL)  # which honcho tells
    wait_for(lambda: stack.services()["mlflow"]["restarts"] == 1 and is_ready(stack), 60)
    if end == "Ctrl+C":
        interrupt(up)
    else:
        assert "Stopped" in stack.ok("down")
    assert up.wait(15) in (130, 143)
    stack.wait_until_gone(5)
    assert "Nothing was running" in stack.ok("down")


@pytest.mark.parametrize(
    "redirection",
    [
        *(">/dev/full 2>&1", ">&- 2>&- <&-"),
        *(pytest.param(one, marks=pytest.mark.exhaustive) for one in (">/dev/full", ">&-")),
    ],
)
def test_up_without_an_output_runs_and_ends(new_stack: NewStack, redirection: str) -> None:
    stack = new_stack(TERRAFLOW_STORE="local")
    up = in_shell(stack, redirection)
    wait_for(lambda: up.poll() is not None or is_ready(stack), 90)
    assert up.poll() is None
    locks = {path.read_text() for path in (stack.var / "run").glob("*.lock")}
    assert all(text.isdecimal() or not text for text in locks), locks  # nothing else was written
    interrupt(up)
    assert up.wait(15) in (130, 143)
    stack.wait_until_gone(5)


def test_up_whose_terminal_is_closed_leaves_nothing(new_stack: NewStack) -> None:
    stack = new_stack(TERRAFLOW_STORE="local")
    pid, terminal = pty.fork()
    if not pid:  # no mypy knows that nothing comes after it
        os.chdir(ROOT)
        os.execve(sys.executable, UP, stack.environment)
    said = b""
    while b"Press Ctrl+C" not in said:
        said += os.read(terminal, 4096)
    os.close(terminal)
    os.waitpid(pid, 0)
    stack.wait_until_gone(15)
    assert "Nothing was running" in stack.ok("down")


def test_up_detached_with_no_reader_and_no_output_is_ready(new_stack: NewStack) -> None:
    for number, redirection in enumerate((">/dev/full", ">&- 2>&-", "| true")):
        stack = new_stack(f"stack-{number}", TERRAFLOW_STORE="local")
        command = f'{{ "$@" --detach; echo $? >"$0"; }} {redirection}'
        code = stack.var.parent / "code"
        subprocess.run(
            ["sh", "-c", command, str(code), *UP],
            cwd=ROOT,
            env=stack.environment,
            timeout=120,
            check=False,
            stderr=subprocess.PIPE,
        )
        wait_for(lambda code=code: code.exists() and code.read_text().strip(), 90)
        assert is_ready(stack)
        assert code.read_text().strip() == ("1" if "full" in redirection else "0")
        stack.ok("down")
        stack.wait_until_gone(5)


def test_train_whose_reader_is_gone_goes_on_to_its_end(new_stack: NewStack, tmp_path: Path) -> None:
    stack = new_stack(TERRAFLOW_STORE="local")
    stack.shrink()
    stack.ok("up", "--detach", "--only", "mlflow")
    code = tmp_path / "code"
    command = '{ "$1" -m invoke train; echo $? >"$0"; } 2>&1 | true'
    subprocess.run(
        ["sh", "-c", command, str(code), sys.executable],
        cwd=ROOT,
        env=stack.environment,
        timeout=300,
        check=True,
    )
    wait_for(lambda: code.exists() and code.read_text().strip(), 300)
    assert code.read_text().strip() == "0"
    stack.ok("map", "--output", str(tmp_path / "map.tif"))
    assert (tmp_path / "map.tif").exists()


def test_logs_follow_ends_with_its_reader(new_stack: NewStack) -> None:
    stack = new_stack(TERRAFLOW_STORE="local")
    stack.ok("up", "--detach", "--only", "mlflow")
    done = subprocess.run(
        ["sh", "-c", '"$0" -m invoke logs --follow mlflow | head -n 1', sys.executable],
        cwd=ROOT,
        env=stack.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.startswith("mlflow")
    assert not done.stderr
