"""Completion in a shell: the IDs of sessions, and of calls that wait.

Promises that pressing Tab starts no engine, asks none for longer than a moment, and never prints an error; and that
nothing which a model, a server or somebody else wrote means anything to the shell: zsh evaluates what it is told.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from flameagent.client import engine, environment, project
from flameagent.client.errors import ClientError
from flameagent.flame import FlameError
from flameagent.transcript import wording

if TYPE_CHECKING:
    from flameagent.conversation import Call

_MOMENT = 1.0  # seconds
_NEWEST = 100
_PLAIN = re.compile(r"[A-Za-z0-9._-]+")  # an ID that is the same word in every shell
_LEFT_OUT = re.compile(
    r"[^\w ,.:;=@%+/(){}-]+"
)  # of descriptions: what typer 0.29 quotes wrongly or takes for markup


def session_ids(typed: str, options: Mapping[str, str | None]) -> list[tuple[str, str]]:
    """The IDs that begin with `typed`, in any case, the newest first, each with its state and age.

    Where the application's name is typed, whole; otherwise what comes after it, which is enough for every command.
    What was typed stays as it is: shells complete nothing else. `options` name the engine, by their settings.
    """
    try:
        environ = environment.gather(os.environ, options)
        chosen = engine.choose(environ)
        name = project.choose(environ, chosen).name
        found = chosen.sessions_at_rest(name, _MOMENT)
    except (ClientError, FlameError):
        return []
    told = []
    for session_id, is_open, created in found:
        if not _PLAIN.fullmatch(session_id):
            continue
        short = session_id.removeprefix(f"{name}-")
        for shown in (session_id, short) if typed else (short,):
            if shown.casefold().startswith(typed.casefold()):
                state = f"{'open' if is_open else 'closed'}, {wording.age(created)} old"
                told.append((typed + shown[len(typed) :], state))
    return told[:_NEWEST]


def call_ids(typed: str, session: str, options: Mapping[str, str | None]) -> list[tuple[str, str]]:
    """The IDs of a session's calls that wait and begin with `typed`, each with what it calls.

    None of an engine that does not run, or that takes longer than a moment.
    """
    import flameagent.client.client  # noqa: F401 - what this program takes to load is not of the engine's moment

    found: list[tuple[str, str]] = []

    def look() -> None:
        with suppress(ClientError, FlameError):
            found.extend((call.id, f"{call.tool}({call.arguments})") for call in _waiting(session, options))

    looks = threading.Thread(target=look, daemon=True)
    looks.start()
    looks.join(_MOMENT)
    fitting = [(call, about) for call, about in found if call.startswith(typed) and _PLAIN.fullmatch(call)]
    return [(call, " ".join(_LEFT_OUT.sub("", about).split())) for call, about in fitting]


def _waiting(session: str, options: Mapping[str, str | None]) -> tuple[Call, ...]:
    from flameagent.client.client import Client

    environ = environment.gather(os.environ, options)
    chosen = engine.choose(environ)
    if (running := chosen.running()) is None:
        return ()
    with Client(running, project.choose(environ, chosen), environ) as client:
        return tuple(client.pending(session).calls)
