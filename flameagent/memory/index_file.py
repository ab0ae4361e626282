"""The file of a node in which an index is kept: where it is, whose it is, and when it goes.

Promises that it is the user's alone, and only ever a cache: where there can be none, there is none. One that nobody
has used for a month goes, as does one whose log is gone, whoever opens another beside it.
"""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import platformdirs

_UNUSED = 30 * 86_400  # seconds
_LISTED, _ASKED = 1000, 2  # files that a sweep looks at, and those of them whose log it asks for
_PATIENCE = 5.0  # seconds for another process that writes
_KEPT_TROUBLE = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}
"""What can be wrong with a file that is as it was written."""


def folder() -> Path | None:
    """The folder of all indexes; None where there is no home: no HOME, and no user of this number in the system."""
    try:
        return Path(platformdirs.user_cache_dir("flame-openai-agent", appauthor=False)) / "memory"
    except RuntimeError:
        return None


def path_of(key: str, version: int) -> Path | None:
    """The file for the log whose first object that is, for programs of this version; None where there can be none.

    Makes the folder and the file, empty, where they are missing.
    """
    return private_file(folder(), f"{_name(key)}-v{version}.db")


def private_file(beside: Path | None, name: str) -> Path | None:
    """The file of that name in a folder, both of them the user's alone; None where there can be none.

    Makes the folder and the file, empty, where they are missing.
    """
    if beside is None or not beside.is_absolute():
        return None
    path = beside / name
    try:
        beside.mkdir(mode=0o700, parents=True, exist_ok=True)
        of = beside.lstat()
        if of.st_uid != os.getuid() or not stat.S_ISDIR(of.st_mode):
            return None
        if of.st_mode & 0o077:
            beside.chmod(0o700)
        # Only a new file is opened here: closing another one would end the locks that SQLite holds in this process.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        found = path.lstat()
        if found.st_uid != os.getuid() or not stat.S_ISREG(found.st_mode):
            return None
        if found.st_mode & 0o177:
            path.chmod(0o600)
        os.utime(path)  # it is used
    except OSError:
        return None
    return path


def connect(path: Path) -> sqlite3.Connection:
    """A connection to a file: without waiting for disks, since it can be made again, and leaving no bytes behind that
    were deleted. Raises `sqlite3.Error`."""
    db = sqlite3.connect(path, timeout=_PATIENCE, check_same_thread=False, isolation_level=None)
    try:
        # A journal that is no log beside it: also nodes that share a home can share it.
        for setting in ("journal_mode = TRUNCATE", "synchronous = OFF", "secure_delete = ON", "temp_store = MEMORY"):
            db.execute(f"PRAGMA {setting}")
    except sqlite3.Error:
        db.close()
        raise
    return db


@contextmanager
def transaction(db: sqlite3.Connection, kind: str = "DEFERRED") -> Iterator[None]:
    """All of it or nothing; inside of another one a part of that."""
    if db.in_transaction:
        yield
        return
    db.execute(f"BEGIN {kind}")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # SQLite has ended it where the disk is full
            db.execute("ROLLBACK")
        raise


def is_damaged(error: Exception) -> bool:
    """True where the file itself is not what was written, False where it cannot be used now."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF not in _KEPT_TROUBLE


def boot() -> str:
    """This start of the machine: what was written before it may have been lost in part. "" where that has no name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def remove(key: str) -> None:
    """Remove the files of a log, of all versions."""
    _remove(f"{_name(key)}-*")


def remove_all(prefix: str) -> None:
    """Remove the files of all logs that are or were under it."""
    _remove(f"{_hash(prefix)}-*")


def remove_unused(own: Path) -> list[Path]:
    """Remove files beside one's `own` that nobody has used for a month; some of the others."""
    found = [path for path in islice(own.parent.iterdir(), _LISTED) if ".db" in path.name]
    found = [path for path in found if not path.name.startswith(own.name)]
    old = [path for path in found if path.stat().st_mtime < time.time() - _UNUSED]
    for path in old:
        remove_file(path)
    return [path for path in found if path not in old]


def sweep(own: Path, url: str, is_gone: Callable[[str], bool]) -> None:
    """Remove files beside one's `own` that nobody uses, and of a few others those whose log is gone from the cache
    at `url`."""
    with suppress(OSError):
        others = [path for path in remove_unused(own) if path.name.endswith(own.name[own.name.rindex("-") :])]
        random.shuffle(others)
        # First those that were of the same person.
        others.sort(key=lambda path: path.name.partition("-")[0] != own.name.partition("-")[0])
        for path in others[:_ASKED]:
            if is_gone(_key(path, url)):
                remove_file(path)


def _key(path: Path, url: str) -> str:
    """The key of the log that a file is of, if that is in the cache at `url`; "" otherwise, and for what is none."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0)) as db:
        key, at = db.execute("SELECT key, url FROM log").fetchone() or ("", "")
        return str(key) if at == url else ""
    return ""


def _remove(names: str) -> None:
    if (beside := folder()) is not None:
        with suppress(OSError):
            for path in sorted(beside.glob(names)):  # a journal behind its file
                remove_file(path)


def remove_file(path: Path) -> None:
    """Remove a file with its journal. Raises `OSError`."""
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}-journal").unlink(missing_ok=True)  # alone it does nothing


def _name(key: str) -> str:
    return f"{_hash(key.rpartition('/')[0])}-{_hash(key)}"


def _hash(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
