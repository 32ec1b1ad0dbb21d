from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness import wait_for
from small_disks import make_room, small_disk
from terraflow.disks.space import Disk
from terraflow.process.supervisor import pause_before_restart
from terraflow.state import SILENT, ServiceState, read_state

SUPERVISE = [sys.executable, "-m", "terraflow.process.supervise"]


class Supervised:
    """A real supervisor on a real command."""

    def __init__(self, var: Path, code: str, *options: str, **variables: str) -> None:
        self.var = var
        self.process = subprocess.Popen(
            [
                *SUPERVISE,
                *options,
                "sample",
                sys.executable,
                "-c",
                code.replace("{", "{{").replace("}", "}}"),
            ],
            env=os.environ | {"TERRAFLOW_RESOLVED": "1", "TERRAFLOW_VAR": str(var)} | variables,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def state(self) -> ServiceState | None:
        return read_state(self.var / "run", "sample")

    def pid(self) -> int:
        wait_for(lambda: self.state and self.state.pid)
        assert self.state
        assert self.state.pid
        return self.state.pid

    @property
    def log(self) -> str:
        return (self.var / "log" / "sample.log").read_text()


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    started: list[Supervised] = []

    def start(code: str, *options: str, **variables: str) -> Supervised:
        started.append(Supervised(tmp_path / "var", code, *options, **variables))
        return started[-1]

    yield start
    for one in started:
        one.process.terminate()
        one.process.wait(10)


def test_pause_before_restart_doubles_then_gives_up() -> None:
    ends: deque[float] = deque()
    pauses = []
    for now in range(6):
        ends.append(float(now))
        pauses.append(pause_before_restart(ends, float(now)))
    assert pauses == [1, 2, 4, 8, 16, None]


def test_pause_before_restart_forgets_after_ten_minutes() -> None:
    ends = deque([0.0, 1, 2, 3, 4, 605])
    assert pause_before_restart(ends, 605) == 1


def test_service_killed_is_restarted_and_counted(supervise: Callable[..., Supervised]) -> None:
    one = supervise("import time; time.sleep(60)")
    first = one.pid()
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: one.state and one.state.pid not in (None, first))
    assert one.state
    assert one.state.restarts == 1


def test_service_gets_the_signals_that_end_it_one_after_the_other(
    supervise: Callable[..., Supervised],
) -> None:
    code = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('waits for clients', flush=True))\n"
        "signal.signal(signal.SIGINT, lambda *_: exit('ends now'))\n"
        "print('begun', flush=True)\n"
        "while True: time.sleep(1)"
    )
    one = supervise(code, TERRAFLOW_STOP_SAMPLE="SIGTERM SIGINT")
    one.pid()
    wait_for(lambda: "begun" in one.log)
    one.process.terminate()
    one.process.wait(5)
    assert one.log.splitlines() == ["begun", "waits for clients", "ends now"]


def test_service_output_goes_to_its_log_and_to_the_reader(
    supervise: Callable[..., Supervised],
) -> None:
    one = supervise("import time; print('hello', flush=True); time.sleep(60)")
    assert one.process.stdout
    assert one.process.stdout.readline() == "hello\n"
    wait_for(lambda: "hello" in one.log)
    assert (one.var / "log" / "sample.log").stat().st_mode & 0o777 == 0o600


def test_service_that_prints_without_pause_is_ended_in_time(
    supervise: Callable[..., Supervised],
) -> None:
    one = supervise("import os; os.execvp('yes', ['yes'])", TERRAFLOW_ECHO="0")
    wait_for((one.var / "log" / "sample.log.1").exists)
    began = time.monotonic()
    one.process.terminate()
    assert one.process.wait(20) == 0
    assert time.monotonic() - began < 10  # and not killed, as `down` does after that
    assert one.state
    assert one.state.phase == "stopped"


def test_service_with_much_output_keeps_two_logs_of_bounded_size(
    supervise: Callable[..., Supervised],
) -> None:
    one = supervise(
        "import sys, time\n"
        "for _ in range(27): sys.stdout.write(('x' * 99 + '\\n') * 10_000)\n"
        "print('done', flush=True)\ntime.sleep(60)"
    )
    assert one.process.stdout
    while one.process.stdout.readline() != "done\n":
        pass
    wait_for(lambda: "done" in one.log)
    sizes = {path.name: path.stat().st_size for path in (one.var / "log").iterdir()}
    assert set(sizes) == {"sample.log", "sample.log.1"}
    assert max(sizes.values()) < 11_000_000


