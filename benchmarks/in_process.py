"""Turns without an engine, in this process: the Agents SDK with its own sessions, and `Runner.run` with no session.

`python -m benchmarks.in_process FOLDER` takes a request a line: `prepare`, `seed KIND ITEMS`, `turn KIND`, `stream`.
It answers with a line each time, for the last two the milliseconds that it took. Kinds: `sqlite` and `memory` are the
SDK's SQLiteSession, in a file and not, with the SDK's own model class; `bare` is a list that is handed over, with the
model class of this project. `prepare` has the SDK take this project's shortcuts, in the whole process.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

from agents import OpenAIChatCompletionsModel, RunConfig, Runner, SQLiteSession, set_tracing_disabled
from openai import AsyncOpenAI

from agent import agent
from benchmarks.conversation import QUESTION, items
from benchmarks.model import NAME
from flameagent.model_choice import choose
from flameagent.service.models import build


class _Turns:
    def __init__(self, folder: Path) -> None:
        client = AsyncOpenAI()
        self._theirs = RunConfig(model=OpenAIChatCompletionsModel(NAME, client))
        self._ours = RunConfig(model=build.build(choose(os.environ)))
        self._folder = folder
        self._sessions: dict[str, SQLiteSession] = {}
        self._items: list[Any] = []

    async def prepare(self) -> None:
        build.prepare()

    async def seed(self, kind: str, count: str) -> None:
        if kind == "bare":
            self._items = list(items(int(count)))
            return
        path = ":memory:" if kind == "memory" else self._folder / f"{count}.db"
        session = self._sessions[kind] = SQLiteSession("benchmark", path)
        await session.add_items(list(items(int(count))))  # type: ignore[arg-type]

    async def turn(self, kind: str) -> float:
        start = time.perf_counter()
        if kind == "bare":
            given = [*self._items, {"role": "user", "content": QUESTION}]
            result = await Runner.run(agent, given, run_config=self._ours)
        else:
            result = await Runner.run(agent, QUESTION, session=self._sessions[kind], run_config=self._theirs)
        took = time.perf_counter() - start
        if kind == "bare":
            self._items = result.to_input_list()
        return took * 1000

    async def stream(self) -> float:
        start, first = time.perf_counter(), 0.0
        result = Runner.run_streamed(agent, QUESTION, run_config=self._theirs)
        async for event in result.stream_events():
            if not first and event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                first = time.perf_counter() - start
        return first * 1000


async def main() -> None:
    """Do what is asked until nothing more is."""
    set_tracing_disabled(True)
    turns = _Turns(Path(sys.argv[1]))
    for line in sys.stdin:
        verb, *arguments = line.split()
        print(await getattr(turns, verb)(*arguments), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
