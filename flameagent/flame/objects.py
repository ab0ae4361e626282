"""An object in Flame's cache as it is read, and waiting for a cache that is away.

Promises that nothing but bytes is ever unpickled.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from flameagent.flame.errors import Mismatch, Unreachable
from flamewire.pickling import unpickle

_T = TypeVar("_T")
_PAUSE = 0.2
_MARK = b"FLM\x00"  # flamepy 0.6's mark of a pickled row; without it no flamepy can read the object
_BEGIN, _END = (17, 20), -2  # where bytes lie in such a row: up to 255 of them, and more

ARROW_TABLE = "The object is an Arrow table, not a conversation."
"""What is said of an object without rows of bytes."""


@dataclass(frozen=True)
class Rows:
    """The result of a read: the base (None where only patches after the asked version came) and the patches.

    `version` is the newest version seen; 0 when nothing is newer than what was asked for. `data` that is
    not flamepy's pickled bytes is None: unreadable.
    """

    base: bytes | None
    base_version: int
    patches: list[tuple[int, bytes | None]]
    full: bool

    @property
    def version(self) -> int:
        return self.patches[-1][0] if self.patches else self.base_version


def patiently(call: Callable[[], _T], seconds: float) -> _T:
    """Make a call of the cache, again while the cache does not answer: it may be back in a moment.

    Raises `Unreachable` after so many seconds, and at once for a `Mismatch`, which waiting does not change.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except Mismatch:
            raise
        except Unreachable:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_PAUSE)


def rows_of(found: Iterable[tuple[int, bool, bytes]]) -> Rows:
    """What was read, of each row its version, whether it is the base, and its data."""
    base, base_version, full = None, 0, False
    patches: list[tuple[int, bytes | None]] = []
    for version, is_base, data in found:
        if is_base:
            base, base_version, full = payload(data), version, True
        else:
            patches.append((version, payload(data)))
    return Rows(base, base_version, patches, full)


def row_of(data: bytes) -> bytes:
    """The row of an object that holds these bytes."""
    return _MARK + pickle.dumps(data, protocol=4)


def payload(row: bytes) -> bytes | None:
    """The bytes that a row of an object holds; None where it holds something else."""
    if not row.startswith(_MARK):
        return None
    for start in _BEGIN:  # as `row_of` writes most: an unpickler takes as long as all else that is done with a row
        if row_of(found := row[start:_END]) == row:
            return found
    try:
        value = unpickle(row[len(_MARK) :])
    except ValueError:
        return None
    return value if isinstance(value, bytes) else None
