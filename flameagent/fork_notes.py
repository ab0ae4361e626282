"""Notes of agents whose workers cannot be forked, beside the sockets of the instances, where a status finds them."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import NamedTuple


class Note(NamedTuple):
    """Why nothing can be forked of the agent `target`, and of which `code` that was found: hashes by their files."""

    target: str
    reason: str
    code: dict[str, str]


def folder_of(sockets: str) -> str:
    """The private folder of this user's nurseries, beside the instances' sockets."""
    return os.path.join(sockets, f"nurseries-{os.geteuid()}")


def write(path: str, note: Note) -> None:
    """Write it whole, or not at all. Raises OSError."""
    unfinished = f"{path}.{os.getpid()}"
    with open(unfinished, "w", encoding="utf-8") as file:
        json.dump(note, file)
    os.rename(unfinished, path)


def read(path: str) -> Note | None:
    """The note at that path; None where there is none, or nothing that is one."""
    with suppress(OSError, ValueError, TypeError), open(path, encoding="utf-8") as file:
        target, reason, code = json.load(file)
        if isinstance(code, dict):
            return Note(str(target), str(reason), code)
    return None


def of_agent(sockets: str, target: str) -> list[tuple[str, Note]]:
    """All notes about an agent, with their paths."""
    found: list[tuple[str, Note]] = []
    with suppress(OSError):
        for entry in os.scandir(folder_of(sockets)):
            note = read(entry.path) if entry.name.endswith(".no") else None
            if note is not None and note.target == target:
                found.append((entry.path, note))
    return found
