"""The sessions that a home has, told from its file alone, whether its engine runs or not.

For what must not start an engine and must not wait for one, such as a shell's completion.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def sessions(home: Path, application: str) -> list[tuple[str, bool, int]]:
    """The ID of each session, whether it is open, and when it was made (epoch milliseconds), the newest first.

    An empty list where there is no file, or it cannot be read.
    """
    try:
        with closing(sqlite3.connect(f"{(home / 'flame.db').as_uri()}?mode=ro", uri=True, timeout=0.5)) as file:
            found = file.execute(
                "SELECT id, state = 0, created FROM sessions WHERE application = ? ORDER BY created DESC, id",
                (application,),
            )
            return [(session_id, bool(is_open), created) for session_id, is_open, created in found]
    except sqlite3.Error:
        return []