@pytest.mark.parametrize(("days", "kept"), [("90", False), ("0", True)])
def test_old_logs_of_airflow_go_while_its_scheduler_runs(
    days: str, kept: bool, tmp_path: Path
) -> None:
    old = tmp_path / "airflow" / "logs" / "dag_id=a" / "attempt=1.log"
    old.parent.mkdir(parents=True)
    old.touch()
    os.utime(old, (0, 0))
    process = subprocess.Popen(
        [*SUPERVISE, "airflow-scheduler", sys.executable, "-c", "import time; time.sleep(60)"],
        env=os.environ
        | {"TERRAFLOW_RESOLVED": "1", "TERRAFLOW_VAR": str(tmp_path)}
        | {"TERRAFLOW_AIRFLOW_KEEP_LOGS_DAYS": days},
    )
    try:
        wait_for(lambda: read_state(tmp_path / "run", "airflow-scheduler") or None)
        if kept:
            time.sleep(2)
        else:
            wait_for(lambda: not old.exists())
        assert old.exists() == kept
    finally:
        process.terminate()
        process.wait(20)


def test_service_that_dies_tells_how_and_its_last_lines(
    supervise: Callable[..., Supervised],
) -> None:
    one = supervise("import sys; print('no luck', flush=True); sys.exit(3)")
    wait_for(lambda: one.state and "exited with code 3" in one.state.reason)
    assert one.state
    assert one.state.phase == "restarting"
    assert "no luck" in one.state.reason


def test_service_killed_leaves_no_grandchild(
    supervise: Callable[..., Supervised], tmp_path: Path
) -> None:
    note = tmp_path / "grandchild"
    one = supervise(
        "import subprocess, sys, time\n"
        "p = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        f"open({str(note)!r}, 'w').write(str(p.pid))\n"
        "time.sleep(60)"
    )
    wait_for(lambda: note.exists() and note.read_text())
    grandchild = int(note.read_text())
    os.kill(one.pid(), signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(grandchild))


def test_service_that_ignores_sigterm_is_killed_in_time(
    supervise: Callable[..., Supervised],
) -> None:
    one = supervise(
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('deaf', flush=True)\ntime.sleep(60)"
    )
    pid = one.pid()
    wait_for(lambda: "deaf" in one.log)
    began = time.monotonic()
    one.process.terminate()
    one.process.wait(10)
    assert time.monotonic() - began < 5  # honcho's patience
    assert not psutil.pid_exists(pid)


def test_supervisor_killed_takes_its_service_along(supervise: Callable[..., Supervised]) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux ends a child with its parent")
    one = supervise("import time; time.sleep(60)")
    pid = one.pid()
    one.process.kill()
    one.process.wait()
    wait_for(lambda: not psutil.pid_exists(pid))
    assert one.state
    assert one.state.phase == "stopped"


@pytest.mark.parametrize("again", [False, True], ids=["gone", "made anew"])
def test_deleted_state_ends_the_service_and_nothing_is_written_there(
    again: bool, supervise: Callable[..., Supervised]
) -> None:
    one = supervise("import time; time.sleep(60)")
    pid = one.pid()
    shutil.rmtree(one.var)
    if again:
        (one.var / "run").mkdir(parents=True)
        (one.var / "run" / "sample.lock").touch()
    assert one.process.wait(10) == 0
    assert not psutil.pid_exists(pid)
    left = [path.name for path in one.var.rglob("*") if path.is_file()]
    assert left == (["sample.lock"] if again else [])


def test_starter_killed_ends_the_service(tmp_path: Path) -> None:
    code = f"import subprocess\nsubprocess.run({[*SUPERVISE, 'sample', 'sleep', '60']})"
    starter = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"TERRAFLOW_RESOLVED": "1", "TERRAFLOW_VAR": str(tmp_path / "var")},
    )
    wait_for(lambda: (s := read_state(tmp_path / "var" / "run", "sample")) and s.pid)
    state = read_state(tmp_path / "var" / "run", "sample")
    assert state
    assert state.pid
    starter.kill()
    starter.wait()
    wait_for(lambda: not psutil.pid_exists(state.pid or 0))


def test_second_supervisor_of_a_service_is_refused(
    supervise: Callable[..., Supervised],
) -> None:
    one = supervise("import time; time.sleep(60)")
    one.pid()
    two = supervise("pass")
    assert two.process.wait(10) == 1
    assert two.process.stdout
    assert f"sample already runs in {one.var} (pid {one.process.pid})" in two.process.stdout.read()


