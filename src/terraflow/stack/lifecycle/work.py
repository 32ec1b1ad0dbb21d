"""Who works on the state of a checkout, and who has it alone."""

from __future__ import annotations

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
    """Wait until nobody has the state alone.

    Raises
    ------
    ServiceError
        That does not come to an end.
    """
    Lock(settings.run_dir / WORK).wait_until_free("the reset", RESET_S, say)


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
