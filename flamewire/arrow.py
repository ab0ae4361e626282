"""The import of Arrow, which brings numpy along, if that is there: half of its time, and nothing of ours needs it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_ours = False


def process_is_ours() -> None:
    """Say that no code but this program's will use Arrow in this process, so that it can do without numpy."""
    global _ours
    _ours = True


@contextmanager
def imports() -> Iterator[None]:
    """Around imports of Arrow: without numpy in a process of our own. Numpy itself can be imported after that."""
    if not _ours or "numpy" in sys.modules:
        yield
        return
    sys.modules["numpy"] = None  # type: ignore[assignment] # the import system's way to say that there is none
    try:
        yield
    finally:
        del sys.modules["numpy"]
