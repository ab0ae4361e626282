"""Who does not say what they want is not waited for: with uvicorn itself, in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from flameagent.server import connections

HEAD = b"POST / HTTP/1.1\r\nHost: here\r\n"
PATIENCE = 20


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    """An answer that is given without a look at the body."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    configuration = uvicorn.Config(
        _answer, port=0, http=connections.Connection, ws="none", log_level="error", lifespan="off"
    )
    server = uvicorn.Server(configuration)
    serving = asyncio.ensure_future(server._serve())
    while not server.started:  # noqa: ASYNC110 — uvicorn has no other word for it
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        server.should_exit = True
        await serving


@pytest.mark.parametrize(
    "said",
    [
        b"",
        HEAD,
        HEAD + b"Content-Length: 2\r\n\r\n{}" + HEAD,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ],
    ids=["nothing", "half a head", "half a second head", "a body that nobody reads"],
)
async def test_a_connection_on_which_nothing_whole_comes_is_closed(
    said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_SLOWEST", 0.2)
    async with connected() as (reader, writer):
        writer.write(said)

        async def drip() -> None:
            while True:  # a byte now and then, as slow senders do
                await asyncio.sleep(0.05)
                writer.write(b"X" if said.endswith(b"here\r\n") else b"1\r\n{\r\n" if said else b"")

        dripping = asyncio.ensure_future(drip())
        try:
            async with asyncio.timeout(PATIENCE):
                await reader.read()
        finally:
            dripping.cancel()


async def test_a_whole_request_is_answered_and_the_connection_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_SLOWEST", 0.2)
    async with connected() as (reader, writer):
        for _ in range(3):
            writer.write(HEAD + b"Content-Length: 2\r\n\r\n{}")
            assert b"200 OK" in await reader.readuntil(b"ok")
            await asyncio.sleep(0.3)


async def test_what_is_no_http_is_refused_in_the_form_of_the_dialects() -> None:
    async with connected() as (reader, writer):
        writer.write(b"\x16\x03\x01\x02\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400") and b"x-should-retry: false" in head
        assert json.loads(body)["error"]["code"] == "invalid_http"
