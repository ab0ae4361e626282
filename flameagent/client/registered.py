"""The applications that are registered on an engine, with what each runs and how many sessions it has."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from flameagent.client.application import target_in
from flameagent.client.connection import Connection, translate_errors

_BUILT_IN = {"flmexec", "flmping", "flmrun"}
"""Those that every Flame 0.6.0 has: they are no agents."""


@dataclass(frozen=True)
class Registered:
    """An application. `agent` is the `MODULE[:OBJECT]` that runs, empty where its command does not say."""

    application: str
    sessions: int
    agent: str
    folder: str


def list_applications(connection: Connection) -> list[Registered]:
    """All of them by name, but for Flame's own. Raises `ClientError`."""
    with translate_errors():
        connection.greet()
        found = connection.frontend.applications()
        sessions = Counter(session.application for session in connection.frontend.sessions())
    return [
        Registered(each.name, sessions[each.name], target_in(each.arguments), each.working_directory)
        for each in sorted(found, key=lambda each: each.name)
        if each.name not in _BUILT_IN
    ]
