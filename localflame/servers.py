"""The engine's servers: the frontend, the object cache, its writes and the control socket, each on a Unix socket.

They lie in a folder of mode 0700, under their `NAMES`. Programs that know addresses only come in by two loopback
ports (`door.py`). The object cache's server is started when somebody comes (`first_caller.py`). A server that ends is
started again, and a socket that somebody has removed is made again; where that cannot be, the engine ends, so that
whoever needs it next starts another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import grpc

from flamewire.limits import LOCAL_OPTIONS
from localflame import peers
from localflame.door import Door
from localflame.first_caller import FirstCaller
from localflame.frontend import WIRE_LIMIT
from localflame.home import EngineError, is_private
from localflame.write_server import WriteServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from localflame.activity import Activity
    from localflame.cache import Cache
    from localflame.frontend import Frontend
    from localflame.metrics import Metrics
    from localflame.store import Store

log = logging.getLogger("localflame.servers")

#: The names of their sockets, in the order in which they start.
NAMES = ("cache", "writes", "frontend", "control")
#: Bytes of one request on the control socket.
REQUEST_LIMIT = 4 * 1024**2
#: Seconds between the end of a server's task and the end of its listening.
_PAUSE = 0.05
#: Among so many looks is one that connects, which costs more, also where nothing seems to have ended.
_PROBE_EVERY = 15
#: Seconds that servers have to end.
_GRACE = 3.0


class Servers:
    """Made with its ports open; `start` makes what is behind them."""

    def __init__(self, folder: Path, kept: dict[str, Any]) -> None:
        """`kept` has the ports to take again. Raises EngineError where there are no ports."""
        self.folder = folder
        try:
            self._doors = {name: Door(folder / name, kept.get(name)) for name in ("frontend", "cache")}
        except OSError as error:
            raise EngineError(f"No loopback port could be had: {error.strerror}.") from error
        self.ports = {name: door.port for name, door in self._doors.items()}
        self.endpoint = f"http://127.0.0.1:{self.ports['frontend']}"
        self.cache_endpoint = f"grpc://127.0.0.1:{self.ports['cache']}"
        #: The same as variables, with the sockets of the cache.
        self.endpoints = {
            "FLAME_ENDPOINT": self.endpoint,
            "FLAME_CACHE_ENDPOINT": self.cache_endpoint,
            "LOCALFLAME_CACHE_SOCKET": str(folder / "cache"),
            "LOCALFLAME_WRITES_SOCKET": str(folder / "writes"),
        }
        self._start_functions: dict[str, Callable[[Path], Awaitable[None]]] = {}
        self._published: dict[str, int] = {}
        self._count = 0
        # Also those that have ended, or whose sockets were removed: who is connected to these stays connected.
        self._frontends: list[grpc.aio.Server] = []
        self._caches: list[Cache] = []
        self._first_callers: list[FirstCaller] = []
        self._has_callers = False
        self._starting_cache = asyncio.Lock()
        self._writes: list[WriteServer] = []
        self._controls: list[asyncio.Server] = []
        self._ended = asyncio.Event()
        self._checks = 0
        self._stopping = False
        self._frontends_ended = False

    async def start(
        self, frontend: Frontend, store: Store, activity: Activity, metrics: Metrics, control: Any
    ) -> None:
        """Serve. `control` is what asyncio calls for a client of the control socket. Raises EngineError."""

        async def start_frontend(path: Path) -> None:
            server = grpc.aio.server(options=[("grpc.max_receive_message_length", WIRE_LIMIT), *LOCAL_OPTIONS])
            server.add_insecure_port(f"unix:{path}")
            server.add_generic_rpc_handlers((frontend,))
            others = asyncio.all_tasks()
            await server.start()
            self._frontends.append(server)
            # grpcio 1.85.1: a request that it cannot decode (a path that is no UTF-8) ends the task that serves, and
            # `wait_for_termination` does not return before the last client has gone. Which of the tasks that is,
            # nothing says; when one ends that is another's, there is nothing to be found out.
            for task in asyncio.all_tasks() - others:
                task.add_done_callback(self._note_end)

        async def start_cache(path: Path) -> None:
            if self._has_callers:
                cache = await asyncio.to_thread(_load_cache)
                self._caches.append(cache(store, activity, metrics, path, self.cache_endpoint))
            else:
                self._first_callers.append(FirstCaller(path, self._serve_callers))

        async def start_writes(path: Path) -> None:
            self._writes.append(WriteServer(store, activity, metrics, path))

        async def start_control(path: Path) -> None:
            self._controls.append(await asyncio.start_unix_server(control, path, limit=REQUEST_LIMIT))

        self._start_functions = dict(
            zip(NAMES, (start_cache, start_writes, start_frontend, start_control), strict=True)
        )
        for name in self._start_functions:
            await self._publish(name)

    async def _serve_callers(self) -> Path:
        """Have the cache's server in its place, from the first caller on; where it is."""
        async with self._starting_cache:
            if not self._caches:
                self._has_callers = True
                try:
                    await self._publish("cache")
                except EngineError:
                    self._has_callers = False  # or what is there now would call itself
                    raise
        return self.folder / "cache"

    async def _publish(self, name: str) -> None:
        """Start a server behind a socket of its own, and give that the name that clients know. Raises EngineError."""
        self._count += 1
        fresh = self.folder / f".{name}-{self._count}"
        try:
            await self._start_functions[name](fresh)
            fresh.replace(self.folder / name)
            self._published[name] = (self.folder / name).stat().st_ino
        except Exception as error:  # gRPC raises RuntimeError, Flight an ArrowException, the rest OSError
            raise EngineError(f"The engine's {name} cannot listen below {self.folder}: {error}.") from error

    async def supervise(self, interval: float) -> None:
        """Start again what has ended, and make again what somebody has removed; waits for that so many seconds.

        Raises EngineError where it cannot be.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(interval):
                await self._ended.wait()
                await asyncio.sleep(_PAUSE)  # until it does not listen any more
        self._checks += 1
        probe = self._ended.is_set() or self._checks % _PROBE_EVERY == 0
        self._ended.clear()
        gone = [name for name in self._published if not self._is_serving(name, probe)]
        if not gone:
            return
        log.error("%s: ended, or removed by somebody; started again", ", ".join(gone))
        with contextlib.suppress(FileExistsError):
            self.folder.mkdir(mode=0o700)
        if not is_private(self.folder):
            raise EngineError(f"The folder of the engine's sockets, {self.folder}, has become somebody else's.")
        for name in gone:
            await self._publish(name)

    def _is_serving(self, name: str, probe: bool) -> bool:
        path = self.folder / name
        try:
            return path.stat().st_ino == self._published[name] and (not probe or peers.listens(path))
        except OSError:
            return False

    def _note_end(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self._stopping:
            log.error("a task of the frontend has ended: %r", error)
        self._ended.set()

    def connections(self) -> int:
        """The number of open connections, as far as the system says it."""
        through_doors = sum(door.connections for door in self._doors.values())
        return through_doors + peers.count_connections(self.folder, (".frontend-", ".cache-", ".writes-"))

    async def stop_accepting(self) -> None:
        """Close the control socket, the ports and the frontend: nobody asks for anything new."""
        self._stopping = True
        for server in self._controls:
            server.close()
        for door in self._doors.values():
            door.close()
        # One that has ended waits for its last client, which may stay.
        _, waiting = await asyncio.wait(
            [asyncio.ensure_future(server.stop(grace=0)) for server in self._frontends], timeout=_GRACE
        )
        self._frontends_ended = not waiting

    async def stop(self) -> bool:
        """Close the object cache, after what it has begun. True if all servers have ended.

        They wait for calls that a client has begun and does not go on with: not for ever.
        """
        for writes in self._writes:
            writes.close()
        for first_caller in self._first_callers:
            first_caller.close()
        closing = [threading.Thread(target=cache.shutdown, daemon=True) for cache in self._caches]
        for thread in closing:
            thread.start()
        deadline = time.monotonic() + _GRACE
        while any(thread.is_alive() for thread in closing) and time.monotonic() < deadline:  # noqa: ASYNC110 - threads
            await asyncio.sleep(0.01)
        return self._frontends_ended and not any(thread.is_alive() for thread in closing)


def _load_cache() -> type[Cache]:
    from localflame.cache import Cache

    return Cache
