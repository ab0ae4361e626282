"""The measurements, one after the other. What is compared takes its turns in alternation, so that a noisy machine
is noisy for all.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import Progress

from benchmarks.conversation import QUESTION, items
from benchmarks.engine import ROOT, Engine
from benchmarks.model import ANSWER, PAUSE
from flameagent.client import connect
from flameagent.client.client import Client
from flameagent.conversation import ConversationLog, FlameSession, TurnBody, Usage
from flameagent.conversation.reader import SEGMENT_RECORDS
from flameagent.flame.objects import Rows

IN_A_ROW = 5
"""Turns of one kind, before it is another's: a single one would be slow because of what the others left in the
processor's caches."""
IMPORT = "`import agents` in a new process"
HELP = "client, start to exit: `--help`"
WARM = "client, start to exit: a turn, instance warm"
NEW = "client, start to exit: a new session, another has run"
NOTHING = "client, start to exit: a new session, nothing running"


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    sizes: tuple[int, ...] = (0, 10, 100, 1000, 4000)
    rounds: int = 6
    long: int = 10_000
    turns: int = 200
    clients: int = 7
    crowds: dict[int, int] = field(default_factory=lambda: {1: 100, 8: 25, 32: 15})
    segments: tuple[int, ...] = (64, 128, 256, 512, 896)


class Bytes(NamedTuple):
    """Of a turn: the JSON of the items that it adds, what is in the cache for it, what the file grew by, what was
    written to the disk."""

    items: float
    cached: float
    stored: float
    written: float


@dataclass
class Results:
    """All that was measured. Times are in milliseconds, memory in MB."""

    engine: str
    turns: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    one_off: dict[str, list[float]] = field(default_factory=dict)
    bytes_a_turn: dict[str, Bytes] = field(default_factory=dict)
    cold: dict[int, tuple[float, int]] = field(default_factory=dict)
    segments: dict[int, tuple[float, float, int]] = field(default_factory=dict)
    crowds: dict[int, tuple[float, float]] = field(default_factory=dict)
    noise: list[float] = field(default_factory=list)
    minutes: float = 0.0

    @property
    def noisy(self) -> float:
        """How much longer the same work took at the 90th percentile than at its best."""
        return statistics.quantiles(self.noise, n=10)[-1] / min(self.noise)


