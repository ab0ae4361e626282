"""Server-sent events, as the dialects of OpenAI have them: `data:` with a JSON object.

Neither `id:` nor `retry:` is sent: openai 3.54 takes the blank line behind them for an empty event, and fails. A
comment comes where nothing else does, so that proxies keep the connection, and a client that has gone is seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

from msgspec import json
from starlette.responses import StreamingResponse

_QUIET = 15.0  # seconds
PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


def event(value: Mapping[str, Any], name: str = "") -> bytes:
    """An event; `name` is its `event:` line, where the dialect has one."""
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + json.encode(value) + b"\n\n"


def stream(events: AsyncIterator[bytes]) -> StreamingResponse:
    """The response with these events, with comments between those that are far apart."""
    return StreamingResponse(_with_pings(events), media_type="text/event-stream", headers=HEADERS)


async def _with_pings(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    coming: asyncio.Task[bytes] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait({coming}, timeout=_QUIET)
            if not done:
                yield PING
                continue
            try:
                told, coming = coming.result(), None
            except StopAsyncIteration:
                return
            yield told
    finally:
        if coming is not None:
            coming.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration, Exception):
                await coming
        if hasattr(events, "aclose"):
            await events.aclose()
