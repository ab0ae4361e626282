"""What a person's memory takes: time and room as it grows, on the embedded engine, and what it adds to a turn."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import Progress

from benchmarks.engine import ROOT
from benchmarks.measures import IN_A_ROW
from benchmarks.model import NAME
from flameagent.client import connect, person
from flameagent.client.client import Client
from flameagent.flame.objects import Rows, payload, row_of
from flameagent.memory.index import IndexedTurn
from flameagent.memory.person import PersonMemory
from flamewire.object_ref import ObjectRef
from localflame import Engine, cache, objects, start, stop

USER = "ada"
_SEARCHES = 200
_COLD = 3
_CACHED = (
    "SELECT sum(length(data)) FROM payloads JOIN objects ON objects.id = payloads.object WHERE objects.key LIKE ?"
)


@dataclass
class Size:
    """A memory of so many turns. Times in milliseconds, memory in MB.

    `made` is the first search of a process where there is no index, `found` where there is its file.
    """

    turns: int
    made: float
    found: float
    p50: float
    p99: float
    cached: float
    indexed: float
    grown: float


@dataclass
class Cost:
    """Milliseconds of warm turns, with a memory of so many turns and without."""

    turns: int
    on: list[float] = field(default_factory=list)
    off: list[float] = field(default_factory=list)

    @property
    def difference(self) -> float:
        """How much longer a turn takes with a memory, p50."""
        return statistics.median(self.on) - statistics.median(self.off)

    @property
    def quarter(self) -> float:
        """The same, p25."""
        return statistics.quantiles(self.on)[0] - statistics.quantiles(self.off)[0]


@dataclass
class Results:
    """All that was measured. `recall` has what was looked for, of how many questions, and the share that was found.

    `load` is how many processes wanted one of the `cores` at the beginning and at the end.
    """

    recall: list[tuple[str, int, float]] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    cores: int = 0

    def as_json(self) -> dict[str, Any]:
        """As it is written to a file."""
        return asdict(self)


class Place:
    """A home of the embedded engine, and who asks there: a client that remembers, and one that does not.

    `model` is the URL of the model's server. The index of what is remembered is in the folder, too.
    """

    def __init__(self, folder: Path, model: str) -> None:
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        self.folder, self.home = folder, folder / "home"
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("AGENT_", "FLAME_"))}
        environ |= {"OPENAI_BASE_URL": model, "OPENAI_API_KEY": "benchmark", "AGENT_MODEL": NAME}
        self._environ = environ | {
            "AGENT_SUMMARY": "off",
            "LOCALFLAME_HOME": str(self.home),
            "FLAME_AGENT_USER": USER,
        }

    @contextmanager
    def engine(self) -> Iterator[tuple[Client, Client, Engine]]:
        """The engine, while it runs, with the two clients."""
        started = start(self.home)
        try:
            with (
                connect(environ=self._environ) as on,
                connect(environ={**self._environ, "AGENT_MEMORY": "off"}) as off,
            ):
                on._connection.register()
                yield on, off, started
        finally:
            stop(self.home)

    @property
    def file(self) -> Path:
        """The file of the engine."""
        return self.home / "flame.db"

    @property
    def index_files(self) -> list[Path]:
        """The files of the index."""
        return [file for file in (self.folder / "cache").rglob("*") if file.is_file()]


def grow(where: Place, turns: list[IndexedTurn], total: int, progress: Progress) -> str:
    """Remember turns, so that they are so many in all; the memory's key.

    Straight into the file of the engine, which does not run: an append a turn takes minutes.
    """
    with where.engine() as (on, _, _):
        key = person.open_memory(on._connection, USER)
    with closing(sqlite3.connect(where.file, isolation_level=None, check_same_thread=False)) as database:
        database.execute("BEGIN")
        memory = PersonMemory(_StoppedCache(database), key, in_file=False)
        for turn in progress.track(turns, description=f"a memory of {total} turns"):
            memory.add(turn, read=False)  # nobody else adds
        database.execute("COMMIT")
    return key


def size(where: Place, started: Engine, key: str, questions: list[str], turns: int, progress: Progress) -> Size:
    """Time and room of a memory, as new processes have it."""
    asked = {"frontend": started.endpoint, "cache": started.cache_endpoint, "key": key}
    made, found, later, grown = [], [], [], []
    for _ in progress.track(range(_COLD), description=f"searches in {turns} turns"):
        for file in where.index_files:
            file.unlink()
        made.append(_read({**asked, "questions": questions[:1]})["first"])
        said = _read({**asked, "questions": random.Random(1).choices(questions, k=_SEARCHES)})
        found.append(said["first"])
        later += said["later"]
        grown.append(said["grown"])
        known = said["turns"]  # with those that were asked in the meantime
    with closing(sqlite3.connect(f"file:{where.file}?mode=ro", uri=True)) as database:
        prefix = key.rpartition("/")[0]
        cached = database.execute(_CACHED, (f"{prefix}/%",)).fetchone()[0]
    indexed = sum(each.stat().st_size for each in where.index_files)
    p50, p99 = statistics.median(later), statistics.quantiles(later, n=100)[-1]
    median = statistics.median
    return Size(turns, median(made), median(found), p50, p99, cached / known, indexed / known, median(grown))


def cost(
    on: Client, off: Client, user: str, known: int, rounds: int, questions: list[str], progress: Progress
) -> Cost:
    """Turns of a session with memory and of one without, in alternation; both are warm and as long as each other."""
    result = Cost(known)
    sessions: dict[Client, str] = {}
    for client in (on, off):
        for question in questions[: IN_A_ROW + 1]:
            sessions[client] = client.ask(question, sessions.get(client), user=user).session_id
    chosen = random.Random(2)
    for _ in progress.track(range(rounds), description=f"turns with {known} turns remembered"):
        asked = chosen.choices(questions, k=IN_A_ROW)
        for client, taken in ((on, result.on), (off, result.off)):
            for question in asked:
                began = time.perf_counter()
                client.ask(question, sessions[client], user=user)
                taken.append((time.perf_counter() - began) * 1000)
    for client in (on, off):
        client.close_session(sessions[client])
    return result


def _read(asked: dict[str, object]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.memory_reader"]
    said = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, cwd=ROOT, check=True)
    read: dict[str, Any] = json.loads(said.stdout)
    return read


class _StoppedCache:
    """The object cache of an engine that does not run, by the functions with which it writes its file."""

    reads_at_once = False

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def get(self, key: str, since: int = 0) -> Rows:
        stored, rows = cache._read(self._database, key, since)
        whole = bool(rows) and rows[0][0] == stored.base
        patches = [(version, payload(data)) for version, data in rows[int(whole) :]]
        return Rows(payload(rows[0][1]) if whole else None, stored.base if whole else 0, patches, whole)

    def put(self, prefix: str, data: bytes) -> ObjectRef:
        return self.put_as(f"{prefix}/{uuid.uuid4()}", data)

    def put_as(self, key: str, data: bytes) -> ObjectRef:
        return ObjectRef("", key, objects.put_object(self._database, key, False, row_of(data)))

    def patch(self, key: str, data: bytes) -> int:
        return objects.patch_object(self._database, key, row_of(data))
