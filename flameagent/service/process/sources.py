"""The files that the agent's code was read from, and whether they hold something else by now.

What counts is what a file holds, read before Python reads it to run it. So a file that is saved while it is imported
is seen, and so is one whose times say nothing (a coarse clock, one that was set back); one that was only touched
is not. Modules that are imported in the middle of a turn count too.
"""

from __future__ import annotations

import hashlib
import sys
import sysconfig
import time
from contextlib import suppress
from functools import cache
from importlib.machinery import ExtensionFileLoader, SourceFileLoader, SourcelessFileLoader
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

_COARSEST = 2.0
"""Seconds within which two changes of a file may leave the same times on it, on any file system."""


class Sources:
    """The files that were imported since `watch`: the agent's own, and the list of installed packages."""

    def __init__(self) -> None:
        self._here = Path.cwd()
        self._files: dict[Path, _File] = {}

    def watch(self) -> None:
        """Note each module of the agent's own from now on, before it is loaded. Once in a process."""
        self._note(Path(sysconfig.get_path("purelib")))
        self._watch(SourceFileLoader, "get_code")
        self._watch(SourcelessFileLoader, "get_code")
        self._watch(ExtensionFileLoader, "create_module")

    @property
    def changed(self) -> bool:
        """True if any of them is not what it was."""
        return any(file.changed for file in list(self._files.values()))

    def digests(self) -> dict[str, str]:
        """What each of them holds, as a hash: whoever compares it later sees whether it has changed."""
        return {str(path): file.held.hex() for path, file in self._files.items()}

    def _watch(self, loader: type[Any], method: str) -> None:
        load = getattr(loader, method)

        def noted(this: Any, asked: Any) -> Any:
            path = Path(this.path).absolute()
            if self._is_own(path):
                self._note(path)
                _distrust_compiled(path)
            return load(this, asked)

        setattr(loader, method, noted)

    def _note(self, path: Path) -> None:
        if path not in self._files:  # code that was read first runs on, whoever reads the file again
            self._files[path] = _File(path)

    def _is_own(self, path: Path) -> bool:
        """Return whether a module is the agent's: from the working directory, or where no packages are installed."""
        if {"site-packages", "dist-packages"} & set(path.parts):
            return False
        if path.is_relative_to(self._here):
            return True
        installed = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
        return not any(map(path.is_relative_to, [*installed, *filter(_has_packages, sys.path)]))


class _File:
    """A file, or a folder, which holds the names in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._times, self._since, self._settled = _times(path), time.monotonic(), False
        self.held = held(path)

    @property
    def changed(self) -> bool:
        times = _times(self._path)
        if self._settled and times == self._times:
            return False
        if held(self._path) != self.held:
            return True
        if times != self._times:
            self._times, self._since = times, time.monotonic()
        self._settled = time.monotonic() - self._since > _COARSEST  # a change after this shows in the times
        return False


def _times(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev


def held(path: Path) -> bytes:
    """A hash of what a file holds, or the names in a folder; empty where there is nothing to read."""
    try:
        if path.is_dir():
            names = sorted(entry.name for entry in path.iterdir() if entry.name != "__pycache__")
            return hashlib.sha256("/".join(names).encode()).digest()
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return b""


@cache
def _has_packages(folder: str) -> bool:
    return any(Path(folder).glob("*.dist-info"))


def _distrust_compiled(path: Path) -> None:
    """Python takes compiled code for that of any source of the same size and second. Written that soon, it may be of
    what the file held before: then it is removed, and compiled anew."""
    with suppress(OSError, NotImplementedError):
        compiled = Path(cache_from_source(str(path)))
        if compiled.stat().st_mtime < path.stat().st_mtime + _COARSEST:
            compiled.unlink()
