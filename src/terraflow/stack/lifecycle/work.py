"""Who works on the state of a checkout, and who has it alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from terraflow.console import command, say
from terraflow.errors import ServiceError
from terraflow.lock import Lock
from terraflow.settings import Settings
from terraflow.state import read_all

__all__ = ["alone", "wait_for_reset", "working"]

#: Shared by all commands that work on the state.
WORK = "work.lock"
#: How long a reset may take, which deletes files.
RESET_S = 600.0


@contextmanager
def working(settings: Settings) -> Iterator[None]:
    """Keep the state from being deleted as long as something is done with it.

    Raises
    ------
    ServiceError
        It is being deleted, and that does not come to an end.
    StorageError
        The folder can't be written.
    """
    lock = Lock(settings.run_dir / WORK)
    lock.wait("the reset", RESET_S, say, shared=True)
    try:
        yield
    finally:
        lock.release()


def wait_for_reset(settings: Settings) -> None:
    """Wait until nobody has the state alone; unlike `working`, make no file for that.

    Raises
    ------
    ServiceError
        That does not come to an end.
    """
    lock = Lock(settings.run_dir / WORK)
    deadline, told = time.monotonic() + RESET_S, False
    while lock.is_held():
        if not told:
            told = True
            say(f"Waiting for the reset that process {lock.holder()} is running")
        if time.monotonic() > deadline:
            raise ServiceError(
                f"Process {lock.holder()} has not ended the reset within {RESET_S:.0f} s; see "
                "whether it hangs, and end it if so, then repeat."
            )
        time.sleep(0.1)


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Keep others from starting the stack, and from working on its state.

    Raises
    ------
    ServiceError
        Somebody does already.
    """
    running = [s.service for s in read_all(settings.run_dir).values() if s.phase != "stopped"]
    with ExitStack() as held:
        for name in () if running else ("up.lock", "setup.lock", WORK):
            lock = Lock(settings.run_dir / name)
            if lock.acquire():
                held.callback(lock.release)
            elif name == WORK:
                raise ServiceError(
                    f"A command works on {settings.var} (process {lock.holder()}); wait for its "
                    "end, or stop it with Ctrl+C, then repeat."
                )
            else:
                running.append(f"process {lock.holder()}")
        if running:
            raise ServiceError(
                f"TerraFlow runs here ({', '.join(running)}); stop it with `{command('down')}` "
                "first."
            )
        yield
