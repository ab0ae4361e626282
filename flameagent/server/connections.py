"""Connections of HTTP: how long somebody may take to say what they want.

Promises that a connection is closed on which the head of a request does not come, or which sends on and on where the
answer has been given: uvicorn 0.54 has a bound only for a connection on which nothing comes after an answer. What is
no HTTP is refused in the form of the dialects.
"""

from __future__ import annotations

import asyncio
import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_SLOWEST = 30.0  # seconds


class Connection(H11Protocol):
    """A connection of uvicorn with that bound."""

    _bound: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The first head has to come."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._watch()

    def data_received(self, data: bytes) -> None:
        """The next head may have begun with it, or have come to its end."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more."""
        self._unwatch()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Say that this is no HTTP, unless an answer is under way."""
        error = {"message": msg, "type": "invalid_request_error", "code": "invalid_http", "param": None}
        headers = [("content-type", "application/json"), ("x-should-retry", "false"), ("connection", "close")]
        head = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        try:
            for event in (head, h11.Data(data=json.dumps({"error": error}).encode()), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:
            pass
        self.transport.close()

    def _is_waited_for(self) -> bool:
        """Whether a head is what has to come, or the end of a body that nobody reads."""
        said, ours = self.conn.their_state, self.conn.our_state
        return said is h11.IDLE or (said is h11.SEND_BODY and ours is h11.DONE)

    def _watch(self) -> None:
        if not self._is_waited_for():
            self._unwatch()
        elif self._bound is None:
            self._bound = self.loop.call_later(_SLOWEST, self._give_up)

    def _unwatch(self) -> None:
        if self._bound is not None:
            self._bound.cancel()
            self._bound = None

    def _give_up(self) -> None:
        self._bound = None
        if self._is_waited_for() and not self.transport.is_closing():
            self.transport.close()
