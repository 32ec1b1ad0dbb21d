"""What a request meets before the model: who may ask, how much, and how many at once."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["CODES", "Guard", "Limits", "Place", "Queue", "RefusedError", "read_body", "refusal"]

#: Paths that are answered to who has no token: they tell that the server lives, and no more.
OPEN_PATHS = ("/health", "/ping")
#: Bodies that may be in memory at once, in the size of the largest.
BODIES = 8
#: Statuses to the names of MLflow's errors.
CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    408: "REQUEST_TIMEOUT",
    413: "REQUEST_TOO_LARGE",
    429: "TOO_MANY_REQUESTS",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}


class RefusedError(Exception):
    """A request is not answered by the model; the message says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """What is taken.

    Attributes
    ----------
    body_bytes, rows : int
        Of one request.
    queue : int
        Requests that may be there at once.
    body_s : float
        In which a request must have come whole.
    hosts : frozenset of str
        Names under which this server is asked; a page that has another name for it, by its own
        name server, is refused.
    token : str
        What all must send but who asks whether the server lives; "" asks for none.
    """

    body_bytes: int = 50 * 2**20
    rows: int = 1_000_000
    queue: int = 1000
    body_s: float = 60
    hosts: frozenset[str] = frozenset({"127.0.0.1", "localhost", "::1"})
    token: str = ""


class Queue:
    """Places for requests, and for the bytes of their bodies.

    Parameters
    ----------
    limits : Limits
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.requests = self.bytes = 0

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Take a place.

        Raises
        ------
        RefusedError
            With status 429: all are taken.
        """
        if self.requests >= self.limits.queue:
            raise RefusedError(
                429, f"{self.limits.queue} requests wait already; ask again in a second."
            )
        self.requests += 1
        place = Place(self)
        try:
            yield place
        finally:
            self.requests -= 1
            self.bytes -= place.bytes


class Place:
    """One request's part of the queue."""

    def __init__(self, queue: Queue) -> None:
        self.queue, self.limits = queue, queue.limits
        self.bytes = 0

    def add(self, size: int) -> None:
        """Count bytes that have come.

        Raises
        ------
        RefusedError
            With status 413 or 503: they are too many, of this request or of all.
        """
        self.bytes += size
        self.queue.bytes += size
        if self.bytes > self.limits.body_bytes:
            raise _too_large(self.limits)
        if self.queue.bytes > BODIES * self.limits.body_bytes:
            raise RefusedError(
                503, f"{self.queue.bytes >> 20} MB are being read already; ask again in a second."
            )


class Guard:
    """ASGI middleware that refuses by what the head of a request tells."""

    def __init__(
        self, app: ASGIApp, limits: Limits, count: Callable[[int], None] = lambda _: None
    ) -> None:
        self.app, self.limits, self.count = app, limits, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        if scope["type"] == "http":
            try:
                self._check(scope["path"], Headers(scope=scope))
            except RefusedError as error:
                self.count(error.status)
                await refusal(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check(self, path: str, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "")
        if _name(host) not in self.limits.hosts:
            raise RefusedError(
                403,
                f"Host {host[:80]!r} is not this server's name; ask it by "
                f"{', '.join(sorted(self.limits.hosts))}.",
            )
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            raise RefusedError(
                403, f"A page of {origin[:80]!r} may not ask this server; open its own page."
            )
        if self.limits.token and path not in OPEN_PATHS:
            given = headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self.limits.token.encode()):
                raise RefusedError(
                    401, "The token is missing or wrong; send it as Authorization: Bearer TOKEN."
                )
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self.limits.body_bytes:
            raise _too_large(self.limits)


async def read_body(request: Request, place: Place) -> bytearray:
    """Read a body as it comes.

    Raises
    ------
    RefusedError
        It is too large, comes too slowly, or there is no memory for it.
    """
    seconds = place.limits.body_s
    body = bytearray()  # request.body() holds every chunk until the last has come
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                place.add(len(chunk))
                body += chunk
    except TimeoutError:
        raise RefusedError(
            408, f"The request has not come whole in {seconds:g} s; send it faster."
        ) from None
    except ClientDisconnect:
        raise RefusedError(400, "The client has gone before its request had come whole.") from None
    return body


def refusal(error: RefusedError) -> Response:
    """Write a refusal in the form of MLflow's errors."""
    content = {"error_code": CODES[error.status], "message": str(error)}
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}}
    headers[503] = headers[429]
    return Response(
        json.dumps(content), error.status, headers.get(error.status), "application/json"
    )


def _too_large(limits: Limits) -> RefusedError:
    return RefusedError(
        413,
        f"The request is larger than {limits.body_bytes / 2**20:g} MB; send it in parts.",
    )


def _name(host: str) -> str:
    """Name of a Host header, without the port."""
    return (urlsplit(f"//{host}").hostname or "") if "@" not in host else ""
