"""Real processes that end with their parent, and orphans that find a new one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import psutil
import pytest

from harness import wait_for
from terraflow.process import child_processes
from terraflow.process.child_processes import adopt_orphans, die_with_parent

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")

PARENT = """
import subprocess, sys, time
from terraflow.process.child_processes import die_with_parent
child = subprocess.Popen(["sleep", "60"], preexec_fn={preexec})
print(child.pid, flush=True)
time.sleep(60)
"""
#: Its child starts a grandchild and ends; then it tells the grandchild's parent.
ADOPTER = """
import os, subprocess, sys, psutil
from terraflow.process.child_processes import adopt_orphans
{first}
code = "import subprocess as s; print(s.Popen(['sleep', '60'], stdout=s.DEVNULL).pid)"
pid = int(subprocess.check_output([sys.executable, "-c", code]))
orphan = psutil.Process(pid)
print(orphan.ppid() == os.getpid())
orphan.kill()
"""


@pytest.fixture
def family() -> Iterator[Callable[[str], tuple[psutil.Process, psutil.Process]]]:
    """Start a parent and its child."""
    started: list[psutil.Process] = []

    def start(preexec: str) -> tuple[psutil.Process, psutil.Process]:
        parent = psutil.Popen(
            [sys.executable, "-c", PARENT.format(preexec=preexec)],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(parent)
        started.append(psutil.Process(int(parent.stdout.readline())))
        parent.stdout.close()
        return parent, started[-1]

    yield start
    for process in started:
        if process.is_running():
            process.kill()


def is_gone(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@linux
def test_die_with_parent_killed_parent_takes_the_child_along(
    family: Callable[[str], tuple[psutil.Process, psutil.Process]],
) -> None:
    parent, child = family("die_with_parent")
    assert not is_gone(child)
    parent.kill()
    parent.wait(10)
    wait_for(lambda: is_gone(child), 10)


def test_child_without_it_outlives_its_parent(
    family: Callable[[str], tuple[psutil.Process, psutil.Process]],
) -> None:
    parent, child = family("None")
    parent.kill()
    parent.wait(10)
    assert not is_gone(child)


@linux
@pytest.mark.parametrize(("first", "adopted"), [("adopt_orphans()", "True"), ("", "False")])
def test_adopt_orphans_makes_the_grandchild_a_child(first: str, adopted: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ADOPTER.format(first=first)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == f"{adopted}\n"


#: Ends what it has adopted of three; then it tells which of them live: one of its own mark, one
#: that is no part of a stack, and one that was started to go on.
ENDER = """
import os, subprocess, sys, psutil
from terraflow.process.child_processes import adopt_orphans
from terraflow.state import end_adopted
adopt_orphans()
code = "import subprocess as s; print(s.Popen(['sleep', '60'], stdout=s.DEVNULL).pid)"
path = {"PATH": os.environ["PATH"]}
pids = [
    int(subprocess.check_output([sys.executable, "-c", code], env=path | more))
    for more in ({"TERRAFLOW_VAR": "x", "TERRAFLOW_SUPERVISOR": "1:2"}, {}, {"TERRAFLOW_VAR": "x"})
]
service = subprocess.Popen(["sleep", "60"])
end_adopted([service.pid])
print([psutil.pid_exists(pid) for pid in pids], service.poll())
psutil.Process(pids[-1]).kill()
service.kill()
"""


@linux
def test_end_adopted_spares_services_and_what_was_started_to_go_on() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDER], stdout=subprocess.PIPE, text=True, timeout=60, check=True
    )
    assert done.stdout == "[False, False, True] None\n"


@pytest.mark.parametrize("ask", [die_with_parent, adopt_orphans])
def test_elsewhere_than_linux_the_kernel_is_not_asked(
    ask: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(child_processes.ctypes, "CDLL", None)
    ask()
