"""Ask a service whether it is ready."""

from __future__ import annotations

import http.client
import json
import socket
import struct
from typing import Any
from urllib.parse import urlsplit

__all__ = ["answers", "get_json"]

TIMEOUT_S = 3.0


def answers(url: str) -> bool:
    """Tell whether a service answers within 3 seconds.

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
    # http.client and no client library: a supervisor runs beside every service and stays small,
    # and proxies of the shell must not see requests to this machine.
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        query = f"?{parts.query}" if parts.query else ""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("GET", (parts.path or "/") + query, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def _asks_for_password(path: str) -> bool:
    """Begin a session, as pg_isready does: a server that can't work yet sends an error instead."""
    words = struct.pack("!i", 3 << 16) + b"user\0terraflow\0database\0postgres\0\0"
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(path)
            connection.sendall(struct.pack("!i", 4 + len(words)) + words)
            return connection.recv(1024)[:1] == b"R"  # all of it, else the server logs a reset
    except OSError:
        return False
