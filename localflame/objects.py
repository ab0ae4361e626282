"""Objects of the cache in the store: their keys, and how they are written. Arrow is not needed for it.

As object_cache/src/cache.rs of Flame 0.6.0, with one difference that callers cannot see but by a crash: a put or
patch is whole and on the disk, or has not happened. A patch is one row of the store.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, NamedTuple

from flamewire.limits import PATCHES_LIMIT
from flamewire.object_file import find_object
from localflame.store import StoreError, want_wiped

if TYPE_CHECKING:
    import sqlite3


class CacheRefused(Exception):
    """The cache does not do this, in Flame's words."""


class NoSuchObject(Exception):
    """There is no object of that key, in Flame's words."""


def failure_of(error: BaseException) -> str:
    """The word for why an operation failed; that something is absent, who asks may well expect."""
    if isinstance(error, StoreError):
        return "disk"
    return "not_found" if isinstance(error, NoSuchObject) else "refused"


class Key(NamedTuple):
    """`application/session[/object]`; without an object the session may be `*`, which means all."""

    application: str
    session: str
    object: str | None = None

    @classmethod
    def parse(cls, text: str) -> Key:
        """Raises CacheRefused as Flame words it."""
        parts = text.split("/")
        for index, part in enumerate(parts):
            _check_part(part)
            if part == "*" and index != 1:
                raise CacheRefused("Wildcard '*' only allowed for session_id")
        if len(parts) not in (2, 3):
            raise CacheRefused(f"Invalid path '{text}': expected '<app>/<ssn>' or '<app>/<ssn>/<uuid>'")
        if len(parts) == 3 and parts[1] == "*":
            raise CacheRefused("Wildcard session '*' cannot have object_id")
        return cls(*parts)

    def __str__(self) -> str:
        """As Flame writes a key, which is without the wildcard."""
        return "/".join(part for part in self if part not in (None, "*"))

    def prefix(self) -> str:
        """The beginning of its objects' keys, where it names no object."""
        return f"{self.application}/" if self.session == "*" else f"{self.application}/{self.session}/"


def object_key(text: str) -> str:
    """A key that names an object. Raises CacheRefused."""
    parts = text.split("/")
    if len(parts) != 3:
        raise CacheRefused(f"Invalid key '{text}': expected '<app>/<ssn>/<uuid>'")
    for part in parts:
        _check_part(part)
    return text


def _check_part(part: str) -> None:
    if not part or ".." in part or "\\" in part:
        raise CacheRefused(f"Invalid key component: '{part}'")


def patch_key(text: str) -> str:
    """The key of an object that is appended to. Raises CacheRefused."""
    try:
        key = Key.parse(text)
    except CacheRefused as error:
        raise CacheRefused(f"Invalid PATCH key '{text}': {error}") from None
    return object_key(str(key))  # Flame forgets the wildcard of `app/*` here; either way it names no object


def put_key(text: str) -> str:
    """The key of an object that is stored; one of its own where the text names a session. Raises CacheRefused."""
    key = Key.parse(text)
    if key.session == "*":
        Key.parse(str(key))  # refused as Flame refuses it
    if key.object is None:
        key = key._replace(object=str(uuid.uuid4()))
    return str(key)


def put_object(db: sqlite3.Connection, key: str, arrow: bool, data: bytes) -> int:
    """Store an object; its version."""
    stored = find_object(db, key)
    if stored is None:
        version = 1
        query = (
            "INSERT INTO objects (key, arrow, base, version, patches, size) VALUES (?, ?, 1, 1, 0, ?) RETURNING id"
        )
        (id,) = db.execute(query, (key, arrow, len(data))).fetchone()
    else:
        id, version = stored.id, stored.version + 1
        db.execute("DELETE FROM payloads WHERE object = ?", (id,))
        db.execute(
            "UPDATE objects SET arrow = ?, base = ?, version = ?, patches = 0, size = ? WHERE id = ?",
            (arrow, version, version, len(data), id),
        )
    db.execute("INSERT INTO payloads VALUES (?, ?, ?)", (id, version, data))
    return version


def patch_object(db: sqlite3.Connection, key: str, row: bytes) -> int:
    """Append a row to an object; its version. Raises NoSuchObject, CacheRefused."""
    stored = find_object(db, key)
    if stored is None:
        raise NoSuchObject(f"object <{key}> not found for patch")
    if stored.patches >= PATCHES_LIMIT:
        raise CacheRefused(f"object <{key}> has reached maximum delta count ({PATCHES_LIMIT})")
    version = stored.version + 1
    db.execute("INSERT INTO payloads VALUES (?, ?, ?)", (stored.id, version, row))
    db.execute(
        "UPDATE objects SET version = ?, patches = patches + 1, size = size + ? WHERE id = ?",
        (version, len(row), stored.id),
    )
    return version


def delete_objects(db: sqlite3.Connection, key: Key) -> int:
    """Delete an object, those of a session, or of an application; how many there were."""
    if key.object is None:
        first = key.prefix()
        last = first[:-1] + "0"  # "0" follows "/"
        want_wiped(db)
    else:
        first = "/".join((key.application, key.session, key.object))
        last = first + "\0"
    which = "SELECT id FROM objects WHERE key >= ? AND key < ?"
    db.execute(f"DELETE FROM payloads WHERE object IN ({which})", (first, last))  # noqa: S608
    return db.execute(f"DELETE FROM objects WHERE id IN ({which})", (first, last)).rowcount  # noqa: S608
