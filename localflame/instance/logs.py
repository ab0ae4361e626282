"""The logs of an instance: what it prints, for people to read and for the message that says how it ended."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Executors whose logs are kept.
KEPT_LOGS = 20


class Logs:
    """Two files in `folder`, named after the executor: `.out` of standard output, `.err` of standard error."""

    def __init__(self, folder: Path, executor: str) -> None:
        self._folder = folder
        self._name(executor)

    def _name(self, executor: str) -> None:
        self.out, self.err = self._folder / f"{executor}.out", self._folder / f"{executor}.err"

    def rename(self, executor: str) -> None:
        """Have them under the name of the executor that the instance turns out to be for."""
        before = (self.out, self.err)
        self._name(executor)
        for old, new in zip(before, (self.out, self.err), strict=True):
            with contextlib.suppress(OSError):  # they are for people to read
                old.replace(new)

    def tail(self, secrets: Iterable[str]) -> str:
        """The last lines of standard error, or else of standard output, with `***` for the secrets."""
        for path in (self.err, self.out):
            try:
                with path.open("rb") as file:
                    file.seek(max(0, path.stat().st_size - 4096))
                    lines = file.read().decode(errors="replace").strip().splitlines()[-12:]
            except OSError:
                continue
            if lines:
                tail = "\n".join(lines)
                for secret in secrets:
                    tail = tail.replace(secret, "***")
                return tail
        return ""


def drop_old_logs(folder: Path) -> None:
    """Keep the logs of the newest executors, this engine's log aside. Others may be at it at the same time."""
    written: list[tuple[float, Path]] = []
    for path in folder.glob("*.out"):
        with contextlib.suppress(FileNotFoundError):
            written.append((path.stat().st_mtime, path))
    for _, path in sorted(written, reverse=True)[KEPT_LOGS - 1 :]:
        path.unlink(missing_ok=True)
        path.with_suffix(".err").unlink(missing_ok=True)
