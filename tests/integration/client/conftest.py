"""Sessions of an agent of a test's own, as several clients list them; each has a folder for what it knows."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import localflame
from flameagent.apis import MyContext
from flameagent.client import overview
from flameagent.client.application import Application
from flameagent.client.client import Client
from flameagent.client.engine import Cluster, Embedded
from flameagent.client.environment import Environment
from flameagent.client.sessions import SessionInfo
from flameagent.conversation import ConversationLog, ConversationReader, context
from flameagent.flame import Endpoints
from flameagent.flame.cache import ObjectCache
from flameagent.flame.frontend import Frontend
from flamewire.object_ref import ObjectRef


class Sessions:
    """Sessions of an agent that has no instances, on an engine; what a list reads of them is counted in `read`."""

    def __init__(self, engine: localflame.Engine, home: Path, folder: Path, *, by_wire: bool) -> None:
        self.name = f"lists-{uuid.uuid4().hex[:8]}"
        self.home, self.folder = home, folder
        self.endpoints = Endpoints(engine.endpoint, engine.cache_endpoint)
        self._by_wire = by_wire
        localflame.Control(home).application(self.name, folder=folder, command=sys.executable)
        self.frontend, self.cache = Frontend(self.endpoints), ObjectCache(self.endpoints)
        self.client = self.another()
        self.read: list[str] = []
        self._before: dict[str, int] = {}

    def another(self) -> Client:
        """Another client of the same user."""
        engine = Cluster(self.endpoints) if self._by_wire else Embedded(self.home)
        return Client(engine, Application(self.name), Environment({}))

    def make(self, name: str, owner: str = "", segment_records: int = 256) -> ConversationLog:
        """A session without turns, by a client that keeps no list; its conversation."""
        session_id = f"{self.name}-{name}"
        reference = self.cache.put(f"{self.name}/{session_id}", context.write(MyContext("", None, owner)))
        self.frontend.create_session(session_id, self.name, reference.encode())
        return ConversationLog(self.cache, reference.key, segment_records=segment_records)

    def make_many(self, count: int, common_data: bytes | None = None) -> None:
        """So many sessions, which share one conversation that nothing was added to."""
        if common_data is None:
            common_data = self.cache.put(f"{self.name}/shared", context.write(MyContext())).encode()

        def make(number: int) -> None:
            self.frontend.create_session(f"{self.name}-many{number:05}", self.name, common_data)

        with ThreadPoolExecutor(16) as threads:
            list(threads.map(make, range(count)))

    def key(self, name: str) -> str:
        """The key of the first object of a session."""
        return ObjectRef.decode(self.frontend.session(f"{self.name}-{name}").common_data or b"").key

    def delete(self, name: str) -> None:
        """Delete a session as another machine would, whose client has lists of its own."""
        session_id = f"{self.name}-{name}"
        self.frontend.close_session(session_id)
        self.cache.delete(f"{self.name}/{session_id}")
        self.frontend.delete_session(session_id)

    def listed(self, client: Client | None = None, **wanted: str | int) -> dict[str, SessionInfo]:
        """What a client lists, by name; `read` are then the sessions that were read for it."""
        self.read.clear()
        found = (client or self.client).sessions(**wanted)  # type: ignore[arg-type]
        return {info.session_id.removeprefix(f"{self.name}-"): info for info in found}

    def agrees(self, client: Client | None = None) -> dict[str, SessionInfo]:
        """What a client lists, which is what one lists that knows nothing."""
        found = self.listed(client)
        read = list(self.read)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(self.folder / uuid.uuid4().hex))
            assert self.listed(client) == found
        self.read = read
        return found

    @property
    def files(self) -> list[Path]:
        """The files in which this user's clients keep what they know of sessions."""
        return sorted((self.folder / "flame-openai-agent" / "sessions").iterdir())

    def bytes_kept(self) -> bytes:
        """All that is in them."""
        return b"".join(path.read_bytes() for path in self.files)


WAYS: Sequence[tuple[str, bool, int]] = [
    ("file, by sizes", False, 0),
    ("file, one by one", False, 1_000_000),
    ("wire, by sizes", True, 0),
    ("wire, one by one", True, 1_000_000),
]


@pytest.fixture(params=WAYS, ids=[name for name, *_ in WAYS])
def sessions(
    request: pytest.FixtureRequest, engine: localflame.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sessions]:
    """On the embedded engine, in each of the ways in which a list finds out what has changed."""
    _, by_wire, few = request.param
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(overview, "_FEW", few)
    home = Path(engine.home)
    made = Sessions(engine, home, tmp_path, by_wire=by_wire)
    refresh = ConversationReader.refresh

    def counted(reader: ConversationReader) -> object:
        if type(reader) is ConversationReader:  # no log
            made.read.append(reader._first.split("/")[1].removeprefix(f"{made.name}-"))
        return refresh(reader)

    monkeypatch.setattr(ConversationReader, "refresh", counted)
    yield made
    made.client.close()
    made.frontend.close()
    made.cache.close()
