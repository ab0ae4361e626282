"""The logs of an instance: what it prints, for people to read and for the message that says how it ended.

Of each executor there are `<executor>.out` and `.err`, and `<executor>.session` with the ID of the session that its
instance serves. So whoever reads the folder knows which log is whose, also when no engine runs.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Executors whose logs are kept.
KEPT_LOGS = 20


class Logs:
    """Two files in `folder`, named after the executor: `.out` of standard output, `.err` of standard error."""

    def __init__(self, folder: Path, executor: str) -> None:
        self.out, self.err = folder / f"{executor}.out", folder / f"{executor}.err"

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


@dataclass(frozen=True)
class SessionLogs:
    """The logs of an instance that serves or served a session: `out` of standard output, `err` of standard error."""

    session_id: str
    out: Path
    err: Path


def note_session(folder: Path, executor: str, session_id: str) -> None:
    """Note whose logs an executor's are. Does not raise: they are for people to read."""
    with contextlib.suppress(OSError):
        (folder / f"{executor}.session").write_text(session_id, encoding="utf-8")


def sessions_logs(folder: Path) -> list[SessionLogs]:
    """The logs of the instances that serve or served a session, in the order in which they began to."""
    found: list[tuple[float, SessionLogs]] = []
    for note in folder.glob("*.session"):
        logs = Logs(folder, note.stem)
        with contextlib.suppress(OSError, UnicodeDecodeError):  # removed meanwhile, or a killed engine's half a note
            logs.err.stat()
            found.append((note.stat().st_mtime, SessionLogs(note.read_text(encoding="utf-8"), logs.out, logs.err)))
    return [logs for _, logs in sorted(found, key=lambda each: each[0])]


def drop_session_logs(folder: Path, session_id: str) -> None:
    """Remove the logs of the instances that serve or served a session. Does not raise."""
    for logs in sessions_logs(folder):
        if logs.session_id == session_id:
            for path in (logs.out, logs.err, logs.err.with_suffix(".session")):
                with contextlib.suppress(OSError):
                    path.unlink()


def drop_old_logs(folder: Path) -> None:
    """Keep the logs of the executors that wrote last. Others may be at it at the same time."""
    files = defaultdict(list)
    for path in (path for ending in ("out", "err", "session") for path in folder.glob(f"*.{ending}")):
        files[path.stem].append(path)
    written = {executor: max(map(_written, paths)) for executor, paths in files.items()}
    for executor in sorted(written, key=written.__getitem__, reverse=True)[KEPT_LOGS - 1 :]:
        for path in files[executor]:
            path.unlink(missing_ok=True)


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # removed meanwhile
        return 0.0
