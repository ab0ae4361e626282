"""An object cache in memory with the semantics of Flame 0.6's, and the faults that a real one can have.

`test_cache_semantics.py` holds it to the real one. Faults are asked for by the test: they never happen
by themselves.
"""

from __future__ import annotations

import threading
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from flameagent.flame.errors import CacheFull, NotFound, Unclear, Unreachable
from flameagent.flame.objects import Rows
from flamewire.object_ref import ObjectRef

PATCH_LIMIT = 1000

Fault = Literal["", "answer lost", "patch lost", "patch late"]


@dataclass
class StoredObject:
    """A base and its patches, each patch with the version that it got."""

    base: bytes | None
    base_version: int
    patches: list[tuple[int, bytes | None]] = field(default_factory=list)

    @property
    def version(self) -> int:
        return max([self.base_version, *(version for version, _ in self.patches)])


@dataclass
class _Late:
    key: str
    data: bytes
    calls: int


class MemoryCache:
    """Objects by key. Safe for several threads; each call is one step, before which `on_call` is called.

    `faults` is what happens to the next patches, one entry each: "" nothing, "answer lost" it lands and the
    call breaks off, "patch lost" it breaks off and the patch never lands, "patch late" it breaks off and
    lands `late_by` calls later. `unreachable` is for how many calls nobody answers.
    """

    reads_at_once = False

    def __init__(self) -> None:
        self.objects: dict[str, StoredObject] = {}
        self.faults: deque[Fault] = deque()
        self.late_by: deque[int] = deque()
        self.unreachable = 0
        self.reads: list[tuple[str, int, int]] = []
        """Each get that was answered: the key, the version asked from, and how many rows came."""
        self.writes: list[str] = []
        self.on_call: Callable[[str], None] = lambda call: None
        self._late: list[_Late] = []
        self._lock = threading.RLock()

    def put(self, prefix: str, data: bytes) -> ObjectRef:
        return self.put_as(f"{prefix}/{uuid.uuid4()}", data)

    def put_as(self, key: str, data: bytes) -> ObjectRef:
        self._step("put")
        with self._lock:
            self.objects[key] = StoredObject(data, 1)
            self.writes.append(key)
            return ObjectRef("grpc://memory", key, 1)

    def patch(self, key: str, data: bytes) -> int:
        try:
            self._step("patch")
        except Unreachable as error:
            raise Unclear(str(error)) from error
        with self._lock:
            fault = self.faults.popleft() if self.faults else ""
            if fault == "patch late":
                self._late.append(_Late(key, data, self.late_by.popleft() if self.late_by else 1))
            if fault in ("patch late", "patch lost"):
                raise Unclear("the patch's call broke off")
            version = self._append(key, data)
            if fault == "answer lost":
                raise Unclear("the patch's answer was lost")
            return version

    def get(self, key: str, since: int = 0) -> Rows:
        self._step("get")
        with self._lock:
            stored = self._stored(key)
            rows = self._rows(stored, since)
            self.reads.append((key, since, len(rows.patches) + rows.full))
            return rows

    def delete(self, prefix: str) -> None:
        self._step("delete")
        with self._lock:
            for key in [key for key in self.objects if f"{key}/".startswith(f"{prefix}/")]:
                del self.objects[key]

    # What tests do to it.

    def land(self) -> None:
        """Let all late patches land, oldest first."""
        with self._lock:
            late, self._late = self._late, []
            for patch in late:
                self._append(patch.key, patch.data)

    def lose_tail(self, key: str, patches: int) -> None:
        """Forget the newest patches, as a cache does whose machine lost power."""
        del self.objects[key].patches[-patches:]

    def lose(self, key: str, version: int) -> None:
        """Forget one patch in the middle."""
        self.objects[key].patches = [patch for patch in self.objects[key].patches if patch[0] != version]

    def replace(self, key: str, version: int, data: bytes | None) -> None:
        """Put other bytes in the place of a patch; None: a row that is not pickled bytes."""
        self.objects[key].patches = [
            (number, data if number == version else row) for number, row in self.objects[key].patches
        ]

    def _step(self, call: str) -> None:
        self.on_call(call)
        with self._lock:
            for patch in list(self._late):
                patch.calls -= 1
                if patch.calls <= 0:
                    self._late.remove(patch)
                    self._append(patch.key, patch.data)
            if self.unreachable > 0:
                self.unreachable -= 1
                raise Unreachable("The object cache does not answer.")

    def _stored(self, key: str) -> StoredObject:
        if key not in self.objects:
            raise NotFound(f"object <{key}> not found")
        return self.objects[key]

    def _append(self, key: str, data: bytes) -> int:
        stored = self._stored(key)
        if len(stored.patches) >= PATCH_LIMIT:
            raise CacheFull(f"object <{key}> has reached maximum delta count ({PATCH_LIMIT})")
        version = stored.version + 1
        stored.patches.append((version, data))
        return version

    def _rows(self, stored: StoredObject, since: int) -> Rows:
        """As `do_get` of Flame 0.6 decides (object_cache/src/cache.rs)."""
        if since != 0 and since == stored.version:
            return Rows(None, 0, [], full=False)
        if stored.base_version <= since <= stored.version:
            newer = [patch for patch in stored.patches if patch[0] > since]
            if [version for version, _ in newer] == list(range(since + 1, stored.version + 1)):
                return Rows(None, 0, newer, full=False)
        return Rows(stored.base, stored.base_version, list(stored.patches), full=True)
