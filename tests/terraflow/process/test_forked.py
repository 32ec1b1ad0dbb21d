from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness import wait_for
from terraflow.state import ServiceState, read_state

SCRIPT = """
import os, signal, subprocess, sys, time

IMPORTED_BY = os.getpid()

def main():
    _, name, *words = sys.argv
    print(f"{name} imported by {IMPORTED_BY}, files {sorted(os.listdir('/proc/self/fd'))[:-1]}")
    print("signals", signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGCHLD))
    if "leave" in words:
        child = subprocess.Popen(["sleep", "60"], start_new_session=True)
        print(f"left {child.pid}.")
    if "raise" in words:
        raise RuntimeError("no luck")
    if "exit" in words:
        return 3
    time.sleep(60)
"""


class Pair:
    """Two services, one and two, forked from one supervisor."""

    def __init__(self, folder: Path, *words: str, script: str = SCRIPT, code: str = "") -> None:
        self.var = folder / "var"
        distribution = folder / "sample-1.0.dist-info"
        distribution.mkdir(parents=True)
        (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: sample\n")
        (distribution / "entry_points.txt").write_text("[console_scripts]\nsample=sample:main\n")
        (folder / "sample.py").write_text(script)
        program = folder / "sample"
        program.write_text(f"#!{sys.executable}\nimport sys, sample\nsys.exit(sample.main())\n")
        program.chmod(0o755)
        supervisor = ["-c", code] if code else ["-m", "terraflow.process.supervise"]
        with (folder / "terminal").open("wb") as output:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, *supervisor),
                    *("one", "sample", "one", *words),
                    *("+", "two", "sample", "two"),
                ],
                env=os.environ
                | {
                    "TERRAFLOW_RESOLVED": "1",
                    "TERRAFLOW_VAR": str(self.var),
                    "PYTHONPATH": str(folder),
                    "PYTHONUNBUFFERED": "1",
                    "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
                },
                stdout=output,
            )

    def state(self, name: str) -> ServiceState:
        state = read_state(self.var / "run", name)
        assert state
        return state

    def pid(self, name: str) -> int:
        wait_for(lambda: (s := read_state(self.var / "run", name)) and s.pid)
        return self.state(name).pid or 0

    @property
    def terminal(self) -> str:
        return (self.var.parent / "terminal").read_text()

    def log(self, name: str) -> str:
        path = self.var / "log" / f"{name}.log"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Callable[..., Pair]]:
    started: list[Pair] = []

    def start(*words: str, **options: str) -> Pair:
        started.append(Pair(tmp_path, *words, **options))
        return started[-1]

    yield start
    for one in started:
        one.process.terminate()
        one.process.wait(10)


def test_forked_services_share_what_their_supervisor_imported(pair: Callable[..., Pair]) -> None:
    both = pair()
    for name in ("one", "two"):
        wait_for(lambda name=name: "signals" in both.log(name))
        assert f"{name} imported by {both.process.pid}," in both.log(name)


def test_terminal_shows_which_service_wrote_a_line(pair: Callable[..., Pair]) -> None:
    both = pair()
    for name in ("one", "two"):
        wait_for(lambda name=name: f"\n{name}: signals" in "\n" + both.terminal)
    assert all(line.startswith(("one: ", "two: ")) for line in both.terminal.splitlines())
    assert "one: " not in both.log("one")


def test_output_of_the_import_goes_to_the_first_services_log(pair: Callable[..., Pair]) -> None:
    both = pair(script="import os; print('loud'); os.system('echo louder')\n" + SCRIPT)
    wait_for(lambda: "signals" in both.log("one"))
    assert both.log("one").startswith("loud\nlouder\none imported")
    assert "loud" not in both.terminal + both.log("two")


def test_terminal_shows_a_last_line_without_an_end(pair: Callable[..., Pair]) -> None:
    both = pair(script="def main():\n    print('cut short', end='')\n    return 3")
    wait_for(lambda: "one: cut short\n" in both.terminal)


