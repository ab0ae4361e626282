"""The sessions of an application: finding one, listing them, reading one's history.

Promises that only the application's own sessions are seen, and that one whose objects are gone or damaged
does not hide the others.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import to_builtins

from flameagent.client.approvals import Pending
from flameagent.client.connection import Connection, translate_errors
from flameagent.client.errors import AmbiguousSession, ConflictError, DamagedError, NoSuchSession, UsageError
from flameagent.conversation import Block, Conversation, ConversationError, Item, Rewound, Turn, Usage, context
from flameagent.conversation.item_text import described
from flameagent.flame import FlameError, NotFound
from flameagent.flame.frontend import Session
from flameagent.flame.objects import patiently
from flamewire.object_ref import ObjectRef

_READERS = 8

NO_HISTORY = "keeps no history"
"""The `problem` of a session without context."""


@dataclass(frozen=True)
class SessionInfo:
    """A session in the list.

    `created` and `changed` (when the newest record was made) are in epoch milliseconds; `title` is the one that it
    was given, or its first question; `short` is what of its ID no other session has. `problem` says why the turns of
    it cannot be told, which are 0 then; `usage` is that of all turns together; `size` of its records in bytes.
    `match` is where a search found what it looked for.
    """

    session_id: str
    open: bool
    created: int
    turns: int = 0
    title: str = ""
    problem: str = ""
    waiting: bool = False
    usage: dict[str, int] = field(default_factory=dict)
    size: int = 0
    changed: int = 0
    short: str = ""
    match: str = ""

    @property
    def state(self) -> str:
        """`open`, `waiting` (for an approval) or `closed`."""
        return _state(self.open, self.waiting)

    def as_json(self) -> dict[str, Any]:
        """What `sessions --json` prints of it."""
        return {
            "session_id": self.session_id,
            "short": self.short,
            "state": self.state,
            "turns": self.turns,
            "created": self.created,
            "changed": self.changed,
            "title": self.title,
            "usage": self.usage,
            "size": self.size,
            "match": self.match,
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
    def blocks(self) -> list[Block]:
        """The items in order: each turn's, and those added outside a turn."""
        return self.conversation.blocks if self.conversation else []

    @property
    def everything(self) -> list[Block | Rewound]:
        """The same with what was rewound, in the order in which it came about, and the rewinds themselves."""
        rewinds = self.conversation.rewound if self.conversation else []
        taken = [block for rewind in rewinds for block in rewind.blocks]
        return sorted([*self.blocks, *taken, *rewinds], key=lambda part: part.place)

    def shown(self, *, turn: int | None = None, every: bool = False) -> list[Block]:
        """The blocks, or those of one turn; with `every` those that were rewound too.

        Raises `UsageError` where there is no such turn.
        """
        blocks = [part for part in self.everything if isinstance(part, Block)] if every else self.blocks
        if turn is None:
            return blocks
        numbers = [block.turn.number for block in blocks if block.turn]
        if turn not in numbers:
            several = f"turns {min(numbers)} to {max(numbers)}" if numbers else "no turns"
            has = f"only turn {numbers[0]}" if len(numbers) == 1 else several
            raise UsageError(f"There is no turn {turn}: the conversation has {has}.", session_id=self.session_id)
        return [block for block in blocks if block.turn is not None and block.turn.number == turn]

    def as_json(self, *, turn: int | None = None, every: bool = False) -> dict[str, Any]:
        """What `history --json` prints; `messages` are the items that no turn added.

        With `turn` only that turn, with `every` those that were rewound too.
        """
        conversation = self.conversation or Conversation()
        shown = self.shown(turn=turn, every=every)
        kept = {id(block) for block in self.blocks}
        return {
            "session_id": self.session_id,
            "state": self.state,
            "title": conversation.title,
            "origin": conversation.origin,
            "prompt": conversation.prompt,
            "model": conversation.model,
            "usage": usage(conversation.usage),
            "facts": conversation.facts,
            "waiting": self.waiting.as_json() if self.waiting else None,
            "again": conversation.again,
            "messages": [item for block in shown if block.turn is None for item in block.items],
            "turns": [
                {**turn_as_json(block.turn, block.items), "rewound": id(block) not in kept}
                for block in shown
                if block.turn is not None
            ],
        }


