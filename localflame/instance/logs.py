"""The logs of instances."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localflame.home import Home

#: Executors whose logs are kept.
KEPT_LOGS = 20


def log_files(home: Home, executor: str) -> tuple[Path, Path]:
    return home.logs / f"{executor}.out", home.logs / f"{executor}.err"


def drop_old_logs(folder: Path) -> None:
    """Keep the logs of the newest executors, this engine's log aside. Others may be at it at the same time."""
    written: list[tuple[float, Path]] = []
    for path in folder.glob("*.out"):
        with contextlib.suppress(FileNotFoundError):
            written.append((path.stat().st_mtime, path))
    for _, path in sorted(written, reverse=True)[KEPT_LOGS - 1 :]:
        path.unlink(missing_ok=True)
        path.with_suffix(".err").unlink(missing_ok=True)
