"""The client of Flame's object cache: bytes in, bytes out.

An object is a base and the patches appended to it, each with a version that counts up. Promises that
a read is incremental, that nothing but bytes is ever unpickled, and that a patch has no deadline. There are two ways:
Flame's, Arrow Flight (`flight_cache`); and where the embedded engine of this machine has one, a shorter one to the
same (`engine_cache`), for which Arrow is not loaded.
"""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING

from flameagent.flame.endpoints import Endpoints
from flameagent.flame.engine_cache import EngineCache, NoEngineCache
from flameagent.flame.errors import Unclear, Unreachable
from flameagent.flame.objects import Rows
from flamewire.object_ref import ObjectRef

if TYPE_CHECKING:
    from flameagent.flame.flight_cache import FlightCache


class ObjectCache:
    """One client of an object cache, for any number of threads."""

    def __init__(self, endpoints: Endpoints) -> None:
        """Raises `FlameError` for endpoints that make no sense."""
        self.url = endpoints.cache
        self._endpoints = endpoints
        self._connecting = threading.Lock()
        self._flight: FlightCache | None = None
        self._engine = EngineCache(endpoints)
        if endpoints.writes_socket is None:
            self._by_flight()  # which says at once what is wrong with an address

    def close(self) -> None:
        """Close the connections."""
        self._engine.close()
        with self._connecting:
            if self._flight is not None:
                self._flight.close()

    @property
    def reads_at_once(self) -> bool:
        """True where `get` reads a file, and so waits for nobody."""
        return self._engine.has_file

    def greet(self, timeout: float) -> None:
        """See that a cache answers within so many seconds. Raises `FlameError`."""
        try:
            self._engine.greet(timeout)
        except NoEngineCache:
            self._by_flight().greet(timeout)

    def put(self, prefix: str, data: bytes) -> ObjectRef:
        """Store a new object under `<application>/<session>` with a fresh ID, never over another one.

        Raises `Unreachable`, `Refused`. After either nothing refers to the object.
        """
        return self.put_as(f"{prefix}/{uuid.uuid4()}", data)

    def put_as(self, key: str, data: bytes) -> ObjectRef:
        """Store a new object under a key of the caller's, who has seen or knows that there is none: a PUT over one
        that is there is not atomic in Flame 0.6.0.

        Raises `Unreachable`, `Refused`. After either it may be there.
        """
        try:
            return ObjectRef(self.url, key, self._engine.put(key, data))
        except NoEngineCache:
            return self._by_flight().put_as(key, data)

    def patch(self, key: str, data: bytes) -> int:
        """Append to an object; returns the version that the patch got.

        No deadline, on purpose. Raises `NotFound`, `CacheFull`, `Refused`; `Unclear` when the call broke
        off and the patch may be there.
        """
        try:
            try:
                return self._engine.patch(key, data)
            except NoEngineCache:
                return self._by_flight().patch(key, data)
        except Unreachable as error:
            raise Unclear(str(error)) from error

    def get(self, key: str, since: int = 0) -> Rows:
        """Read an object: patches after version `since` where the cache can tell them apart, otherwise all.

        Raises `NotFound`, `Unreachable`.
        """
        try:
            return self._engine.get(key, since)
        except NoEngineCache:
            return self._by_flight().get(key, since)

    def delete(self, prefix: str) -> None:
        """Delete all objects under `<application>/<session>`; no error when there are none."""
        try:
            self._engine.delete(prefix)
        except NoEngineCache:
            self._by_flight().delete(prefix)

    def _by_flight(self) -> FlightCache:
        with self._connecting:
            if self._flight is None:
                from flameagent.flame.flight_cache import FlightCache

                self._flight = FlightCache(self._endpoints)
            return self._flight