def test_command_that_does_not_exist_is_told(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "terraflow.process.supervise", "sample", "no-such-program"],
        env=os.environ | {"TERRAFLOW_RESOLVED": "1", "TERRAFLOW_VAR": str(tmp_path)},
        stdout=subprocess.PIPE,
    )
    wait_for(lambda: (s := read_state(tmp_path / "run", "sample")) and s.phase == "restarting")
    state = read_state(tmp_path / "run", "sample")
    process.terminate()
    process.wait(10)
    assert state
    assert "no-such-program can't be run: No such file" in state.reason


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


#: A server of HTTP at a port that is the last word of its environment.
SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"well")
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def test_service_that_hangs_is_told_and_started_again(
    supervise: Callable[..., Supervised],
) -> None:
    port = free_port()
    one = supervise(
        SERVER,
        PORT=str(port),
        TERRAFLOW_PROBE_SAMPLE=f"http://127.0.0.1:{port}/",
        TERRAFLOW_SERVICES_HUNG_S="3",
        PYTHONUNBUFFERED="1",
    )
    first = one.pid()
    wait_for(lambda: "GET" in one.log)
    since = one.state.started_at
    os.kill(first, signal.SIGSTOP)
    wait_for(lambda: one.state and one.state.reason.startswith(SILENT))
    assert (one.state.phase, one.state.pid) == ("running", first)
    assert one.state.started_at == since
    wait_for(lambda: one.state and "did not answer for" in one.state.reason)
    assert one.state.phase == "restarting"
    wait_for(lambda: one.pid() != first)
    assert one.state.restarts == 1


def test_service_that_answers_again_is_well(supervise: Callable[..., Supervised]) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    one = supervise(
        SERVER, PORT=str(port), TERRAFLOW_PROBE_SAMPLE=url, TERRAFLOW_SERVICES_HUNG_S="0"
    )
    pid = one.pid()
    wait_for(lambda: "GET" in one.log)
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: one.state and one.state.reason.startswith(SILENT))
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: one.state and not one.state.reason)
    assert (one.pid(), one.state.restarts) == (pid, 0)


def test_killed_supervisor_of_several_leaves_nothing_after_the_next(tmp_path: Path) -> None:
    """Workers of a forked service carry the mark that their supervisor was started with."""
    variables = os.environ | {"TERRAFLOW_RESOLVED": "1", "TERRAFLOW_VAR": str(tmp_path)}
    code = "import subprocess; subprocess.run(['sleep', '60'], start_new_session=True)"
    words = [sys.executable, "-c", code]
    command = [*SUPERVISE, "--starter", "nobody", "one", *words, "+", "two", *words]
    with subprocess.Popen(command, env=variables) as supervisor:
        running = psutil.Process(supervisor.pid)

        def workers() -> list[psutil.Process]:
            return [p for p in running.children(recursive=True) if p.name() == "sleep"]

        wait_for(lambda: len(workers()) == 2)
        left = workers()
        supervisor.kill()
    wait_for(lambda: all(p.ppid() != supervisor.pid for p in left))
    assert all(p.is_running() for p in left)
    with subprocess.Popen(command, env=variables) as supervisor:
        wait_for(lambda: not any(p.is_running() for p in left))
        supervisor.terminate()


def test_service_that_a_full_disk_ends_starts_again_once_there_is_room() -> None:
    code = "import os, time; open(os.environ['FILE'], 'wb').write(bytes(3_000_000)); time.sleep(60)"
    with small_disk("2m") as folder:
        one = Supervised(folder / "var", code, FILE=str(folder / "file"))
        try:
            wait_for(lambda: one.state and one.state.phase == "restarting")
            time.sleep(8)  # by then it would have been started anew, and soon been given up
            assert one.state
            assert (one.state.phase, one.state.pid) == ("restarting", None)
            assert psutil.Process(one.process.pid).children() == []
            make_room(folder)
            wait_for(lambda: one.state and one.state.phase == "running" and one.state.restarts == 1)
        finally:
            one.process.terminate()
            one.process.wait(10)


def test_state_that_could_not_be_written_is_written_once_there_is_room() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with small_disk() as folder:
        one = Supervised(folder / "var", SERVER, PORT=str(port), TERRAFLOW_PROBE_SAMPLE=url)
        try:
            assert one.pid()
            wait_for(lambda: "GET" in one.log)
            (folder / "file").write_bytes(bytes(Disk.of(folder).free))
            os.kill(one.pid(), signal.SIGSTOP)
            said = one.process.stdout
            assert said
            wait_for(lambda: "can't be written" in said.readline())
            assert one.state
            assert not one.state.reason
            (folder / "file").unlink()
            wait_for(lambda: one.state and one.state.reason.startswith(SILENT), 10)
        finally:
            os.kill(one.pid(), signal.SIGCONT)
            one.process.terminate()
            one.process.wait(10)
