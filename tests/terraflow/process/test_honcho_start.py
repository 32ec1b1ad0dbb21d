"""Stop what honcho starts, at any moment of its start."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness import wait_for
from terraflow.process import honcho_start
from terraflow.process.signals import held

LINE = (
    "exec {python} -c 'from terraflow.process.signals import let_pass; let_pass();"
    " import time; time.sleep(60)'\n"
)


@pytest.mark.parametrize("delay_ms", range(0, 400, 40))
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_while_starting_ends_all_without_a_traceback(
    number: signal.Signals, delay_ms: int, tmp_path: Path
) -> None:
    procfile = tmp_path / "Procfile"
    names = ["one", "two", "three"]
    line = LINE.format(python=sys.executable)
    procfile.write_text("".join(f"{name}: {line}" for name in names))
    mark = {"TEST_HONCHO_START": str(tmp_path)}
    with held():
        honcho = subprocess.Popen(
            [sys.executable, "-m", honcho_start.__name__, str(procfile), *names],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | mark,
            text=True,
        )
    time.sleep(delay_ms / 1000)
    if number == signal.SIGINT:  # Ctrl+C reaches honcho's helper processes too
        os.killpg(honcho.pid, number)
    else:
        honcho.send_signal(number)
    printed, _ = honcho.communicate(timeout=20)
    assert "Traceback" not in printed
    assert honcho.returncode in (130, 143)
    assert not [p.pid for p in psutil.process_iter() if _has(p, mark)]


def _has(process: psutil.Process, mark: dict[str, str]) -> bool:
    try:
        return mark.items() <= process.environ().items()
    except psutil.Error:
        return False


@pytest.mark.parametrize("victim", range(3))
def test_helper_that_is_killed_ends_all_and_is_told_once(victim: int, tmp_path: Path) -> None:
    """honcho waited for it for ever, and wrote "sending SIGKILL" ten times a second."""
    procfile = tmp_path / "Procfile"
    names = ["one", "two", "three"]
    line = LINE.format(python=sys.executable)
    procfile.write_text("".join(f"{name}: {line}" for name in names))
    command = [sys.executable, "-m", honcho_start.__name__, str(procfile), *names]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as honcho:
        running = psutil.Process(honcho.pid)
        deadline = time.monotonic() + 20
        while len(running.children(recursive=True)) < 2 * len(names):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        all_of_it = running.children(recursive=True)
        running.children()[victim].kill()
        printed, _ = honcho.communicate(timeout=20)
    assert printed.count("SIGKILL") <= len(names)
    for process in all_of_it:  # a line whose helper is gone ends by its supervisor
        if process.is_running():
            process.kill()


def test_suspended_helper_ends_with_honcho(tmp_path: Path) -> None:
    """It held the lock of the stack, which no `down` and no `up` could take any more."""
    procfile = tmp_path / "Procfile"
    procfile.write_text(f"one: {LINE.format(python=sys.executable)}")
    command = [sys.executable, "-m", honcho_start.__name__, str(procfile), "one"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as honcho:
        running = psutil.Process(honcho.pid)
        wait_for(lambda: len(running.children(recursive=True)) == 2)
        helper, line = running.children(recursive=True)
        helper.suspend()
        honcho.kill()
    psutil.wait_procs([helper], 10)
    assert not helper.is_running()
    line.kill()


def test_log_of_honcho_is_bounded(tmp_path: Path) -> None:
    procfile, log = tmp_path / "Procfile", tmp_path / "log" / "honcho.log"
    many = "for number in range(4000): print(number, 'x' * 50)"
    procfile.write_text(f'one: {sys.executable} -c "{many}"\n')
    log.parent.mkdir()
    code = (
        "import sys; from pathlib import Path; from terraflow.process import honcho_start, output;"
        "output.MAX_LOG_BYTES = 20_000; honcho_start.main(Path(sys.argv[1]), ['one'])"
    )
    with log.open("w") as file:
        subprocess.run(
            [sys.executable, "-c", code, str(procfile)],
            stdout=file,
            stderr=file,
            env=os.environ | {"TERRAFLOW_VAR": str(tmp_path)},
            timeout=60,
            check=True,
        )
    sizes = {path.name: path.stat().st_size for path in log.parent.iterdir()}
    assert set(sizes) == {"honcho.log", "honcho.log.1"}
    assert max(sizes.values()) < 40_000


@pytest.mark.parametrize("reader", ["is gone", "reads nothing"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_ends_all_where_nobody_reads(
    number: signal.Signals, reader: str, tmp_path: Path
) -> None:
    """honcho's own error in its signal handler kept its helpers, for which it waited for ever."""
    procfile = tmp_path / "Procfile"
    script = tmp_path / "line.py"
    script.write_text(
        "import time\nfrom terraflow.process.signals import let_pass\nlet_pass()\n"
        "while True:\n    print('x' * 1000, flush=True)\n    time.sleep(0.001)\n"
    )
    procfile.write_text(f"one: exec {sys.executable} {script}\n")
    mark = {"TEST_HONCHO_START": str(tmp_path)}
    with held():
        honcho = subprocess.Popen(
            [sys.executable, "-m", honcho_start.__name__, str(procfile), "one"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | mark,
        )
    assert honcho.stdout
    honcho.stdout.readline()
    if reader == "is gone":
        honcho.stdout.close()
    time.sleep(2)  # the pipe is full by now
    os.killpg(honcho.pid, number) if number == signal.SIGINT else honcho.send_signal(number)
    assert honcho.wait(20) in (130, 143)
    assert not [p.pid for p in psutil.process_iter() if _has(p, mark)]
