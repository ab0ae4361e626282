"""A chat-completions server that says the same at once, whatever it is asked: it costs a benchmark next to nothing.

`python -m benchmarks.model [PORT]` prints its URL and serves on loopback until it is ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAME = "scripted"
ANSWER = "Fine. " * 20
PAUSE = float(os.environ.get("BENCHMARK_PAUSE", "1.0"))
"""Seconds between the first word of a streamed answer and the rest."""
SLOWLY = 30.0
"""The same where the question says slowly."""


def main() -> None:
    """Serve."""
    asyncio.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))


@contextmanager
def served() -> Iterator[str]:
    """Such a server in a process of its own; its URL."""
    with serving("benchmarks.model") as url:
        yield url


@contextmanager
def serving(*module: str) -> Iterator[str]:
    """A module of ours, with its arguments, in a process of its own; the URL that it prints first."""
    command = [sys.executable, "-m", *module]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[1])
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


async def _main(port: int) -> None:
    server = await asyncio.start_server(_converse, "127.0.0.1", port, limit=2**24)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            body = await reader.readexactly(int(length[1]) if length else 0)
            if re.search(rb'"stream": ?true', body):
                await _stream(writer, SLOWLY if b"slowly" in body else PAUSE)
            else:
                text = json.dumps(_WHOLE).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(text)
                    + text
                )
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _stream(writer: asyncio.StreamWriter, pause: float) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    _event(writer, _chunk({"role": "assistant", "content": ANSWER[:6]}))
    await writer.drain()
    await asyncio.sleep(pause)
    _event(writer, _chunk({"content": ANSWER[6:]}, finish="stop"))
    _event(writer, {**_COMMON, "object": "chat.completion.chunk", "choices": [], "usage": _USAGE})
    _event(writer, None)
    writer.write(b"0\r\n\r\n")


def _event(writer: asyncio.StreamWriter, data: dict[str, Any] | None) -> None:
    text = b"data: %s\n\n" % (b"[DONE]" if data is None else json.dumps(data).encode())
    writer.write(b"%x\r\n%s\r\n" % (len(text), text))


def _chunk(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {**_COMMON, "object": "chat.completion.chunk", "choices": [choice]}


_USAGE = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
_COMMON = {"id": "c-1", "created": 1, "model": NAME}
_WHOLE = {
    **_COMMON,
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}],
    "usage": _USAGE,
}

if __name__ == "__main__":
    main()
