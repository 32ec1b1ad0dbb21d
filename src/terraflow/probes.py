"""Ask a service whether it is ready."""

from __future__ import annotations

import json
import socket
import struct
import time
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit

__all__ = ["Health", "answers", "get_json"]

#: Between two questions to a running service, and how long an answer may take, in seconds.
PAUSE_S, ANSWER_S = 5.0, 10.0


def answers(url: str) -> bool:
    """Tell whether a service answers within 10 seconds.

    Parameters
    ----------
    url : str
        Of HTTP, where a GET gives status 200; or postgresql://PATH of a socket.
    """
    parts = urlsplit(url)
    if parts.scheme == "postgresql":
        return _asks_for_password(parts.path)
    return _get(url)[0] == 200


def get_json(url: str, token: str = "") -> Any:
    """Return the decoded answer to a GET, or None when there is none.

    Parameters
    ----------
    token : str
        Sent along, where the service asks for one.
    """
    status, body = _get(url, token)
    try:
        return json.loads(body) if status == 200 else None
    except ValueError:
        return None


def _get(url: str, token: str = "") -> tuple[int, bytes]:
    # sockets and no client library: a supervisor runs beside every service and stays small, and
    # proxies of the shell must not see requests to this machine.
    parts, answer = urlsplit(url), b""
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), ANSWER_S) as server:
            server.sendall(_request(parts, token))
            while chunk := server.recv(65536):
                answer += chunk
    except OSError:
        return 0, b""
    return _parse(answer)


def _request(parts: SplitResult, token: str = "") -> bytes:
    """Write a request of HTTP 1.0, whose answer ends with the connection (RFC 1945)."""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    login = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"GET {path} HTTP/1.0\r\nHost: {parts.netloc}\r\n{login}\r\n".encode()


def _parse(answer: bytes) -> tuple[int, bytes]:
    """Give status and body of an answer; 0 where it is none of HTTP."""
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return 0, b""
    return int(words[1]), body


def _asks_for_password(path: str) -> bool:
    """Begin a session, as pg_isready does: a server that can't work yet sends an error instead."""
    words = struct.pack("!i", 3 << 16) + b"user\0terraflow\0database\0postgres\0\0"
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_S)
            connection.connect(path)
            connection.sendall(struct.pack("!i", 4 + len(words)) + words)
            return connection.recv(1024)[:1] == b"R"  # all of it, else the server logs a reset
    except OSError:
        return False


class Health:
    """Whether a service answers, since when it does not: asked without waiting for it.

    Steps of one request are taken between other work of the supervisor, so that a service that
    hangs keeps it from nothing, and no thread is needed beside forks.

    Parameters
    ----------
    url : str
        Of HTTP, where a GET gives status 200; with #COMPONENT the page of Airflow's health, where
        the component is one of several. "" for a service that can't be asked.

    Attributes
    ----------
    silent_since : float or None
        Seconds of `time.monotonic`, which goes on when the clock is set and rests while the
        machine sleeps, at which the first question was asked that it has not answered;
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
        self._next = time.monotonic() + PAUSE_S

    def step(self) -> None:
        """Ask, or see whether there is an answer."""
        now = time.monotonic()
        if not self.parts.hostname or (not self._socket and now < self._next):
            return
        try:
            if not self._socket:
                self._ask(now)
            answer = self._read()
        except OSError:
            answer = b""
        if answer is None and now - self._asked < ANSWER_S:
            return
        self._close()
        self._next = now + PAUSE_S
        self._note(self._is_well(answer or b""))

    def _ask(self, now: float) -> None:
        self._asked, self._body = now, b""
        address = str(self.parts.hostname), self.parts.port or 80
        self._socket = socket.create_connection(address, timeout=1)  # the kernel answers, at once
        self._socket.setblocking(False)
        self._socket.send(_request(self.parts))

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
        status, body = _parse(answer)
        if not self.parts.fragment:
            return status == 200
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
