"""Wait on the machine itself until what was deployed there answers."""

from __future__ import annotations

import sys
import time

from terraflow import probes, settings
from terraflow.stack.model_server import model_server_url
from terraflow.stack.status import status

__all__ = ["main"]


def main(what: str, seconds: float) -> int:
    """Return 0 as soon as all answers, 1 where that takes too long."""
    deadline = time.monotonic() + seconds
    while not _answers(what):
        if time.monotonic() > deadline:
            return 1
        time.sleep(0.5)
    return 0


def _answers(what: str) -> bool:
    current = settings.load()
    if what == "server":
        url = model_server_url(current)
        return bool(url) and probes.answers(f"{url}/health")
    rows = status(current)
    return bool(rows) and all(row.state == "ready" for row in rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2])))
