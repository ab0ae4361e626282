"""Calls that block, for code that runs on an event loop: one at a time, in threads.

Promises that a change which was begun is waited for, even when whoever asked for it is cancelled meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")


class SerialCalls:
    """Calls of something that is made for one thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def call(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Call it here, when no other call runs."""
        with self._lock:
            return function(*arguments)

    async def call_quickly(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Call it here, because it waits for nothing; in a thread while another call runs."""
        if not self._lock.acquire(blocking=False):
            return await self.read(function, *arguments)
        try:
            return function(*arguments)
        finally:
            self._lock.release()

    async def read(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Call in a thread what changes nothing."""
        return await asyncio.to_thread(self.call, function, *arguments)

    async def change(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Call in a thread, and wait for what becomes of it; then raise `asyncio.CancelledError`, if that came."""
        running = asyncio.ensure_future(asyncio.to_thread(self.call, function, *arguments))
        cancelled: asyncio.CancelledError | None = None
        while not running.done():
            try:
                await asyncio.wait({running})
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
        if cancelled is not None:
            running.exception()  # else asyncio complains that nobody asked for it
            raise cancelled
        return running.result()
