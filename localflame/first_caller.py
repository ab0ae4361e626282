"""A socket in the place of a server that is not started before somebody comes.

Arrow Flight is most of an engine's memory and of the time that its start takes, and programs of ours do not need it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING

from localflame.door import End, relay
from localflame.listening import connections, listen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


log = logging.getLogger("localflame")


class FirstCaller:
    """Listens until `close`; whoever comes has the server started, and is connected with it."""

    def __init__(self, path: Path, start: Callable[[], Awaitable[Path]]) -> None:
        """`start` starts the server, where that was not done, and says where it is. Raises OSError."""
        self._start = start
        self._loop = asyncio.get_running_loop()
        self._open: set[End] = set()
        self._callers: set[asyncio.Task[None]] = set()
        self._accepting = self._loop.create_task(self._accept(listen(path)))

    def close(self) -> None:
        """Accept nobody more, and close what came."""
        self._accepting.cancel()
        for task in self._callers:
            task.cancel()
        for end in list(self._open):
            end.transport.abort()

    async def _accept(self, listener: socket.socket) -> None:
        async for accepted in connections(listener):
            task = self._loop.create_task(self._connect(accepted))
            self._callers.add(task)
            task.add_done_callback(self._callers.discard)

    async def _connect(self, accepted: socket.socket) -> None:
        with contextlib.ExitStack() as unless_served:
            unless_served.callback(accepted.close)
            if not await self._says_something(accepted):
                return  # who only looks whether somebody listens
            try:
                server = await self._start()
            except Exception as error:
                log.error("a program could not be served: %s", error)
                return
            unless_served.pop_all()
        await relay(accepted, server, self._open)

    async def _says_something(self, accepted: socket.socket) -> bool:
        readable = asyncio.Event()
        self._loop.add_reader(accepted, readable.set)
        try:
            await readable.wait()
        finally:
            self._loop.remove_reader(accepted)
        try:
            return bool(accepted.recv(1, socket.MSG_PEEK))
        except OSError:
            return False
