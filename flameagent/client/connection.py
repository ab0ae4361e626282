"""A connection to an engine: its frontend and its object cache, opened when they are needed.

Promises that what Flame and the conversation raise leaves this package as a `ClientError`, and that after
an outage `reopen` finds the engine where it is now (the embedded one may come back on other ports).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from flameagent.client import errors
from flameagent.client.engine import FIRST_CONTACT, Engine
from flameagent.conversation import ConversationError, ConversationLog
from flameagent.flame import Endpoints, FlameError, NotFlame, NotFound, Unreachable
from flameagent.flame.cache import ObjectCache
from flameagent.flame.frontend import Frontend, Session
from flameagent.outcomes import client_code
from flamewire.object_ref import ObjectRef

if TYPE_CHECKING:
    from flameagent.client.turn_watch import TurnWatch

PATIENCE = 10.0
"""Seconds that a person waits for a cache that does not answer, where an agent waits longer."""


class Connection:
    """One engine, and the channels to it, for any number of threads.

    `generation` counts how often the channels were opened anew; `readers` are the turns whose events are read. A
    `watch` is told of all turns.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.generation = 0
        self.readers = 0
        self.watch: TurnWatch | None = None
        self._lock = threading.RLock()
        self._endpoints: Endpoints | None = None
        self._frontend: Frontend | None = None
        self._cache: ObjectCache | None = None

    @property
    def reached(self) -> bool:
        """True once the engine has said where it is."""
        return self._endpoints is not None

    @property
    def frontend(self) -> Frontend:
        """The engine's frontend. Raises `NoEngine` when the embedded engine cannot start."""
        with self._lock:
            self._frontend = self._frontend or Frontend(self._reach())
            return self._frontend

    @property
    def cache(self) -> ObjectCache:
        """The engine's object cache."""
        with self._lock:
            self._cache = self._cache or ObjectCache(self._reach())
            return self._cache

    @property
    def endpoints(self) -> Endpoints:
        """Its addresses."""
        with self._lock:
            return self._reach()

    def _reach(self) -> Endpoints:
        self._endpoints = self._endpoints or self.engine.reach()
        return self._endpoints

    def count_readers(self, change: int) -> None:
        """Have that many turns more, or fewer, read their events."""
        with self._lock:
            self.readers += change

    @property
    def patience(self) -> float:
        """Seconds to wait for a cache that is away before a question; the embedded engine's comes with the engine."""
        return PATIENCE if self.engine.cache_apart else 0.0

    def close(self) -> None:
        """Close the channels; the next use opens new ones."""
        with self._lock:
            if self._frontend is not None:
                self._frontend.close()
            if self._cache is not None:
                self._cache.close()
            self.leave(self.generation)

    def leave(self, generation: int) -> None:
        """Use the channels of that `generation` no more; whoever is in the middle of a call comes to its end."""
        with self._lock:
            if generation == self.generation:
                self._frontend = self._cache = self._endpoints = None
                self.generation += 1

    def reopen(self, generation: int) -> None:
        """Look where the engine is now, starting the embedded one where it went, and open new channels.

        Where somebody else has done so since that `generation`, theirs are used.
        """
        with self._lock:
            self.leave(generation)
            self.frontend  # noqa: B018 - reaches the engine

    def greet(self) -> None:
        """See in little time that a Flame answers; the embedded engine is started where it has left meanwhile.

        Raises `FlameError`.
        """
        channels = self.generation
        try:
            self._greet()
        except (Unreachable, NotFlame):  # NotFlame: one that goes away can say CANCELLED
            if not self.engine.comes_back:
                raise
            self.reopen(channels)
            self._greet(wait=True)  # its frontend may just be starting again

    def _greet(self, wait: bool = False) -> None:
        with suppress(NotFound):
            self.frontend.application("-", timeout=FIRST_CONTACT, wait=wait)

    def is_busy(self, session_id: str) -> bool:
        """True while a task of the session runs or waits to run."""
        session = self.frontend.session(session_id)
        return session.running > 0 or session.pending > 0

    def log(self, session: Session) -> ConversationLog | None:
        """The session's conversation; None for a session without context, which keeps nothing."""
        if session.common_data is None:
            return None
        return ConversationLog(self.cache, first_key(session), guard=undisturbed, patience=PATIENCE)


def first_key(session: Session) -> str:
    """The key of the first object of a session's conversation. Raises `DamagedError` where it names none."""
    try:
        return ObjectRef.decode(session.common_data or b"").key
    except ValueError as error:
        raise errors.DamagedError(str(error), session_id=session.id) from error


@contextmanager
def undisturbed() -> Iterator[None]:
    """Around an append: signals that would end this process are ignored.

    A client that dies inside a PATCH leaves a row on disk that keeps Flame 0.6.0's cache from starting again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and Ctrl-C does not end another one
        return
    before = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def translate_errors(session_id: str = "") -> Iterator[None]:
    """Raise what Flame and the conversation raise as a `ClientError` about that session."""
    try:
        yield
    except errors.ClientError as error:
        error.session_id = error.session_id or session_id
        raise
    except (FlameError, ConversationError) as error:
        raise errors.error_class(client_code(error))(str(error), session_id=session_id) from error
