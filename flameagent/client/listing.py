"""The sessions of an application: finding one, listing them, reading one's history.

Promises that only the application's own sessions are seen, and that one whose objects are gone or damaged
does not hide the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from flameagent.client.approvals import Pending
from flameagent.client.connection import Connection, told
from flameagent.client.errors import AmbiguousSession, ConflictError, DamagedError, NoSuchSession
from flameagent.conversation import Conversation, ConversationError, Item, Turn, Usage, context
from flameagent.flame import FlameError, NotFound
from flameagent.flame.cache import ObjectRef
from flameagent.flame.frontend import Session

_READERS = 8


@dataclass(frozen=True)
class SessionInfo:
    """A session in the list.

    `created` is in epoch milliseconds; `title` is the first question; `problem` says why the turns of it
    cannot be told, which are 0 then; `usage` is that of all turns together.
    """

    session_id: str
    open: bool
    created: int
    turns: int = 0
    title: str = ""
    problem: str = ""
    waiting: bool = False
    usage: dict[str, int] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """`open`, `waiting` (for an approval) or `closed`."""
        return _state(self.open, self.waiting)

    def as_json(self) -> dict[str, Any]:
        """What `sessions --json` prints of it."""
        return {
            "session_id": self.session_id,
            "state": self.state,
            "turns": self.turns,
            "created": self.created,
            "title": self.title,
            "usage": self.usage,
            "problem": self.problem,
        }


@dataclass(frozen=True)
class History:
    """A conversation from its beginning; `damage` says what is wrong with what comes after it, if anything.

    `conversation` is None for a session without context, which keeps nothing. `busy` says that a task runs, which
    may be the one that carries out a decision.
    """

    session_id: str
    open: bool
    conversation: Conversation | None
    damage: DamagedError | None = None
    busy: bool = False

    @property
    def state(self) -> str:
        """`open`, `waiting` (for an approval) or `closed`."""
        return _state(self.open, self.waiting is not None)

    @property
    def waiting(self) -> Pending | None:
        """The calls that wait for an approval."""
        waiting = self.conversation.waiting if self.conversation else None
        return Pending.of(self.session_id, waiting) if waiting else None

    @property
    def parts(self) -> list[tuple[Turn | None, list[Item]]]:
        """The items in order: each turn with its own, and those added outside a turn with None."""
        blocks = self.conversation.blocks if self.conversation else []
        return [(block.turn, block.items) for block in blocks]

    def as_json(self) -> dict[str, Any]:
        """What `history --json` prints; `messages` are the items that no turn added."""
        conversation = self.conversation or Conversation()
        return {
            "session_id": self.session_id,
            "state": self.state,
            "prompt": conversation.prompt,
            "facts": conversation.facts,
            "waiting": self.waiting.as_json() if self.waiting else None,
            "messages": [item for turn, items in self.parts if turn is None for item in items],
            "turns": [
                {
                    "turn": turn.number,
                    "turn_id": turn.id,
                    "question": turn.question,
                    "answer": str(turn.answer.get("answer", "")),
                    "items": items,
                    "facts": turn.facts,
                    "usage": usage(turn.usage),
                    "model": turn.model,
                    "at": turn.at,
                }
                for turn, items in conversation.turns()
            ],
        }


def usage(used: Usage) -> dict[str, int]:
    """A turn's or a conversation's usage, all numbers of it."""
    return {
        "requests": used.requests,
        "input_tokens": used.input_tokens,
        "cached_tokens": used.cached_tokens,
        "output_tokens": used.output_tokens,
    }


def find(connection: Connection, application: str, wanted: str) -> Session:
    """The application's session with that ID, or the only one that has that in its ID, open or closed.

    Raises `NoSuchSession`, `AmbiguousSession`.
    """
    try:
        session = connection.frontend.session(wanted)
        if session.application == application:
            return session
    except NotFound:
        pass
    part = wanted.casefold()
    candidates = sorted(
        (session for session in _own(connection, application) if part and part in session.id.casefold()),
        key=_newness,
        reverse=True,
    )
    if not candidates:
        raise NoSuchSession(
            f"No session of {application} has {wanted!r} in its ID; the command `sessions` lists them."
        )
    if len(candidates) > 1:
        named = ", ".join(session.id for session in candidates[:8]) + (", …" if len(candidates) > 8 else "")
        raise AmbiguousSession(f"{len(candidates)} sessions have {wanted!r} in their ID: {named}. Give more of it.")
    return candidates[0]


def sessions(connection: Connection, application: str) -> list[SessionInfo]:
    """The application's sessions, newest first."""
    with told():
        connection.greet()
        own = sorted(_own(connection, application), key=_newness, reverse=True)
        connection.cache  # noqa: B018 - opened once, before the threads that share it
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(lambda session: _info(connection, session), own))


