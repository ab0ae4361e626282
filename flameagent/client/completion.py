"""What a shell completes: the IDs of sessions.

Promises that pressing Tab starts no engine, asks none for longer than a moment, and never prints an error.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from flameagent.client import application, engine, render, settings
from flameagent.client.errors import ClientError
from flameagent.flame import FlameError
from localflame import known

_MOMENT = 1.0  # seconds
_NEWEST = 100


def session_ids(typed: str, options: Mapping[str, str | None]) -> list[tuple[str, str]]:
    """The IDs that begin with `typed`, in any case, the newest first, each with its state and age.

    Where the application's name is typed, whole; otherwise what comes after it, which is enough for every command.
    What was typed stays as it is: shells complete nothing else. `options` name the engine, by their settings.
    """
    try:
        name = application.read().name
        found = _found(name, options)
    except (ClientError, FlameError):
        return []
    told = []
    for session_id, is_open, created in found:
        short = session_id.removeprefix(f"{name}-")
        for shown in (session_id, short) if typed else (short,):
            if shown.casefold().startswith(typed.casefold()):
                state = f"{'open' if is_open else 'closed'}, {render.age(created)} old"
                told.append((typed + shown[len(typed) :], state))
    return told[:_NEWEST]


def _found(name: str, options: Mapping[str, str | None]) -> list[tuple[str, bool, int]]:
    chosen = engine.choose(settings.environment(os.environ, options))
    if isinstance(chosen, engine.Embedded):
        return known.sessions(chosen.home, name)
    from flameagent.flame.frontend import Frontend

    frontend = Frontend(chosen.reach())
    try:
        sessions = [session for session in frontend.sessions(timeout=_MOMENT) if session.application == name]
    finally:
        frontend.close()
    sessions.sort(key=lambda session: (session.created, session.id), reverse=True)
    return [(session.id, session.open, session.created) for session in sessions]
