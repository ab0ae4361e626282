"""A connection to the agent on an engine: registered there, its sessions found and made ready for a turn.

Promises that only the application's own sessions are seen, and that each step towards a turn can be repeated: the
embedded engine may leave at any moment.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from flameagent.client.application import Application
from flameagent.client.connection import Connection, translate_errors
from flameagent.client.engine import Engine
from flameagent.client.environment import Environment
from flameagent.client.errors import AmbiguousSession, NoEngine, NoSuchSession, SessionClosed
from flameagent.client.events import Listener, Progress
from flameagent.flame import NotFound, NotOpen
from flameagent.flame.frontend import Session


class AgentConnection(Connection):
    """A connection to the application's agent; its turns get the model settings of `environ`, where those count."""

    def __init__(self, engine: Engine, application: Application, environ: Environment) -> None:
        super().__init__(engine)
        self.application = application
        self._environ = environ

    def register(self) -> None:
        """Have the engine know the application. Raises `NotRegistered`, where that is not ours to do."""
        self.engine.register(self.application, self.frontend)

    def arrange(self, session_id: str) -> None:
        """Make the engine ready for a turn in that session."""
        self.register()
        self.engine.pass_settings(self.application, session_id, self._environ)

    def begin_turn(self, open_session: Callable[[], Session], listen: Listener, session_id: str = "") -> Session:
        """Make the engine ready for a turn in the session that is opened or made; errors name `session_id`.

        Raises `ClientError`.
        """
        for last in (False, False, True):
            try:
                with translate_errors(session_id):
                    listen(Progress(self.engine.contact))
                    self.register()
                    listen(Progress("opening the session"))
                    session = open_session()
                    self.engine.pass_settings(self.application, session.id, self._environ)
                    return session
            except NoEngine:
                if last or not (self.engine.comes_back and self.reached):
                    raise
                self.close()
        raise AssertionError("the last attempt returns or raises")

    def sessions(self) -> list[Session]:
        """The application's sessions, newest first."""
        own = [session for session in self.frontend.sessions() if session.application == self.application.name]
        return sorted(own, key=lambda session: (session.created, session.id), reverse=True)  # whole seconds

    def look_up(self, wanted: str) -> Session:
        """The session with that ID, or the only one that has that in its ID, open or closed, after a greeting.

        Raises `NoSuchSession`, `AmbiguousSession`.
        """
        with translate_errors():
            self.greet()
            return self._find(wanted)

    def open(self, wanted: str) -> Session:
        """The session with that ID, or the only one that has that in its ID, opened. Raises `SessionClosed` too."""
        session = self._find(wanted)
        if session.open:
            try:
                return self.frontend.open_session(session.id)
            except NotOpen:
                pass  # closed just now
        raise SessionClosed(
            f"The session {session.id} is closed, so nothing can be added; its history can still be read.",
            session_id=session.id,
        )

    def _find(self, wanted: str) -> Session:
        name = self.application.name
        try:
            session = self.frontend.session(wanted)
            if session.application == name:
                return session
        except NotFound:
            pass
        part, own = wanted.casefold(), self.sessions()
        candidates = [session for session in own if part and part in session.id.casefold()]
        if not candidates:
            close = _close_to(part, own, name)
            said = f"Did you mean {close}?" if close else "The command `sessions` lists them."
            raise NoSuchSession(f"No session of {name} has {wanted!r} in its ID. {said}")
        if len(candidates) > 1:
            named = ", ".join(session.id for session in candidates[:8]) + (", …" if len(candidates) > 8 else "")
            raise AmbiguousSession(
                f"{len(candidates)} sessions have {wanted!r} in their ID: {named}. Give more of it."
            )
        return candidates[0]


def _close_to(part: str, own: list[Session], application: str) -> str:
    """The ID that somebody may have meant; "" where none is near."""
    ids: dict[str, str] = {}
    for session in own:
        short = session.id.removeprefix(f"{application}-")
        ids |= {session.id.casefold(): session.id, short.casefold(): short}
    return next((ids[close] for close in difflib.get_close_matches(part, ids, 1)), "")
