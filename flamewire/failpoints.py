"""Failpoints: the steps at which a test run may kill this process, to see what becomes of what it was doing.

Promises to do nothing unless the environment variable `FAILPOINTS` names a folder: then a process that reaches a
point takes the file of that name away, and is killed if there was one. So each file is one kill, and one that is gone
was reached. `tests/chaos` uses it, in flameagent and localflame alike.
"""

from __future__ import annotations

import os
import signal

_FOLDER = os.environ.get("FAILPOINTS")


def failpoint(point: str) -> None:
    """Be killed here, where a test has asked for it."""
    if _FOLDER is None:
        return
    try:
        os.unlink(f"{_FOLDER}/{point}")  # noqa: PTH108 - the standard library's os is loaded anyway
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
