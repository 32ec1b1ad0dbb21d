"""HTTP as uvicorn speaks it, with an end to waiting for a head, and without cutting anybody off."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["HEAD_S", "PatientProtocol"]

#: Seconds and bytes in which the first line and the headers must have come.
HEAD_S = 10.0
HEAD_BYTES = 64 * 2**10


class PatientProtocol(HttpToolsProtocol):
    """Closes a connection whose request's head comes too slowly, or is too large.

    uvicorn's own waits for it for ever, and keeps all of it.

    Attributes
    ----------
    drains : bool
        Of all connections. When the server ends, uvicorn closes those that wait for their next
        request, which may be on its way: its client gets no answer. When this is set, such a
        connection is left until that request was answered, with `Connection: close`, or until it
        has waited as long as any may.
    """

    drains = False
    _waits_for_head: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._wait_no_longer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes of a head; its last part may bring some of the body."""
        super().data_received(data)
        if self._waits_for_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self.transport.abort()

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of the head."""
        super().on_message_begin()
        self._head_bytes = 0
        self._wait()

    def on_headers_complete(self) -> None:
        """Wait no longer."""
        self._wait_no_longer()
        super().on_headers_complete()
        if self.drains:
            self.cycle.keep_alive = False  # its task has not begun yet

    def shutdown(self) -> None:
        """Close, or let it be asked once more."""
        if not self.drains:
            super().shutdown()
        elif self.cycle and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def _wait(self) -> None:
        self._wait_no_longer()
        self._waits_for_head = self.loop.call_later(HEAD_S, self.transport.abort)

    def _wait_no_longer(self) -> None:
        if self._waits_for_head:
            self._waits_for_head.cancel()
            self._waits_for_head = None
