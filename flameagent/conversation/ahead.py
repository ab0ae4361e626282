"""What is read in a thread of its own while something else is done.

Promises that nobody has to ask what became of it: an error is raised for who does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Ahead(Generic[_T]):
    """The result of reading `key`, which begins now."""

    def __init__(self, key: str, read: Callable[[str], _T]) -> None:
        self.key = key
        self._read = read
        self._result: list[_T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="read ahead", daemon=True)
        self._thread.start()

    def result(self) -> _T:
        """What was read, when it was; raises what the reading has raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result[0]

    def _run(self) -> None:
        try:
            self._result.append(self._read(self.key))
        except BaseException as error:
            self._error = error
