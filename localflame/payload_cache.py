"""A cache of the inputs and outputs of tasks: the newest of them, up to a number of bytes."""

from __future__ import annotations

from collections import OrderedDict

#: Bytes of inputs and outputs that are kept in memory.
PAYLOADS_LIMIT = 32 * 1024**2


class PayloadCache:
    """By session, task and kind (`input` or `output`); what is dropped is in the store."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int, str], bytes | None] = OrderedDict()
        self._size = 0

    def put(self, session: str, task: int, kind: str, payload: bytes | None) -> None:
        """Keep one, and drop the oldest where there are too many bytes."""
        self._drop((session, task, kind))
        self._kept[session, task, kind] = payload
        self._size += len(payload or b"") + 100
        while self._size > PAYLOADS_LIMIT:
            self._drop(next(iter(self._kept)))

    def get(self, session: str, task: int, kind: str) -> tuple[bool, bytes | None]:
        """True and the payload, which may be None; or False, where it is not here."""
        key = (session, task, kind)
        return key in self._kept, self._kept.get(key)

    def forget(self, session: str) -> None:
        """Drop those of a session."""
        for key in [key for key in self._kept if key[0] == session]:
            self._drop(key)

    def _drop(self, key: tuple[str, int, str]) -> None:
        if key in self._kept:
            self._size -= len(self._kept.pop(key) or b"") + 100
