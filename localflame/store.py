"""The engine's one SQLite file.

What `write` has answered is on the disk: write-ahead log, `synchronous=FULL`. Writes from all threads
go through one thread, which commits those that came in meanwhile together; each is all or nothing on
its own. Readers see the state of a moment and never wait for the writer.

What is deleted is overwritten with zeros. After a session was deleted, copies of it that SQLite has left
behind, in the write-ahead log and beside rows that it moved, are wiped as soon as it is quiet.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import queue
import sqlite3
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from flamewire.failpoints import failpoint
from flamewire.object_file import SCHEMA_VERSION
from localflame.home import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

#: What makes a file of each version from one of the version before, up to SCHEMA_VERSION; the first from nothing. A
#: change of the tables is another step, and the steps that have been released stay as they are.
_MIGRATIONS = (
    """
CREATE TABLE applications (
    name TEXT PRIMARY KEY,
    spec BLOB NOT NULL,             -- flame.v1.ApplicationSpec
    created INTEGER NOT NULL        -- times are milliseconds since the epoch
);
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    application TEXT NOT NULL,
    spec BLOB NOT NULL,             -- flame.v1.SessionSpec without its common_data
    common_data BLOB,
    state INTEGER NOT NULL,         -- flame.v1.SessionState
    created INTEGER NOT NULL,
    completed INTEGER
);
CREATE INDEX sessions_by_application ON sessions (application, state);
CREATE TABLE tasks (
    session TEXT NOT NULL,
    id INTEGER NOT NULL,
    state INTEGER NOT NULL,         -- flame.v1.TaskState; Running is never written, it does not outlive the engine
    created INTEGER NOT NULL,
    completed INTEGER,
    losses INTEGER NOT NULL,        -- instances that died with it
    input BLOB,
    output BLOB,
    PRIMARY KEY (session, id)
);
CREATE INDEX tasks_by_state ON tasks (state, session);
CREATE TABLE events (
    session TEXT NOT NULL,
    task INTEGER NOT NULL,          -- 0: of the session itself
    code INTEGER NOT NULL,
    message TEXT NOT NULL,
    at INTEGER NOT NULL
);
CREATE INDEX events_by_owner ON events (session, task);
CREATE TABLE objects (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    arrow INTEGER NOT NULL,         -- whether the base is an Arrow table with a schema of its own
    base INTEGER NOT NULL,          -- the base's version
    version INTEGER NOT NULL,       -- the newest patch's, or the base's
    patches INTEGER NOT NULL,
    size INTEGER NOT NULL
);
CREATE TABLE payloads (             -- a base, and each patch in a row of its own: an append rewrites nothing
    object INTEGER NOT NULL,
    version INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (object, version)
);
""",
)

#: Bytes of write-ahead log that stay on the disk when it is empty.
_LOG_LIMIT = 16 * 1024**2
#: Free pages (4 KB) that are cut off the file when it is closed.
_VACUUM_PAGES = 25_000
#: Seconds that a connection waits for the others.
_TIMEOUT = 10
#: The application ID of a file in which something was deleted and is not wiped yet; otherwise 0.
_UNWIPED = 0x57495045
#: Seconds without a write after which it is wiped, seconds that this may wait for readers, and seconds after
#: which it is wiped although it is not quiet, or tried again.
_QUIET, _WIPE_PATIENCE, _WIPE_AGAIN = 0.25, 0.5, 30.0
#: Bytes of a file that is rewritten for it meanwhile, which takes a second at most; a larger one is when it is
#: closed.
_REWRITTEN = 128 * 1024**2
#: Reading connections that are kept for the next reader.
_IDLE_READERS = 8


class _Connection(sqlite3.Connection):
    """A connection of the store; without `may_be_unwiped` nothing waits to be wiped."""

    may_be_unwiped = True


def want_wiped(db: sqlite3.Connection) -> None:
    """Within an operation: what it deletes is to leave no copy behind."""
    db.execute(f"PRAGMA application_id={_UNWIPED}")
    if isinstance(db, _Connection):
        db.may_be_unwiped = True


class StoreError(Exception):
    """The disk did not take or give the data; the message is a sentence, and nothing has changed."""


class Store:
    """The open file. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raises EngineError where it is newer than this code, or unusable."""
        self._path = path
        self._readers: list[_Connection] = []
        self._readers_lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[Callable[[sqlite3.Connection], Any], Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        try:
            self._connection = self._connect()
            with contextlib.ExitStack() as unless_prepared:
                unless_prepared.callback(self._connection.close)
                self._prepare()
                unless_prepared.pop_all()
        except sqlite3.Error as error:
            raise EngineError(f"The engine's file {path} cannot be used: {error}.") from error
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def _connect(self) -> _Connection:
        connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, timeout=_TIMEOUT, factory=_Connection
        )
        # FULL: a commit returns when the log is on the disk; macOS also needs to be told to empty the drive's cache.
        for pragma in (
            "auto_vacuum=INCREMENTAL",
            "journal_mode=WAL",
            "synchronous=FULL",
            "secure_delete=ON",
            "fullfsync=1",
            "checkpoint_fullfsync=1",
            f"journal_size_limit={_LOG_LIMIT}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _prepare(self) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise EngineError(
                f"The engine's file {self._path} is of a newer localflame (schema {version}, not {SCHEMA_VERSION}); "
                "install that one, or set LOCALFLAME_HOME to another folder."
            )
        for reached, step in enumerate(_MIGRATIONS[version:], version + 1):
            self._connection.executescript(f"BEGIN;{step}PRAGMA user_version={reached};COMMIT;")

    def submit(self, operation: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Run `operation` in a transaction; the future is done when its changes are on the disk.

        Operations run in the order of their submission, and their futures are done in that order.
        """
        future: Future[T] = Future()
        self._queue.put((operation, future))
        return future

    async def write(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """`submit`, awaited. Raises StoreError where the disk refuses, and what the operation raises."""
        return await asyncio.wrap_future(self.submit(operation))

    async def read(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run a reading `operation` in another thread, for what can be large."""
        return await asyncio.to_thread(self.read_sync, operation)

    def read_sync(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run a reading `operation` here, on the state of one moment. Raises StoreError where the disk refuses."""
        try:
            with self._reader() as connection:
                return operation(connection)
        except sqlite3.Error as error:
            raise StoreError(f"the engine's file could not be read: {error}") from error

    @contextlib.contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        with self._readers_lock:
            connection = self._readers.pop() if self._readers else None
        connection = connection or self._connect()
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.execute("ROLLBACK")
            with self._readers_lock:
                keep = len(self._readers) < _IDLE_READERS
                if keep:
                    self._readers.append(connection)
            if not keep:
                connection.close()

    def _run(self) -> None:
        """The writer: everything that waits, in one commit."""
        leaving = False
        soonest = latest = 0.0  # when it is wiped: where it is quiet, and in any case
        while not leaving:
            now, unwiped = time.monotonic(), self._is_unwiped()
            latest = (latest or now + _WIPE_AGAIN) if unwiped else 0.0
            try:
                if unwiped and now >= latest:
                    raise queue.Empty
                batch = [self._queue.get(timeout=max(soonest - now, _QUIET) if unwiped else None)]
            except queue.Empty:
                soonest, latest = (0.0 if self._wipe() else now + _WIPE_AGAIN), 0.0
                continue
            while not self._queue.empty():
                batch.append(self._queue.get())
            leaving = None in batch
            # Nobody waits any more for one that was cancelled: it has not happened.
            self._commit([item for item in batch if item is not None and item[1].set_running_or_notify_cancel()])

    def _is_unwiped(self) -> bool:
        if self._connection.may_be_unwiped:  # else nothing is asked of the file for each commit
            with contextlib.suppress(sqlite3.Error):
                marked = self._connection.execute("PRAGMA application_id").fetchone()
                self._connection.may_be_unwiped = marked == (_UNWIPED,)
                return self._connection.may_be_unwiped
        return False

    def _wipe(self, limit: float | None = None) -> bool:
        """Leave nothing of what was deleted in the log, nor in a file that is not larger; whether that was done."""
        with contextlib.suppress(sqlite3.Error):
            try:
                self._connection.execute(f"PRAGMA busy_timeout={int(_WIPE_PATIENCE * 1000)}").fetchall()
                if not self._empty_log():
                    return False
                if self._path.stat().st_size > (_REWRITTEN if limit is None else limit):
                    return False
                # Where SQLite has moved a row, its old place is free and not overwritten.
                self._connection.execute("VACUUM")
                if not self._empty_log():
                    return False
                self._connection.execute("PRAGMA application_id=0")
                return True
            finally:
                self._connection.execute(f"PRAGMA busy_timeout={_TIMEOUT * 1000}").fetchall()
        return False

    def _empty_log(self) -> bool:
        busy, *_ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def _commit(self, batch: list[tuple[Callable[[sqlite3.Connection], Any], Future[Any]]]) -> None:
        done: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for operation, future in batch:
                self._connection.execute("SAVEPOINT one")
                try:
                    done.append((future, operation(self._connection), None))
                except sqlite3.OperationalError:
                    raise  # the disk: SQLite may have rolled back everything
                except Exception as error:
                    self._connection.execute("ROLLBACK TO one")
                    done.append((future, None, error))
                self._connection.execute("RELEASE one")
            failpoint("engine: before a commit")
            self._connection.execute("COMMIT")
            failpoint("engine: after a commit")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            if len(batch) > 1:
                # One of them may be all that does not fit.
                for item in batch:
                    self._commit([item])
                return
            done = [
                (future, None, StoreError(f"the engine's file could not be written: {error}")) for _, future in batch
            ]
        for future, result, failure in done:
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)

    def size(self) -> int:
        """Bytes of the file and its log."""
        size = 0
        for path in (self._path, self._path.with_name(f"{self._path.name}-wal")):
            with contextlib.suppress(OSError):
                size += path.stat().st_size
        return size

    def close(self) -> None:
        """Write what is waiting, give back some of the space of what was deleted, and close the file."""
        self._queue.put(None)
        self._thread.join()
        if self._is_unwiped():
            self._wipe(limit=math.inf)
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
        for connection in (*self._readers, self._connection):
            connection.close()
