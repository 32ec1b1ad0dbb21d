"""Ask a service whether it still answers, without waiting for it.

Steps of one request are taken between other work of the supervisor, so that a service that hangs
keeps it from nothing, and neither a thread nor an HTTP client is needed.
"""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress
from urllib.parse import urlsplit

__all__ = ["Health"]

#: Between two questions, and how long an answer may take, in seconds.
PAUSE_S, TIMEOUT_S = 5.0, 10.0


class Health:
    """Whether a service answers, since when it does not.

    Parameters
    ----------
    url : str
        Of HTTP, where a GET gives status 200; with #COMPONENT the page of Airflow's health, where
        the component is one of several. "" for a service that can't be asked.

    Attributes
    ----------
    silent_since : float or None
        Seconds since the epoch at which the first question was asked that it has not answered;
        None while it answers, or has not answered yet since its start.
    """

    def __init__(self, url: str) -> None:
        self.parts = urlsplit(url)
        self._socket: socket.socket | None = None
        self.restart()

    def restart(self) -> None:
        """Begin anew, with a service that was just started."""
        self._close()
        self.silent_since: float | None = None
        self._answered = False
        self._next = time.time() + PAUSE_S

    def step(self) -> None:
        """Ask, or see whether there is an answer."""
        now = time.time()
        if not self.parts.hostname or (not self._socket and now < self._next):
            return
        try:
            if not self._socket:
                self._ask(now)
            answer = self._read()
        except OSError:
            answer = b""
        if answer is None and now - self._asked < TIMEOUT_S:
            return
        self._close()
        self._next = now + PAUSE_S
        self._note(self._is_well(answer or b""))

    def _ask(self, now: float) -> None:
        self._asked, self._body = now, b""
        address = str(self.parts.hostname), self.parts.port or 80
        self._socket = socket.create_connection(address, timeout=1)  # the kernel answers, at once
        self._socket.setblocking(False)
        path = self.parts.path or "/"
        host = f"{self.parts.hostname}:{self.parts.port}"
        self._socket.send(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())

    def _read(self) -> bytes | None:
        """Read what has come; None while it is not all."""
        assert self._socket  # noqa: S101 - for the type checker
        with suppress(BlockingIOError):
            while chunk := self._socket.recv(65536):
                self._body += chunk
            return self._body
        return None

    def _is_well(self, answer: bytes) -> bool | None:
        """Tell of an answer; None where it does not concern the component."""
        head, _, body = answer.partition(b"\r\n\r\n")
        status = head.split(b" ", 2)[1:2]
        if not self.parts.fragment:
            return status == [b"200"]
        try:
            return bool(json.loads(body)[self.parts.fragment]["status"] == "healthy")
        except (ValueError, KeyError, TypeError):
            return None

    def _note(self, well: bool | None) -> None:
        if well:
            self._answered, self.silent_since = True, None
        elif well is False and self._answered and not self.silent_since:
            self.silent_since = self._asked

    def _close(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None
