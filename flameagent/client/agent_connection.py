"""A connection to the agent on an engine: registered there, its sessions found and made ready for a turn.

Promises that only the application's own sessions are seen, and that each step towards a turn can be repeated: the
embedded engine may leave at any moment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from flameagent.client.application import Application
from flameagent.client.connection import Connection, translate_errors
from flameagent.client.engine import Engine
from flameagent.client.environment import Environment
from flameagent.client.errors import NoEngine, NoSuchSession, SessionClosed
from flameagent.client.events import Listener, Progress
from flameagent.client.session_id import the_one
from flameagent.flame import NotFound, NotOpen
from flameagent.flame.frontend import Session


class KnownMemory(NamedTuple):
    """The key of what is remembered of a person, over the channels of a `generation`, and until when it is taken."""

    key: str
    generation: int
    until: float


class AgentConnection(Connection):
    """A connection to the application's agent; its turns get the model settings of `environ`, where those count.

    With `for_many` it serves people who may not know of each other: a session is found by its exact ID alone.
    """

    def __init__(
        self, engine: Engine, application: Application, environ: Environment, *, for_many: bool = False
    ) -> None:
        """Raises `UsageError` where the engine knows another agent by that name."""
        super().__init__(engine)
        self.for_many = for_many
        engine.check(application)
        self.application = application
        self.has_deleted = False  # sessions, since what lists know of them was wiped
        self.memories: dict[str, KnownMemory] = {}  # by person
        self.environ = environ

    @property
    def remembers(self) -> bool:
        """True unless `AGENT_MEMORY` is off: what is said is remembered of who says it."""
        return self.environ.get("AGENT_MEMORY", "").strip() != "off"

    def register(self) -> None:
        """Have the engine know the application. Raises `NotRegistered`, where that is not ours to do."""
        self.engine.register(self.application, self.frontend)

    def arrange(self, session_id: str) -> None:
        """Make the engine ready for a turn in that session."""
        self.register()
        self.engine.pass_settings(self.application, session_id, self.environ)

    def begin_turn(self, open_session: Callable[[], Session], listen: Listener, session_id: str = "") -> Session:
        """Make the engine ready for a turn in the session that is opened or made; errors name `session_id`.

        Raises `ClientError`.
        """
        for last in (False, False, True):
            channels = self.generation
            try:
                with translate_errors(session_id):
                    listen(Progress(self.engine.contact))
                    self.register()
                    listen(Progress("opening the session"))
                    session = open_session()
                    self.engine.pass_settings(self.application, session.id, self.environ)
                    return session
            except NoEngine:
                if last or not (self.engine.comes_back and self.reached):
                    raise
                self.leave(channels)
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
            session = None
        if self.for_many:
            raise NoSuchSession(f"There is no session {wanted}.")
        own = {each.id: each for each in self.sessions()}
        try:
            return own[the_one(wanted, list(own), name)]
        except NoSuchSession:
            if session is None:
                raise
            other = session.application
            raise NoSuchSession(f"{wanted} is a session of {other}, not of {name}: give --app {other}.") from None