def turn_as_json(turn: Turn, items: list[Item]) -> dict[str, Any]:
    """A turn as `history --json` and `export --format json` print it."""
    return {
        "turn": turn.number,
        "turn_id": turn.id,
        "question": turn.question,
        "answer": str(turn.answer.get("answer", "")),
        "items": items,
        "facts": turn.facts,
        "usage": usage(turn.usage),
        "model": turn.model,
        "unseen": turn.unseen,
        "at": turn.at,
        "decisions": [
            {name: getattr(decided, name) for name in ("by", "at", "approved", "rejected", "always", "reason")}
            | {"calls": to_builtins(decided.calls)}
            for decided in turn.decisions
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
        close = _close_to(part, connection, application)
        said = f"Did you mean {close}?" if close else "The command `sessions` lists them."
        raise NoSuchSession(f"No session of {application} has {wanted!r} in its ID. {said}")
    if len(candidates) > 1:
        named = ", ".join(session.id for session in candidates[:8]) + (", …" if len(candidates) > 8 else "")
        raise AmbiguousSession(f"{len(candidates)} sessions have {wanted!r} in their ID: {named}. Give more of it.")
    return candidates[0]


def _close_to(part: str, connection: Connection, application: str) -> str:
    """The ID that somebody may have meant; "" where none is near."""
    ids: dict[str, str] = {}
    for session in _own(connection, application):
        short = session.id.removeprefix(f"{application}-")
        ids |= {session.id.casefold(): session.id, short.casefold(): short}
    return next((ids[close] for close in difflib.get_close_matches(part, ids, 1)), "")


def sessions(
    connection: Connection, application: str, *, state: str = "", limit: int | None = None, search: str = ""
) -> list[SessionInfo]:
    """The application's sessions, newest first: those in that state, with that text in their title or history."""
    with translate_errors():
        connection.greet()
        own = sorted(_own(connection, application), key=_newness, reverse=True)
        connection.cache  # noqa: B018 - opened once, before the threads that share it
    short = _shortened([session.id for session in own], application)
    if limit is not None and not (state or search):
        own = own[:limit]
    with ThreadPoolExecutor(_READERS) as readers:
        found = list(readers.map(lambda session: _info(connection, session, short[session.id], search), own))
    wanted = [info for info in found if state in ("", info.state) and (not search or info.match)]
    return wanted[:limit]


def session(connection: Connection, application: str, wanted: str) -> SessionInfo:
    """One session as it is in the list. Raises `NoSuchSession`, `AmbiguousSession`."""
    with translate_errors():
        connection.greet()
        found = find(connection, application, wanted)
    return _info(connection, found, found.id, "")


def history(connection: Connection, application: str, wanted: str) -> History:
    """A session's history from its beginning, as far as it can be read."""
    with translate_errors():
        connection.greet()
        session = find(connection, application, wanted)
    with translate_errors(session.id):
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
    with translate_errors(session.id):
        log = connection.log(session)
        conversation = patiently(log.refresh, connection.patience) if log else Conversation()
        if conversation.damage:
            raise conversation.damage
        if conversation.waiting is None:
            raise ConflictError("Nothing waits for a decision in this session.")
        found = replace(Pending.of(session.id, conversation.waiting), others=frozenset(conversation.call_ids()))
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


def _shortened(ids: list[str], application: str) -> dict[str, str]:
    """Each ID without the application's name, where that finds it alone."""
    folded = [session_id.casefold() for session_id in ids]
    short = {}
    for session_id in ids:
        part = session_id.removeprefix(f"{application}-")
        alone = part and sum(part.casefold() in other for other in folded) == 1
        short[session_id] = part if alone else session_id
    return short


def _info(connection: Connection, session: Session, short: str, search: str) -> SessionInfo:
    info = SessionInfo(session.id, session.open, session.created, changed=session.created, short=short)
    try:
        log = connection.log(session)
        if log is None or session.common_data is None:
            return replace(info, problem=NO_HISTORY)
        conversation = log.refresh()
        if search:
            conversation = log.load()
        title = conversation.title or _first_question(conversation)
        if conversation.segments and not title:
            # A long conversation is read from its newest segment on; its first question is in the first.
            title = _title(connection, ObjectRef.decode(session.common_data).key)
        if conversation.waiting is not None and not title:
            title = conversation.waiting.pending.question
        return replace(
            info,
            turns=conversation.turn_count,
            title=title,
            problem="damaged" if conversation.damage else "",
            waiting=conversation.waiting is not None,
            usage=usage(conversation.usage),
            size=conversation.size,
            changed=conversation.changed or session.created,
            match=_match(conversation, title, search) if search else "",
        )
    except (FlameError, ConversationError, DamagedError) as error:
        return replace(info, problem=str(error))


def _match(conversation: Conversation, title: str, search: str) -> str:
    """Where the text is, with some of what stands around it; "" where it is not."""
    wanted = " ".join(search.casefold().split())
    texts = [("title", title)]
    for block in conversation.blocks:
        where = f"turn {block.turn.number}" if block.turn else "before"
        texts += [(where, described(item)[1]) for item in block.items]
    if conversation.waiting is not None:
        texts.append(("waiting", conversation.waiting.pending.question))
    for where, text in texts:
        line = " ".join(text.split())
        at = line.casefold().find(wanted)
        if at >= 0:
            start, end = max(at - 20, 0), at + len(wanted) + 30
            return f"{where}: {'…' if start else ''}{line[start:end]}{'…' if end < len(line) else ''}"
    return ""


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
