"""How long lists of sessions take: `uv run python -m benchmarks.lists [COUNT …]`, in a table of seconds.

Of an embedded engine, as itself and by its addresses, as a cluster is reached; each session has two turns. A list is
read by a client in this process: with nothing known, and again (p50 of five).
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import localflame
from flameagent.apis import MyContext
from flameagent.client.application import Application
from flameagent.client.client import Client
from flameagent.client.engine import Cluster, Embedded
from flameagent.client.environment import Environment
from flameagent.conversation import ConversationLog, TurnBody, context
from flameagent.flame import Endpoints
from flameagent.flame.cache import ObjectCache
from flameagent.flame.frontend import Frontend

_NAME = "openai-agent"
_ANSWER = "It will be sunny. " * 20


def _make(endpoints: Endpoints, start: int, end: int) -> None:
    frontend, cache = Frontend(endpoints), ObjectCache(endpoints)

    def make(number: int) -> None:
        session = f"{_NAME}-N{number:05}"
        reference = cache.put(f"{_NAME}/{session}", context.write(MyContext()))
        frontend.create_session(session, _NAME, reference.encode())
        log = ConversationLog(cache, reference.key)
        for turn in range(2):
            question = f"What will the weather be in city {number} on day {turn}?"
            items = [{"role": "user", "content": question}, {"role": "assistant", "content": _ANSWER}]
            log.append(TurnBody(f"{session}/{turn}", question, items, {"answer": _ANSWER}), read=turn == 0)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(make, range(start, end)))


def _seconds(act: Callable[[], object], times: int = 5) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _measure(client: Client, count: int) -> list[float]:
    """Seconds of all with nothing known, of all again, and of the newest 20 again."""
    with tempfile.TemporaryDirectory() as known:
        os.environ["XDG_CACHE_HOME"] = known
        client.reach()
        found = [_seconds(client.sessions, 1), _seconds(client.sessions), _seconds(lambda: client.sessions(limit=20))]
        assert len(client.sessions()) == count
        return found


def main(counts: list[int]) -> None:
    print(f"{'sessions':>8}  {'reached':12}  {'first time':>10}  {'all':>6}  {'newest 20':>9}")
    with tempfile.TemporaryDirectory() as folder:
        home, made = Path(folder) / "home", 0
        engine = localflame.start(home)
        try:
            localflame.Control(home).application(_NAME, folder=folder, command=sys.executable)
            endpoints = Endpoints(engine.endpoint, engine.cache_endpoint)
            for count in sorted(counts):
                _make(endpoints, made, count)
                made = count
                for how, reached in (("as itself", Embedded(home)), ("by addresses", Cluster(endpoints))):
                    with Client(reached, Application(_NAME), Environment({})) as client:
                        first, again, newest = _measure(client, count)
                    print(f"{count:8}  {how:12}  {first:10.2f}  {again:6.2f}  {newest:9.2f}", flush=True)
        finally:
            localflame.stop(home)


if __name__ == "__main__":
    main([int(count) for count in sys.argv[1:]] or [100, 1000, 10_000])