def test_forked_service_starts_as_a_new_program_would(pair: Callable[..., Pair]) -> None:
    both = pair()
    wait_for(lambda: "signals" in both.log("one"))
    assert "files ['0', '1', '2']" in both.log("one")
    assert f"signals {signal.SIG_DFL:d} {signal.SIG_DFL:d}" in both.log("one")
    service = psutil.Process(both.pid("one"))
    assert " ".join(service.cmdline()).strip() == "sample one"
    assert os.getsid(service.pid) == service.pid


def test_forked_service_killed_is_forked_again_beside_the_other(
    pair: Callable[..., Pair],
) -> None:
    both = pair()
    wait_for(lambda: "signals" in both.log("one"))
    first, other = both.pid("one"), both.pid("two")
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: both.state("one").pid not in (None, first))
    assert (both.state("one").restarts, both.state("two").restarts) == (1, 0)
    assert both.state("two").pid == other
    wait_for(lambda: both.log("one").count(f"imported by {both.process.pid},") == 2)


@pytest.mark.parametrize(
    ("word", "code", "printed"), [("exit", 3, "signals"), ("raise", 1, "RuntimeError: no luck")]
)
def test_forked_service_that_ends_tells_how(
    pair: Callable[..., Pair], word: str, code: int, printed: str
) -> None:
    both = pair(word)
    told = f"exited with code {code}"
    wait_for(lambda: (s := read_state(both.var / "run", "one")) and told in s.reason)
    assert both.state("one").phase == "restarting"
    assert printed in both.state("one").reason
    assert both.state("two").phase == "running"


def test_forked_service_killed_leaves_nothing_and_the_other_keeps_its_own(
    pair: Callable[..., Pair],
) -> None:
    both = pair("leave")
    wait_for(lambda: "left" in both.log("one"))
    left = int(both.log("one").partition("left ")[2].partition(".")[0])
    other = both.pid("two")
    os.kill(both.pid("one"), signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(left))
    assert psutil.pid_exists(other)


def test_forked_services_end_with_their_supervisor(pair: Callable[..., Pair]) -> None:
    both = pair()
    pids = [both.pid("one"), both.pid("two")]
    began = time.monotonic()
    both.process.terminate()
    assert both.process.wait(10) == 0
    assert time.monotonic() - began < 4  # honcho's patience is 5 s
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert {both.state(name).phase for name in ("one", "two")} == {"stopped"}


def test_forked_services_end_with_their_killed_supervisor(pair: Callable[..., Pair]) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux ends a child with its parent")
    both = pair()
    pids = [both.pid("one"), both.pid("two")]
    both.process.kill()
    both.process.wait()
    wait_for(lambda: not [pid for pid in pids if psutil.pid_exists(pid)])


def test_services_whose_import_fails_tell_it_in_their_own_logs(pair: Callable[..., Pair]) -> None:
    both = pair(script="raise ValueError('no configuration')")
    for name in ("one", "two"):
        wait_for(
            lambda name=name: (s := read_state(both.var / "run", name)) and "ValueError" in s.reason
        )
        assert both.state(name).phase == "restarting"
        assert "ValueError: no configuration" in both.state(name).reason
        assert "Traceback" in both.log(name)


def test_services_on_macos_are_programs_of_their_own(pair: Callable[..., Pair]) -> None:
    code = "import psutil, sys; sys.platform = 'darwin'\n"
    both = pair(
        code=code + "from terraflow.process.supervise import main; sys.exit(main(sys.argv[1:]))"
    )
    pids = {name: both.pid(name) for name in ("one", "two")}
    for name, pid in pids.items():
        wait_for(lambda name=name: "signals" in both.log(name))
        assert f"{name} imported by {pid}," in both.log(name)


def test_service_is_said_to_wait_while_its_package_is_imported(pair: Callable[..., Pair]) -> None:
    both = pair(script="import time; time.sleep(3)\n" + SCRIPT)
    wait_for(lambda: read_state(both.var / "run", "two"))
    assert both.state("one").phase == both.state("two").phase == "waiting"
    both.pid("two")
