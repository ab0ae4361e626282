"""The session that this client last used, on each engine.

A convenience, kept in the user's state folder: where it cannot be written, `-c` finds nothing, and no turn
fails for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from flameagent.client import places
from flameagent.client.errors import NoSuchSession


def read(engine: str, application: str) -> str:
    """The ID of the session used last. Raises `NoSuchSession`."""
    file = _file(engine, application)
    if file is None:
        raise NoSuchSession("Without a home (HOME) nobody remembers which session you used last: name it with -s.")
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if found := file.read_text(encoding="utf-8").strip():
            return found
    raise NoSuchSession("You have used no session on this engine yet; the command `sessions` lists those it has.")


def write(engine: str, application: str, session_id: str) -> None:
    """Remember the session."""
    file = _file(engine, application)
    if file is None:
        return
    fresh = file.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.write_text(session_id, encoding="utf-8")
        fresh.replace(file)


def _file(engine: str, application: str) -> Path | None:
    name = hashlib.sha256(f"{engine}\n{application}".encode()).hexdigest()[:16]
    folder = places.state()
    return folder and folder / f"last-{name}"
