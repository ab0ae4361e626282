"""`python -m benchmarks.http`: the server beside what people write by hand, in one run.

By hand is `benchmarks.naive_http`. Both are asked by the same client with the same model, each user in a session of
their own that has so many items. What is measured are turns a second, how long a turn takes, how long its first
event, and what the server weighs (PSS), with so many streams of events open, too.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer

from benchmarks.conversation import QUESTION, items
from benchmarks.engine import ROOT
from benchmarks.model import NAME

_PATIENCE = 300.0


@dataclass(frozen=True)
class Load:
    """What so many users at once came to: turns a second, and milliseconds of a turn and of its first event."""

    server: str
    users: int
    items: int
    turns_a_second: float
    p50: float
    p95: float
    first_event: float
    megabytes: float
    failed: int


class Ours:
    """The server of this project, with an engine of its own."""

    name = "here"

    def __init__(self, stack: ExitStack, folder: Path, environment: dict[str, str]) -> None:
        environment = {**environment, "LOCALFLAME_HOME": str(folder / "engine"), "HOME": str(folder)}
        environment |= {"FLAME_AGENT_USER": "benchmark", "AGENT_MEMORY": "off"}
        command = [sys.executable, str(ROOT / "client.py"), "serve", "--port", "0", "--json"]
        process = stack.enter_context(_process(command, environment))
        told = json.loads(process.stdout.readline() if process.stdout else "{}")
        self.pid = process.pid
        self.http = httpx2.AsyncClient(
            base_url=told["url"],
            headers={"authorization": f"Bearer {told['token']}"},
            timeout=_PATIENCE,
            limits=httpx2.Limits(max_connections=None),
        )
        stop = [sys.executable, str(ROOT / "client.py"), "engine", "stop"]
        stack.callback(lambda: subprocess.run(stop, env=environment, check=False, capture_output=True))

    async def begin(self, count: int) -> str:
        """A session with so many items; its ID."""
        made = await self.http.post("/v1/sessions", json={"messages": items(count)})
        made.raise_for_status()
        return str(made.json()["session_id"])

    def request(self, session: str, *, stream: bool) -> tuple[str, dict[str, Any]]:
        """The path and body of a question."""
        return f"/v1/sessions/{session}/turns", {"question": QUESTION, "stream": stream}


class ByHand:
    """FastAPI, the Agents SDK and SQLiteSession."""

    name = "by hand"

    def __init__(self, stack: ExitStack, folder: Path, environment: dict[str, str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "benchmarks.naive_http", str(folder / "naive.db"), str(port)]
        self.pid = stack.enter_context(_process(command, environment)).pid
        self.http = httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=_PATIENCE, limits=httpx2.Limits(max_connections=None)
        )
        self._count = 0
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.1)
        raise SystemExit("The server by hand does not start.")

    async def begin(self, count: int) -> str:
        """A session with so many items; its ID."""
        self._count += 1
        session = f"s{self._count}"
        (await self.http.post("/fill", json={"session": session, "items": items(count)})).raise_for_status()
        return session

    def request(self, session: str, *, stream: bool) -> tuple[str, dict[str, Any]]:
        """The path and body of a question."""
        return "/ask", {"session": session, "question": QUESTION, "stream": stream}


async def _load(server: Ours | ByHand, users: int, count: int, turns: int) -> Load:
    sessions = await _together(users, lambda: server.begin(count))
    failed = 0

    async def ask(session: str) -> float:
        nonlocal failed
        path, body = server.request(session, stream=False)
        began = time.perf_counter()
        answer = await server.http.post(path, json=body)
        failed += answer.status_code != 200
        return (time.perf_counter() - began) * 1000

    async def user(session: str) -> list[float]:
        return [await ask(session) for _ in range(turns)]

    await asyncio.gather(*map(ask, sessions))  # cold ones start
    began = time.perf_counter()
    took = [each for one in await asyncio.gather(*map(user, sessions)) for each in one]
    seconds = time.perf_counter() - began
    first = statistics.median([await _first_event(server, session) for session in sessions[:8]])
    took.sort()
    return Load(
        server.name,
        users,
        count,
        len(took) / seconds,
        statistics.median(took),
        took[int(len(took) * 0.95)],
        first,
        _pss(server.pid),
        failed,
    )


async def _first_event(server: Ours | ByHand, session: str) -> float:
    path, body = server.request(session, stream=True)
    began, took = time.perf_counter(), 0.0
    async with server.http.stream("POST", path, json=body) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: ") and not took:
                took = (time.perf_counter() - began) * 1000
    return took


async def _streams(server: Ours, count: int) -> tuple[float, int]:
    """The server's megabytes while so many read the events of a turn, and how many of them came to its end."""
    session = await server.begin(0)
    path, body = server.request(session, stream=True)
    async with server.http.stream("POST", path, json={**body, "question": "Answer slowly."}) as answer:
        lines = answer.aiter_lines()
        turn = json.loads((await anext(lines)).removeprefix("data: "))["turn_id"]

        async def watch() -> int:
            async with server.http.stream("GET", f"{path}/{turn}/events") as watched:
                return sum([1 async for line in watched.aiter_lines() if '"type":"done"' in line])

        watching = [asyncio.create_task(watch()) for _ in range(count)]
        await asyncio.sleep(15)
        weight = _pss(server.pid)
        async for _ in lines:
            pass
    return weight, sum(await asyncio.gather(*watching))


