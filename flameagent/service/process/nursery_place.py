"""Where a nursery is: a private folder beside the instances' sockets, and the name that all have who may share one.

The name is a hash of all that decides what a worker is, keys included: of two instances that differ in anything but
what each has of its own, neither gets a worker of the other's nursery. In the folder, by that name:

- `.lock`: who holds the lock founds the nursery, or is it. In the file, its process ID.
- `.sock`: the nursery listens there. It appears when the agent is imported.
- `.no`: why nothing can be forked of this agent, and which code that was found of.

Each instance imports this, so it is made of little: no pathlib, no dataclasses.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import sys
from contextlib import suppress
from typing import NamedTuple

from flameagent import fork_notes

OWN = ("FLAME_INSTANCE_ENDPOINT", "TMPDIR", "TEMP", "TMP")
"""The variables that each instance has of its own."""
MOST = 4
"""Nurseries that a user has on a node and engine at once; those beyond it would be of many different keys."""
_LONGEST = 107
"""Bytes of the path of a Unix socket on Linux."""


class NoNurseryError(Exception):
    """There can be no nursery here. The message says why, as a part of a sentence."""


class Place(NamedTuple):
    """Where the nursery of one kind of worker is: by `name` in `folder`."""

    folder: str
    name: str

    @classmethod
    def find(cls, target: str, endpoint: str) -> Place:
        """That of this process's workers, beside the socket that it was given. Raises `NoNurseryError`."""
        if not sys.platform.startswith("linux"):
            raise NoNurseryError("forking is not safe on this system")
        if any(part.startswith(".tmp") for part in sys.prefix.split("/")):
            raise NoNurseryError("this environment of packages was made for one start (uv run --isolated)")
        place = cls(fork_notes.folder_of(os.path.dirname(endpoint)), _name(target))
        if len(os.fsencode(place.socket)) > _LONGEST:
            raise NoNurseryError(f"the path of its socket is too long: {place.socket}")
        try:
            with suppress(FileExistsError):
                os.mkdir(place.folder, 0o700)
            found = os.lstat(place.folder)
        except OSError as error:
            raise NoNurseryError(f"it has no place: {error}") from None
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise NoNurseryError(f"{place.folder} is not this user's alone")
        return place

    @property
    def socket(self) -> str:
        """The path of the socket."""
        return self._path("sock")

    def _path(self, ending: str) -> str:
        return f"{self.folder}/{self.name}.{ending}"

    def lock(self) -> int | None:
        """The lock, as a descriptor; None while another has it. Raises OSError."""
        descriptor = os.open(self._path("lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None

    @staticmethod
    def note_holder(lock: int) -> None:
        """Note that this process has the lock; on a full disk nobody is told."""
        with suppress(OSError):
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)

    def holder_is_stopped(self) -> bool:
        """True if the process that has the lock was stopped (SIGSTOP), so that nothing is to be expected of it."""
        with suppress(OSError, ValueError), open(self._path("lock"), encoding="ascii") as lock:
            return is_stopped(int(lock.read()))
        return False

    def argument(self, lock: int, keeper: int) -> str:
        """What tells a worker that starts to found the nursery: the lock, and a pidfd of who starts the instances."""
        return f"{lock}:{keeper}:{self.name}:{self.folder}"

    def refuse(self, target: str, reason: str, digests: dict[str, str]) -> None:
        """Note that nothing can be forked of this code, so that nobody tries it again."""
        fork_notes.write(self._path("no"), fork_notes.Note(target, reason, digests))

    def forget_refusals(self, target: str) -> None:
        """Something has been forked of the agent: what was noted of it does not hold any more."""
        for path, _ in fork_notes.of_agent(os.path.dirname(self.folder), target):
            with suppress(OSError):
                os.unlink(path)

    def refusal(self) -> str:
        """Why nothing can be forked of the agent as its code is now; "" where that is not known."""
        note = fork_notes.read(self._path("no"))
        if note is None:
            return ""
        from pathlib import Path

        from flameagent.service.process.sources import held

        same = all(held(Path(path)).hex() == digest for path, digest in note.code.items())
        return note.reason if same else ""

    def others(self) -> list[str]:
        """The sockets of other nurseries, that first which was used least recently."""
        found: list[tuple[float, str]] = []
        for entry in os.scandir(self.folder):
            if entry.name.endswith(".sock") and entry.path != self.socket:
                with suppress(OSError):
                    found.append((entry.stat().st_mtime, entry.path))
        return [path for _, path in sorted(found)]


def is_stopped(pid: int) -> bool:
    """True if the process was stopped (SIGSTOP, or by a debugger)."""
    fields = stat_fields(pid)
    return bool(fields) and fields[0] in "tT"


def stat_fields(pid: int | str) -> list[str]:
    """What the system tells of a process behind its name: its state, its parent, its group, its session, …"""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def members(group: int, session: int | None = None) -> list[int]:
    """The processes of a process group, or of that session only, that have not ended. Raises OSError where the system
    does not tell."""
    wanted = [str(group)] if session is None else [str(group), str(session)]
    found = []
    for number in filter(str.isdecimal, os.listdir("/proc")):
        state, _parent, *those = stat_fields(number) or ("Z", "")
        if state != "Z" and those[: len(wanted)] == wanted:
            found.append(int(number))
    return found


def starter() -> int:
    """The process that starts instances: this one's parent, or that of the `uv run` which is its parent.

    It becomes another when that process has ended, also behind uv, which does not notice.
    """
    parent = os.getppid()
    with suppress(OSError, IndexError), open(f"/proc/{parent}/comm", encoding="utf-8") as name:
        if name.read() == "uv\n":
            return int(stat_fields(parent)[1])
    return parent


def _name(target: str) -> str:
    import hashlib

    shared = sorted((name, value) for name, value in os.environ.items() if name not in OWN)
    decides = [target, sys.executable, sys.prefix, sys.version, os.getcwd(), os.getegid(), sorted(os.getgroups())]
    text = json.dumps([*decides, shared])
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]
