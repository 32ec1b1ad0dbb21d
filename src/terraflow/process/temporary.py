"""Services that run only while something is being set up."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from terraflow.errors import ServiceError
from terraflow.probes import answers
from terraflow.process.child_processes import die_with_parent

__all__ = ["temporary_service"]

START_S = 30.0
STOP_S = 20.0


@contextmanager
def temporary_service(
    name: str,
    command: list[str],
    ready: str,
    *,
    env: Mapping[str, str],
    log: Path,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[None]:
    """Run a service; it answers when the block begins, and has ended when that is left.

    Parameters
    ----------
    name : str
        For the user.
    command : list of str
        Words of its command.
    ready : str
        URL that answers when it is ready.
    log : Path
        Takes its output.
    stop : Signals
        Ends it in order.

    Raises
    ------
    ServiceError
        It does not answer within 30 seconds.
    """
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=env, stdout=output, stderr=subprocess.STDOUT, preexec_fn=die_with_parent
        )
    try:
        deadline = time.monotonic() + START_S
        while not answers(ready):
            if process.poll() is not None or time.monotonic() > deadline:
                last = " | ".join(log.read_text().strip().splitlines()[-3:])
                raise ServiceError(
                    f"{name} did not start within {START_S:.0f} s: {last}; see {log}."
                )
            time.sleep(0.1)
        yield
    finally:
        process.send_signal(stop)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:  # it hangs
            process.kill()
            process.wait()
