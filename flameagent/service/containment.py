"""The agent's own code, such as its tools, contained: what it raises does not end the worker that runs it.

`sys.exit()`, a `KeyboardInterrupt`, a `CancelledError` that nobody asked for: what is no `Exception` passes whoever
only expects one. Here it becomes one, at the door where the agent's code is called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread
from typing import Any, ParamSpec, TypeVar

_T = TypeVar("_T")
_P = ParamSpec("_P")


class Escaped(Exception):
    """The agent's code raised what is no `Exception`: `raised`."""

    def __init__(self, raised: BaseException) -> None:
        super().__init__(str(raised))
        self.raised = raised


async def contain(code: Awaitable[_T]) -> _T:
    """Await the agent's code. Raises `Escaped` for what is no `Exception` and no cancellation of this task."""
    try:
        return await code
    except Exception:
        raise
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        raise Escaped(error) from error


class ContainingThreads(ThreadPoolExecutor):
    """The threads of an event loop, for code that is no coroutine: it too raises `Exception`s only."""

    def __init__(self) -> None:
        super().__init__()
        self._unfinished: set[Future[Any]] = set()

    @property
    def threads(self) -> frozenset[Thread]:
        """Those that there are."""
        return frozenset(self._threads)

    @property
    def busy(self) -> bool:
        """True while any of them runs something, or is to."""
        return bool(self._unfinished)

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Run it in a thread."""
        future: Future[_T] = super().submit(_contain, fn, *args, **kwargs)  # type: ignore[arg-type]
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        return future


def _contain(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    try:
        return function(*args, **kwargs)
    except StopIteration as error:  # no future takes it: Python 3.11 would wait for ever
        raise Escaped(error) from error
    except Exception:
        raise
    except BaseException as error:
        raise Escaped(error) from error