class Measures:
    """Takes the measurements on an engine. `folder` is for what they leave behind."""

    def __init__(self, engine: Engine, folder: Path, progress: Progress) -> None:
        self._engine = engine
        self._folder = folder
        self._progress = progress
        where = "the embedded engine" if engine.home else f"the Flame cluster at {engine.endpoints.frontend}"
        self._results = Results(where)
        model = {name: os.environ[name] for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "AGENT_MODEL")}
        self._ours = engine.register("flameagent.service", "agent", **model)
        self._all = engine.register("flameagent.service", "agent", **model, AGENT_HISTORY="all")
        self._naive = engine.register("benchmarks.naive", **model)

    def take(self, plan: Plan) -> Results:
        """All of them."""
        for size in plan.sizes:
            self._turns(size, plan.rounds)
        self._bytes(plan.turns)
        self._cold(plan.sizes[-1], plan.long)
        for records in plan.segments:
            self._segment(records)
        for sessions, each in plan.crowds.items():
            self._crowd(sessions, each)
        self._clients(plan.clients)
        return self._results

    def _turns(self, size: int, rounds: int) -> None:
        engine = self._engine
        with _InProcess(self._folder) as inside, _InProcess(self._folder) as prepared:
            prepared.ask("prepare")
            prepared.ask("seed", "bare", str(size))
            for kind in ("sqlite", "memory"):
                inside.ask("seed", kind, str(size))
            windowed, whole, naive = (engine.session(name, size) for name in (self._ours, self._all, self._naive))
            kinds: dict[str, Callable[[], float]] = {
                "sqlite": lambda: inside.ask("turn", "sqlite"),
                "memory": lambda: inside.ask("turn", "memory"),
                "bare": lambda: prepared.ask("turn", "bare"),
                "naive": lambda: engine.turn(naive),
                "all": lambda: engine.turn(whole),
                "window": lambda: engine.turn(windowed),
            }
            for turn in kinds.values():  # imports, connections, caches
                turn()
                turn()
            for _ in self._progress.track(range(rounds), description=f"turns at {size} items"):
                for kind, turn in kinds.items():
                    self._results.noise.append(_work())
                    taken = self._results.turns.setdefault(kind, {}).setdefault(size, [])
                    taken += [turn() for _ in range(IN_A_ROW)]
        engine.close_sessions()

    def _bytes(self, turns: int) -> None:
        """The bytes of a turn on the disk, beside the JSON of its two items. The embedded engine's disk only."""
        if self._engine.home is None:
            return
        added = 0
        for kind, application in {"ours": self._ours, "naive": self._naive}.items():
            session = self._engine.session(application, 1000)
            self._engine.turn(session)
            if kind == "ours":  # whose items are the other's, too
                log = ConversationLog(self._engine.cache, self._engine.key(session))
                ((_, of_turn),) = log.load_all().turns()
                added = sum(len(json.dumps(item)) for item in of_turn)
            before = self._cached(), self._stored(), self._written()
            for _ in self._progress.track(range(turns), description=f"bytes of a turn, {kind}"):
                self._engine.turn(session)
            after = self._cached(), self._stored(), self._written()
            grown = ((new - old) / turns for old, new in zip(before, after, strict=True))
            self._results.bytes_a_turn[kind] = Bytes(float(added), *grown)
            self._engine.close_sessions()

    def _cached(self) -> int:
        with self._file() as file:
            return int(file.execute("SELECT sum(length(data)) FROM payloads").fetchone()[0])

    def _stored(self) -> int:
        """The file's pages that hold something: it grows by many at once."""
        with self._file() as file:
            (pages,), (free,), (size,) = (
                file.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count", "page_size")
            )
            return int((pages - free) * size)

    @contextmanager
    def _file(self) -> Iterator[sqlite3.Connection]:
        assert self._engine.home is not None
        with closing(sqlite3.connect(f"file:{self._engine.home / 'flame.db'}?mode=ro", uri=True)) as file:
            yield file

    def _written(self) -> int:
        for line in Path(f"/proc/{self._engine.pid}/io").read_text().splitlines():
            if line.startswith("write_bytes:"):
                return int(line.split()[1])
        return 0

    def _cold(self, *sizes: int) -> None:
        for size in sizes:
            session = self._engine.session(self._ours, 0)
            key = self._engine.key(session)
            log = ConversationLog(self._engine.cache, key)
            for number in self._progress.track(range(size // 4), description=f"a conversation of {size} items"):
                log.append(_turn(number))
            self._results.cold[size] = self._read_cold(session, key)

    def _segment(self, records: int) -> None:
        """With so many records a segment, of two that are nearly full: milliseconds of an append in the second, those
        of a worker's reading before its first turn, and its calls of the cache."""
        session = self._engine.session(self._ours, 0)
        key = self._engine.key(session)
        log = ConversationLog(self._engine.cache, key, segment_records=records)
        took = []
        for number in self._progress.track(range(2 * records - 2), description=f"segments of {records} records"):
            start = time.perf_counter()
            log.append(_turn(number))
            took.append((time.perf_counter() - start) * 1000)
        cold, calls = self._read_cold(session, key, records)
        self._results.segments[records] = statistics.median(took[records:]), cold, calls

    def _read_cold(self, session: str, key: str, records: int = SEGMENT_RECORDS) -> tuple[float, int]:
        """A worker's reading before its first turn: milliseconds, and calls of the cache."""
        took = []
        for _ in range(9):
            counted = _Counted(self._engine.cache)
            start = time.perf_counter()
            asked = FlameSession(session, ConversationLog(counted, key, segment_records=records))
            _first(asked)
            took.append((time.perf_counter() - start) * 1000)
        return statistics.median(took), counted.calls

    def _crowd(self, sessions: int, turns: int) -> None:
        """Turns a second, of so many warm sessions at once, and the memory of all of them together."""
        ids = [self._engine.session(self._ours, 100) for _ in range(sessions)]
        done = self._progress.add_task(f"{sessions} sessions at once", total=sessions * turns)
        at_once = ThreadPoolExecutor(sessions)
        list(at_once.map(self._engine.turn, ids))  # their instances

        def ask(session: str) -> None:
            for _ in range(turns):
                self._engine.turn(session)
                self._progress.advance(done)

        start = time.perf_counter()
        list(at_once.map(ask, ids))
        took = time.perf_counter() - start
        memory = _memory(self._engine.pid) if self._engine.home else 0.0
        self._results.crowds[sessions] = sessions * turns / took, memory
        self._engine.close_sessions()

    def _clients(self, rounds: int) -> None:
        """The command line, from its start to its exit, and the first word of a streamed answer."""
        home, embedded = self._folder / "client", self._engine.home is not None
        environ = {**os.environ, "LOCALFLAME_HOME": str(home)}
        run = _CommandLine(environ)
        try:
            run("-m", "hi")  # what is not compiled is compiled now
            session = json.loads(run("-m", "hi", "--json"))["session_id"]
            rows: dict[str, Callable[[], float]] = {
                IMPORT: _import_agents,
                HELP: lambda: run.time("--help"),
                WARM: lambda: run.time("-q", "-s", session, "-m", "hi"),
            }
            if embedded:
                rows[NEW] = run.new_session
                rows[NOTHING] = run.from_nothing
            for row, measure in rows.items():
                for _ in self._progress.track(range(rounds), description=row):
                    self._results.one_off.setdefault(row, []).append(measure())
            first = f"the first word of a stream that takes {PAUSE:.0f} s"
            with connect(environ=environ) as client, _InProcess(self._folder) as inside:
                client.ask(QUESTION, session=session)  # its instance, and what is imported at first use
                inside.ask("stream")
                for _ in self._progress.track(range(rounds), description=first):
                    self._results.one_off.setdefault(first, []).append(_first_word(client, session))
                    self._results.one_off.setdefault(f"{first}: SDK in process", []).append(inside.ask("stream"))
        finally:
            if embedded:
                run("engine", "stop")


class _InProcess:
    """`benchmarks.in_process`; a context manager that ends it."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.in_process", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def __enter__(self) -> _InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def ask(self, *words: str) -> float:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(" ".join(words) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        return 0.0 if answer == "None" else float(answer)


class _CommandLine:
    """The command line."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._environ = environ

    def __call__(self, *arguments: str) -> str:
        command = [sys.executable, "client.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self._environ, check=True, capture_output=True, text=True)
        return done.stdout

    def time(self, *arguments: str) -> float:
        start = time.perf_counter()
        self(*arguments)
        return (time.perf_counter() - start) * 1000

    def new_session(self) -> float:
        """Where another has run, and the nursery has had time to rehearse."""
        time.sleep(3.0)
        return self.time("-q", "-m", "hi")

    def from_nothing(self) -> float:
        self("engine", "stop")
        return self.time("-q", "-m", "hi")


class _Counted:
    """An object cache that counts its calls."""

    reads_at_once = False

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        self.calls = 0

    def get(self, key: str, since: int = 0) -> Rows:
        self.calls += 1
        return self._cache.get(key, since)  # type: ignore[no-any-return]

    def put(self, prefix: str, data: bytes) -> Any:
        return self._cache.put(prefix, data)

    def put_as(self, key: str, data: bytes) -> Any:
        return self._cache.put_as(key, data)

    def patch(self, key: str, data: bytes) -> int:
        return int(self._cache.patch(key, data))


def _turn(number: int) -> TurnBody:
    four = items(4)
    answer = {"answer": ANSWER, "turn": number + 1, "turn_id": f"t{number}", "model": "scripted"}
    return TurnBody(
        turn=f"t{number}", question=QUESTION, items=four, answer=answer, usage=Usage(requests=1), model="scripted"
    )


def _first(session: FlameSession) -> None:
    async def first() -> None:
        await session.stored("new", QUESTION)
        try:
            async with session.turn("new", QUESTION, read=False):
                assert await session.get_items()
                raise InterruptedError
        except InterruptedError:
            pass

    asyncio.run(first())


def _first_word(client: Client, session: str) -> float:
    seen: list[float] = []
    start = time.perf_counter()

    def note(_: str) -> None:
        seen.append(time.perf_counter())

    client.ask(QUESTION, session=session, on_text=note)
    return (seen[0] - start) * 1000


def _import_agents() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import agents"], check=True)
    return (time.perf_counter() - start) * 1000


def _work() -> float:
    """The same work each time: what it takes longer is the machine's noise."""
    start = time.perf_counter()
    total = 0
    for number in range(100_000):
        total += number * number
    return (time.perf_counter() - start) * 1000


def _memory(pid: int) -> float:
    """Resident memory of a process and all that it has started, in MB; 0 where `ps` does not say."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,rss="], capture_output=True, text=True, check=False).stdout
    rows = [tuple(map(int, line.split())) for line in listed.splitlines()]
    family = found = {pid}
    while found:
        found = {child for child, parent, _ in rows if parent in found}
        family = family | found
    return sum(resident for child, _, resident in rows if child in family) / 1024
