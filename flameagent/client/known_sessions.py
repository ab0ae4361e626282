"""What lists have told of sessions: a file in the user's cache folder, of one agent on one engine.

Promises to be only a cache, and the user's alone: where it cannot be used nothing is known, which is no error. Of
what was forgotten nothing is left once it was opened again. Any number of processes share it, and one that is killed
harms no other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

import msgspec

from flameagent.client import places
from flameagent.conversation.codec import convert
from flameagent.conversation.reader import Segment
from flameagent.memory import index_file
from flameagent.memory.index_file import transaction
from flamewire.failpoints import failpoint

_T = TypeVar("_T")
_VERSION = 1
"""That of the tables and of what is in them: a program of another version has a file of its own."""

_FEW = 100  # sessions that are looked for one by one

_TABLES = (
    "CREATE TABLE of (engine TEXT, application TEXT, unwiped INTEGER)",
    "CREATE TABLE sessions (session TEXT PRIMARY KEY, created INTEGER, common_data BLOB, info BLOB, first TEXT,"
    " first_size INTEGER, newest TEXT, newest_size INTEGER, base INTEGER, version INTEGER, digest BLOB)",
)


class Known(NamedTuple):
    """What was told of a session: `info`, encoded, as of a version of its conversation's newest object.

    `created` and `common_data` tell it from others that had its ID. `first_size` and `newest_size` are the bytes of
    its first and of its newest object then, 0 where nobody said.
    """

    session: str
    created: int
    common_data: bytes
    info: bytes
    first: str
    first_size: int
    newest: str
    newest_size: int
    base: int
    version: int
    digest: bytes

    @property
    def segment(self) -> Segment:
        """The newest object, as far as it was read."""
        return Segment(self.newest, self.base, self.version, self.digest)

    def has(self, sizes: Mapping[str, int]) -> bool:
        """True where nothing was added since: an object grows with whatever is."""
        return 0 < self.first_size == sizes.get(self.first) and 0 < self.newest_size == sizes.get(self.newest)


class KnownSessions:
    """The file, open. As a context manager it is closed; for one thread at a time. No method raises."""

    def __init__(self, engine: str, application: str, *, wipe: bool = True) -> None:
        """`engine` is the name that tells it from others.

        Without `wipe` the next one to open it wipes what was forgotten, which takes longer the larger it is.
        """
        self._wipes = wipe
        self._of = (engine, application)
        self._db: sqlite3.Connection | None = None
        self._path: Path | None = None
        name = blake2b("\n".join(self._of).encode(errors="surrogatepass"), digest_size=12).hexdigest()
        for _ in range(2):  # once more where it was damaged, or another's
            if (folder := places.cache()) is not None:
                self._path = index_file.private_file(folder / "sessions", f"{name}-v{_VERSION}.db")
            if self._path is not None and self._open(self._path):
                break

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def read(self, sessions: Collection[str]) -> dict[str, Known]:
        """What was told of these sessions, by ID."""

        def read(db: sqlite3.Connection) -> dict[str, Known]:
            every = "SELECT * FROM sessions"
            if len(sessions) > _FEW:
                found = db.execute(every).fetchall()
            else:
                found = [row for each in sessions for row in db.execute(f"{every} WHERE session = ?", (each,))]
            try:
                return {known.session: known for known in convert(found, list[Known])}
            except msgspec.ValidationError as error:
                raise sqlite3.DatabaseError(str(error)) from error

        return self._try(read) or {}

    def keep(self, told: Collection[Known]) -> None:
        """Know this of those sessions from now on."""

        def keep(db: sqlite3.Connection) -> None:
            with transaction(db, "IMMEDIATE"):
                db.executemany("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", told)
                failpoint("known sessions: kept")

        if told:
            self._try(keep)

    def forget(self, sessions: Collection[str]) -> None:
        """Know nothing of these sessions any more."""

        def forget(db: sqlite3.Connection) -> None:
            with transaction(db, "IMMEDIATE"):
                gone = [(session,) for session in sessions]
                if db.executemany("DELETE FROM sessions WHERE session = ?", gone).rowcount > 0:
                    db.execute("UPDATE of SET unwiped = unwiped + 1")
            failpoint("known sessions: forgotten")
            if self._wipes:
                _wipe(db)

        if sessions:
            self._try(forget)

    def forget_others(self, sessions: Collection[str]) -> None:
        """Know nothing but of these sessions: they are all that there are."""
        there = set(sessions)
        known = self._try(lambda db: db.execute("SELECT session FROM sessions").fetchall()) or []
        self.forget([session for (session,) in known if session not in there])

    def _open(self, path: Path) -> bool:
        try:
            self._db = index_file.connect(path)
        except sqlite3.Error as error:
            self._give_up(error)
            return False
        self._try(self._prepare)
        return self._db is not None

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA synchronous = FULL")  # it is to be whole after an outage, too
        version = "PRAGMA user_version"
        if db.execute(version).fetchone() == (0,):
            with transaction(db, "IMMEDIATE"):
                if db.execute(version).fetchone() == (0,):  # else somebody has just made them
                    for each in _TABLES:
                        db.execute(each)
                    db.execute("INSERT INTO of VALUES (?, ?, 0)", self._of)
                    db.execute(f"{version} = {_VERSION}")
            with suppress(OSError):
                index_file.remove_unused(Path(self._path or ""))
        if db.execute("SELECT engine, application FROM of").fetchall() != [self._of]:
            raise sqlite3.DatabaseError("of another engine or agent")
        if self._wipes:
            _wipe(db)

    def _try(self, operation: Callable[[sqlite3.Connection], _T]) -> _T | None:
        if self._db is not None:
            try:
                return operation(self._db)
            except sqlite3.Error as error:
                self._give_up(error)
            except ValueError:  # a text that is none
                pass
        return None

    def _give_up(self, error: sqlite3.Error) -> None:
        """Go on without the file, and remove it where it is not as it was written."""
        if self._db is not None:
            self._db.close()
            self._db = None
        if self._path is not None and index_file.is_damaged(error):
            with suppress(OSError):
                index_file.remove_file(self._path)


def _wipe(db: sqlite3.Connection) -> None:
    """Leave nothing of what was forgotten where SQLite has moved rows."""
    ((unwiped,),) = db.execute("SELECT unwiped FROM of").fetchall()
    if unwiped:
        db.execute("VACUUM")
        db.execute("UPDATE of SET unwiped = 0 WHERE unwiped = ?", (unwiped,))  # unless more was forgotten meanwhile
