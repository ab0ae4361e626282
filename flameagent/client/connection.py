"""A connection to an engine: its frontend and its object cache, opened when they are needed.

Promises that what Flame and the conversation raise leaves this package as a `ClientError`, and that after
an outage `reopen` finds the engine where it is now (the embedded one may come back on other ports).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property

from flameagent.client import errors
from flameagent.client.engine import FIRST_CONTACT, Engine
from flameagent.conversation import ConversationError, ConversationLog
from flameagent.flame import Endpoints, FlameError, NotFlame, NotFound, Unreachable
from flameagent.flame.cache import ObjectCache
from flameagent.flame.frontend import Frontend, Session
from flameagent.outcomes import client_code
from flamewire.object_ref import ObjectRef

_PATIENCE = 10.0
"""Seconds that a person waits for a cache that does not answer, where an agent waits longer."""


class Connection:
    """One engine, and the channels to it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def reached(self) -> bool:
        """True once the engine has said where it is."""
        return "_endpoints" in self.__dict__

    @cached_property
    def _endpoints(self) -> Endpoints:
        return self.engine.reach()

    @cached_property
    def frontend(self) -> Frontend:
        """The engine's frontend. Raises `NoEngine` when the embedded engine cannot start."""
        return Frontend(self._endpoints)

    @cached_property
    def cache(self) -> ObjectCache:
        """The engine's object cache."""
        return ObjectCache(self._endpoints)

    @property
    def patience(self) -> float:
        """Seconds to wait for a cache that is away before a question; the embedded engine's comes with the engine."""
        return _PATIENCE if self.engine.cache_apart else 0.0

    def close(self) -> None:
        """Close the channels; the next use opens new ones."""
        for name in ("frontend", "cache"):
            channel = self.__dict__.pop(name, None)
            if channel is not None:
                channel.close()
        self.__dict__.pop("_endpoints", None)

    def reopen(self) -> None:
        """Look where the engine is now, starting the embedded one where it went, and open new channels."""
        self.close()
        self.frontend  # noqa: B018 - reaches the engine

    def greet(self) -> None:
        """See in little time that a Flame answers; the embedded engine is started where it has left meanwhile.

        Raises `FlameError`.
        """
        try:
            self._greet()
        except (Unreachable, NotFlame):  # NotFlame: one that goes away can say CANCELLED
            if not self.engine.comes_back:
                raise
            self.reopen()
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
        try:
            key = ObjectRef.decode(session.common_data).key
        except ValueError as error:
            raise errors.DamagedError(str(error), session_id=session.id) from error
        return ConversationLog(self.cache, key, guard=undisturbed, patience=_PATIENCE)


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