async def _together(count: int, make: Callable[[], Awaitable[str]]) -> list[str]:
    return list(await asyncio.gather(*(make() for _ in range(count))))


def _pss(pid: int) -> float:
    """The megabytes of a process."""
    found = re.search(r"^Pss: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


@contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def main(
    users: Annotated[str, typer.Option(help="How many at once.")] = "1,8,32",
    sizes: Annotated[str, typer.Option("--items", help="Items that the sessions begin with.")] = "100,1000",
    turns: Annotated[int, typer.Option(help="Turns of each user.")] = 6,
    streams: Annotated[int, typer.Option(help="Streams of events that are open at once.")] = 1000,
    output: Annotated[Path | None, typer.Option(help="A file for the results, as JSON.")] = None,
) -> None:
    """Measure the server beside one by hand."""
    found: list[Load] = []
    with tempfile.TemporaryDirectory(prefix="benchmark") as name, ExitStack() as stack:
        model = stack.enter_context(
            _process([sys.executable, "-m", "benchmarks.model"], {**os.environ, "BENCHMARK_PAUSE": "0"})
        )
        url = (model.stdout.readline() if model.stdout else "").strip()
        environment = {**os.environ, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "benchmark", "AGENT_MODEL": NAME}

        async def measure() -> None:
            for kind in (ByHand, Ours):
                server = kind(stack, Path(name), environment)
                for count in map(int, sizes.split(",")):
                    for many in map(int, users.split(",")):
                        found.append(await _load(server, many, count, turns))
                        _say(found[-1])
                if isinstance(server, Ours) and streams:
                    weight, ended = await _streams(server, streams)
                    print(f"{streams} streams of events: {weight:.0f} MB, {ended} came to the end", flush=True)

        asyncio.run(measure())
    if output is not None:
        output.write_text(json.dumps([asdict(each) for each in found], indent=2) + "\n")


def _say(load: Load) -> None:
    print(
        f"{load.server:8} {load.users:4} users {load.items:5} items: {load.turns_a_second:7.1f} turns/s, "
        f"p50 {load.p50:6.0f} ms, p95 {load.p95:6.0f} ms, first event {load.first_event:5.0f} ms, "
        f"{load.megabytes:4.0f} MB, {load.failed} failed",
        flush=True,
    )


if __name__ == "__main__":
    typer.run(main)
