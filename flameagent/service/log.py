"""The log of an instance, for operators: lines with session and task, or JSON objects with `AGENT_LOG=json`."""

from __future__ import annotations

import json
import os
import sys


def write(text: str, session_id: str, task_id: str = "") -> None:
    """Add a line to the log, which is standard error; no line break in `text`.

    As JSON: `at` (UTC), `session`, `task` (the turn's, as Flame counts in the session; empty between turns), `text`.
    """
    if os.environ.get("AGENT_LOG", "").strip() == "json":
        from datetime import UTC, datetime  # an instance that does not need it does not have it

        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"at": at, "session": session_id, "task": task_id, "text": text}, ensure_ascii=False)
    else:
        line = f"[{session_id}{'/' if task_id else ''}{task_id}] {text}"
    print(line, file=sys.stderr, flush=True)
