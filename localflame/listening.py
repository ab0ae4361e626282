"""A Unix socket that is listened at in the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

log = logging.getLogger("localflame")

#: Seconds without accepting where there is no descriptor left.
_PAUSE = 0.1


def listen(path: Path) -> socket.socket:
    """A socket of that name, which blocks nobody. Raises OSError."""
    listener = socket.socket(socket.AF_UNIX)
    with contextlib.ExitStack() as unless_listening:
        unless_listening.callback(listener.close)
        listener.setblocking(False)
        listener.bind(str(path))
        listener.listen(socket.SOMAXCONN)
        unless_listening.pop_all()
    return listener


async def connections(listener: socket.socket) -> AsyncIterator[socket.socket]:
    """Who comes, one after the other, until that is cancelled, which closes it."""
    with listener:
        while True:
            try:
                accepted, _ = await asyncio.get_running_loop().sock_accept(listener)
            except OSError as error:  # no descriptor is free: it may get better
                log.error("a program could not be served: %s", error)
                await asyncio.sleep(_PAUSE)
                continue
            accepted.setblocking(False)
            yield accepted
