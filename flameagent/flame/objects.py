"""An object in Flame's cache as it is read, and waiting for a cache that is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from flameagent.flame.errors import Mismatch, Unreachable

_T = TypeVar("_T")
_PAUSE = 0.2


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