def history(connection: Connection, application: str, wanted: str) -> History:
    """A session's history from its beginning, as far as it can be read."""
    with told():
        connection.greet()
        session = find(connection, application, wanted)
    with told(session.id):
        log = connection.log(session)
        if log is None:
            return History(session.id, session.open, None)
        conversation = log.load()
        at_work = conversation.waiting is not None and busy(connection, session.id)
    damage = DamagedError(str(conversation.damage), session_id=session.id) if conversation.damage else None
    return History(session.id, session.open, conversation, damage, at_work)


def pending(connection: Connection, session: Session) -> Pending:
    """The calls of a session that wait for a decision now.

    Raises `ConflictError` where none do, or where someone has decided and that is being carried out.
    """
    with told(session.id):
        log = connection.log(session)
        conversation = log.refresh() if log else Conversation()
        if conversation.damage:
            raise conversation.damage
        if conversation.waiting is None:
            raise ConflictError("Nothing waits for a decision in this session.")
        found = Pending.of(session.id, conversation.waiting)
        # In this order: a task that runs now may have decided; one that does not has brought all that it will.
        if found.decision is not None and busy(connection, session.id):
            raise ConflictError(
                f"{found.decision.by or 'Someone'} has decided, and that is being carried out. Look at the history."
            )
        return found


def busy(connection: Connection, session_id: str) -> bool:
    """Whether a task of the session runs or waits to run."""
    session = connection.frontend.session(session_id)
    return session.running > 0 or session.pending > 0


def _state(is_open: bool, waiting: bool) -> str:
    return "closed" if not is_open else "waiting" if waiting else "open"


def _newness(session: Session) -> tuple[int, str]:
    return session.created, session.id  # Flame 0.6.0 tells whole seconds


def _own(connection: Connection, application: str) -> Iterator[Session]:
    return (session for session in connection.frontend.sessions() if session.application == application)


def _info(connection: Connection, session: Session) -> SessionInfo:
    try:
        log = connection.log(session)
        if log is None or session.common_data is None:
            return SessionInfo(session.id, session.open, session.created, problem="keeps no history")
        conversation = log.refresh()
        title = _first_question(conversation)
        if conversation.segments and not title:
            # A long conversation is read from its newest segment on; its first question is in the first.
            title = _title(connection, ObjectRef.decode(session.common_data).key)
        problem = "damaged" if conversation.damage else ""
        if conversation.waiting is not None and not title:
            title = conversation.waiting.pending.question
        return SessionInfo(
            session.id,
            session.open,
            session.created,
            conversation.turn_count,
            title,
            problem,
            conversation.waiting is not None,
            usage(conversation.usage),
        )
    except (FlameError, ConversationError, DamagedError) as error:
        return SessionInfo(session.id, session.open, session.created, problem=str(error))


def _title(connection: Connection, first_key: str) -> str:
    rows = connection.cache.get(first_key)
    conversation = Conversation.beginning(*context.read(rows.base))
    for _, row in rows.patches:
        conversation.fold(row)
        if conversation.turn_count:
            break
    return _first_question(conversation)


def _first_question(conversation: Conversation) -> str:
    return next((turn.question for turn, _ in conversation.turns() if turn.number == 1), "")
