"""Hold the signals that stop a program while a program it becomes or starts is not ready for them.

What is held stays so across fork and exec, and arrives when it may pass (pthread_sigmask(3)).
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["held", "let_pass"]

_STOP = {signal.SIGINT, signal.SIGTERM}


@contextmanager
def held() -> Iterator[None]:
    """Hold SIGINT and SIGTERM, also in what is started meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_pass() -> None:
    """Receive SIGINT and SIGTERM from now on, also those that came while they were held."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)
