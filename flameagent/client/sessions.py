"""The list of an application's sessions, searched, and one of them as it stands there.

Promises that a session whose objects are gone or damaged does not hide the others.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from msgspec.structs import asdict

from flameagent.client.agent_connection import AgentConnection
from flameagent.client.connection import Connection, translate_errors
from flameagent.client.errors import DamagedError
from flameagent.conversation import Conversation, ConversationError, context, fold_row
from flameagent.conversation.item_text import describe_item
from flameagent.flame import FlameError
from flameagent.flame.frontend import Session
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
        return session_state(self.open, self.waiting)

    def as_json(self) -> dict[str, Any]:
        """The session as `sessions --json` prints it."""
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


def session_state(is_open: bool, waiting: bool) -> str:
    """The word for a session's state: `open`, `waiting` (for an approval) or `closed`."""
    return "closed" if not is_open else "waiting" if waiting else "open"


def list_sessions(
    connection: AgentConnection, *, state: str = "", limit: int | None = None, search: str = ""
) -> list[SessionInfo]:
    """The application's sessions, newest first: those in that state, with that text in their title or history."""
    with translate_errors():
        connection.greet()
        own = connection.sessions()
        connection.cache  # noqa: B018 - opened once, before the threads that share it
    short = _shortened([session.id for session in own], connection.application.name)
    if limit is not None and not (state or search):
        own = own[:limit]
    with ThreadPoolExecutor(_READERS) as readers:
        found = list(readers.map(lambda session: _info(connection, session, short[session.id], search), own))
    wanted = [info for info in found if state in ("", info.state) and (not search or info.match)]
    return wanted[:limit]


def read_session(connection: AgentConnection, wanted: str) -> SessionInfo:
    """One session as it is in the list. Raises `NoSuchSession`, `AmbiguousSession`."""
    found = connection.look_up(wanted)
    return _info(connection, found, found.id, "")


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
            title = conversation.waiting.question
        return replace(
            info,
            turns=conversation.turn_count,
            title=title,
            problem="damaged" if conversation.damage else "",
            waiting=conversation.waiting is not None,
            usage=asdict(conversation.usage),
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
        texts += [(where, describe_item(item)[1]) for item in block.items]
    if conversation.waiting is not None:
        texts.append(("waiting", conversation.waiting.question))
    for where, text in texts:
        line = " ".join(text.split())
        at = line.casefold().find(wanted)
        if at >= 0:
            start, end = max(at - 20, 0), at + len(wanted) + 30
            return f"{where}: {'…' if start else ''}{line[start:end]}{'…' if end < len(line) else ''}"
    return ""


def _title(connection: Connection, first_key: str) -> str:
    rows = connection.cache.get(first_key)
    conversation = Conversation.from_context(*context.read(rows.base))
    for _, row in rows.patches:
        fold_row(conversation, row)
        if conversation.turn_count:
            break
    return _first_question(conversation)


def _first_question(conversation: Conversation) -> str:
    return next((turn.question for turn, _ in conversation.turns() if turn.number == 1), "")
