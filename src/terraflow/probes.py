"""Ask a service whether it is ready."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

__all__ = ["answers", "get_json"]

TIMEOUT_S = 3.0


def answers(url: str) -> bool:
    """Tell whether a GET of the URL is answered with status 200 within 3 seconds."""
    return _get(url)[0] == 200


def get_json(url: str) -> Any:
    """Return the decoded answer to a GET, or None when there is none."""
    status, body = _get(url)
    try:
        return json.loads(body) if status == 200 else None
    except ValueError:
        return None


def _get(url: str) -> tuple[int, bytes]:
    # http.client and no client library: a supervisor runs beside every service and stays small,
    # and proxies of the shell must not see requests to this machine.
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", parts.path or "/")
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()
