"""The list of an application's sessions, searched, and one of them as it stands there; closing and deleting them.

Promises that a session whose objects are gone or damaged does not hide the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace

from flameagent.client import person
from flameagent.client.agent_connection import AgentConnection
from flameagent.client.connection import translate_errors
from flameagent.client.errors import ConflictError
from flameagent.client.events import OnProgress
from flameagent.client.known_sessions import KnownSessions
from flameagent.client.overview import overview
from flameagent.client.session_info import NO_HISTORY, SessionInfo, SessionReader, session_state
from flameagent.conversation import DamagedError, MissingError
from flameagent.flame import NotFound, Refused
from flameagent.flame.frontend import Session

__all__ = ["NO_HISTORY", "SessionInfo", "close", "delete", "list_sessions", "read_session", "session_state"]


def list_sessions(
    connection: AgentConnection,
    *,
    state: str = "",
    limit: int | None = None,
    search: str = "",
    only: Collection[str] | None = None,
    on_progress: OnProgress | None = None,
) -> list[SessionInfo]:
    """The application's sessions, newest first: those in that state, with that text in their title or history.

    With `only` none but those of these IDs are looked at. Where many have to be read, `on_progress` is told how many.
    """
    with translate_errors():
        connection.greet()
        with overview(connection) as engine:
            own = engine.sessions()
            wanted = own if only is None else [each for each in own if each.id in only]
            wanted = wanted if limit is None or state or search else wanted[:limit]
            found = SessionReader(connection, engine, search, on_progress).read(wanted, own)
    fitting = [info for info in found if state in ("", info.state) and (not search or info.match)][:limit]
    short = shortened([info.session_id for info in fitting], [each.id for each in own], connection.application.name)
    return [replace(info, short=short[info.session_id]) for info in fitting]


def read_session(connection: AgentConnection, wanted: str, search: str = "") -> SessionInfo:
    """One session as it is in the list of such a `search`. Raises `NoSuchSession`, `AmbiguousSession`."""
    found = connection.look_up(wanted)
    with translate_errors(found.id):
        return read_sessions(connection, [found], search=search)[0]


def read_sessions(
    connection: AgentConnection, found: Sequence[Session], own: Sequence[Session] | None = None, search: str = ""
) -> list[SessionInfo]:
    """Sessions that were found, as they are in the list of such a `search`; `own` are all of the application.

    Raises `ClientError`.
    """
    with translate_errors(), overview(connection) as engine:
        return SessionReader(connection, engine, search).read(found, own)


def close(connection: AgentConnection, wanted: str) -> str:
    """Close a session, so that nothing can be added; its ID. Can be repeated.

    Raises `ConflictError` while a turn runs.
    """
    return _closed(connection, wanted).id


def delete(connection: AgentConnection, wanted: str) -> str:
    """Close a session and delete it with all that it holds and all that is remembered of it; its ID.

    Can be repeated.
    """
    session = _closed(connection, wanted)
    with translate_errors(session.id):
        # In this order: whoever deletes it again finds whose memory of it is left, and then its objects.
        person.take_back(connection, session, _owner(connection, session), None)
        connection.cache.delete(f"{connection.application.name}/{session.id}")
        with KnownSessions(connection.engine.identity, connection.application.name, wipe=False) as known:
            known.forget([session.id])
            connection.has_deleted = True
        connection.frontend.delete_session(session.id)
    return session.id


def wipe(connection: AgentConnection) -> None:
    """Have nothing left on this machine of the sessions that were deleted, however many these were."""
    if connection.has_deleted:
        connection.has_deleted = False
        with KnownSessions(connection.engine.identity, connection.application.name):
            pass  # it is wiped when it is opened


def _closed(connection: AgentConnection, wanted: str) -> Session:
    found = connection.look_up(wanted)
    with translate_errors(found.id):
        try:
            connection.frontend.close_session(found.id)
        except NotFound:
            raise
        except Refused as error:
            raise ConflictError(f"The session {found.id} cannot be closed while a turn runs ({error}).") from error
    return found


def _owner(connection: AgentConnection, session: Session) -> str:
    """Whose session it is; "" also where that cannot be read: its objects are gone, or its first one is damaged."""
    with suppress(MissingError, DamagedError):
        log = connection.log(session)
        return log.refresh().owner if log else ""
    return ""


def shortened(wanted: Sequence[str], ids: Sequence[str], application: str) -> dict[str, str]:
    """Each of the wanted IDs without the application's name, where that finds it alone among all `ids`."""
    parts = {session_id: session_id.removeprefix(f"{application}-") for session_id in wanted}
    folded = {part.casefold() for part in parts.values() if part}
    lengths = {len(part) for part in folded}
    times: Counter[str] = Counter()
    for session_id in ids:
        other = session_id.casefold()
        inside = {other[at : at + length] for length in lengths for at in range(len(other) - length + 1)}
        times.update(inside & folded)
    return {session_id: part if times[part.casefold()] == 1 else session_id for session_id, part in parts.items()}
