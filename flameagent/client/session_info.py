"""Sessions as a list tells them: read, or known from a list before.

Promises that a session is told as it is: what was known of it counts only while its objects are as they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from msgspec.structs import asdict

from flameagent.client.agent_connection import AgentConnection
from flameagent.client.connection import first_key
from flameagent.client.errors import DamagedError
from flameagent.client.events import OnProgress
from flameagent.client.known_sessions import Known, KnownSessions
from flameagent.client.overview import Overview
from flameagent.conversation import Conversation, ConversationError, ConversationReader, context, fold_row
from flameagent.conversation.codec import decode
from flameagent.conversation.item_text import describe_item
from flameagent.conversation.reader import Segment
from flameagent.flame import FlameError, Unreachable
from flameagent.flame.frontend import Session

_BATCH = 500  # sessions that are read before they are kept, and more are told as progress

NO_HISTORY = "keeps no history"
"""The `problem` of a session without context."""


@dataclass(frozen=True)
class SessionInfo:
    """A session in the list.

    `created` and `changed` (when the newest record was made) are in epoch milliseconds; `title` is the one that it
    was given, or its first question; `short` is what of its ID no other session has. `problem` says why the turns of
    it cannot be told, which are 0 then; `usage` is that of all turns together; `size` of its records in bytes.
    `match` is where a search found what it looked for; `owner` is whose it is, "" everybody's.
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
    owner: str = ""

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
            "owner": self.owner,
            "problem": self.problem,
        }


def session_state(is_open: bool, waiting: bool) -> str:
    """The word for a session's state: `open`, `waiting` (for an approval) or `closed`."""
    return "closed" if not is_open else "waiting" if waiting else "open"


class SessionReader:
    """Reads sessions of an agent for one list, each as a list of such a `search` tells it.

    Where many have to be read, `on_progress` is told how many.
    """

    def __init__(
        self, connection: AgentConnection, engine: Overview, search: str = "", on_progress: OnProgress | None = None
    ) -> None:
        self._name = connection.engine.identity, connection.application.name
        self._engine = engine
        self._search = search or None
        self._on_progress = on_progress
        self._sizes: Mapping[str, int] = {}
        self._away: Unreachable | None = None

    def read(self, found: Sequence[Session], own: Sequence[Session] | None = None) -> list[SessionInfo]:
        """These sessions, with their IDs as `short`. `own` are all of the agent's: what is known of others goes."""
        with KnownSessions(*self._name) as known:
            if own is not None:
                known.forget_others([session.id for session in own])
            # Before anything is read: what is added meanwhile is then seen by the next list.
            self._sizes = self._engine.sizes(len(found)) or {}
            before = known.read([session.id for session in found])
            before = {
                each.id: before[each.id] for each in found if each.id in before and _is_of(before[each.id], each)
            }
            told: dict[str, SessionInfo] = {}
            for session in found:
                row = before.get(session.id)
                if row is not None and row.has(self._sizes) and (info := self._told(session, row)) is not None:
                    told[session.id] = info
            self._read_others([each for each in found if each.id not in told], before, known, told)
        return [told[session.id] for session in found]

    def _read_others(
        self,
        left: Sequence[Session],
        before: Mapping[str, Known],
        known: KnownSessions,
        told: dict[str, SessionInfo],
    ) -> None:
        for start in range(0, len(left), _BATCH):
            if self._on_progress is not None and len(left) > _BATCH:
                self._on_progress(f"reading sessions, {start} of {len(left)}")
            batch = left[start : start + _BATCH]
            rows = [before.get(session.id) for session in batch]
            if self._engine.readers == 1:
                read = list(map(self._look, batch, rows))
            else:
                with ThreadPoolExecutor(self._engine.readers) as readers:
                    read = list(readers.map(self._look, batch, rows))
            told |= {session.id: info for session, (info, _) in zip(batch, read, strict=True)}
            known.keep([new for _, new in read if new is not None])

    def _told(self, session: Session, row: Known) -> SessionInfo | None:
        """The session as it is known; None where it has to be read for that."""
        try:
            info: SessionInfo = decode(row.info, SessionInfo)
        except ValueError:
            return None
        match = find_text([("title", info.title)], self._search)
        if self._search is not None and not match:
            return None
        return replace(info, open=session.open, match=match)

    def _look(self, session: Session, row: Known | None) -> tuple[SessionInfo, Known | None]:
        """The session, and what is to be known of it from now on, where that is new."""
        info = SessionInfo(session.id, session.open, session.created, changed=session.created, short=session.id)
        if session.common_data is None:
            return replace(info, problem=NO_HISTORY), None
        if self._away is not None:  # nobody waits for a cache that is away once for each session
            return replace(info, problem=str(self._away)), None
        try:
            key = first_key(session)
            reader = ConversationReader(self._engine, key)
            if row is not None and (told := self._told_if_newest(session, row, reader)) is not None:
                return told, self._sized(row) if self._sizes else None
            info = self._info(info, reader, key)
            if info.problem or reader.segment is None:
                return info, None
            new = self._known(session, info, key, reader.segment)
            return info, new if new != row else None
        except (FlameError, ConversationError, DamagedError) as error:
            if isinstance(error, Unreachable):
                self._away = error
            return replace(info, problem=str(error)), None

    def _told_if_newest(self, session: Session, row: Known, reader: ConversationReader) -> SessionInfo | None:
        """The session as it is known, where the sizes of its objects do not say that it is another now."""
        if (self._sizes and row.first_size) or not reader.is_newest(row.segment):
            return None
        return self._told(session, row)

    def _info(self, info: SessionInfo, reader: ConversationReader, key: str) -> SessionInfo:
        conversation = reader.refresh()
        if self._search is not None:
            conversation = reader.load()
        title = conversation.title or _first_question(conversation)
        if conversation.segments and not title:
            # A long conversation is read from its newest segment on; its first question is in the first.
            title = self._first_title(key)
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
            changed=conversation.changed or info.created,
            match=find_text(_texts(conversation, title), self._search),
            owner=conversation.owner,
        )

    def _first_title(self, first: str) -> str:
        rows = self._engine.get(first)
        conversation = Conversation.from_context(*context.read(rows.base))
        for _, row in rows.patches:
            fold_row(conversation, row)
            if conversation.turn_count:
                break
        return _first_question(conversation)

    def _known(self, session: Session, info: SessionInfo, first: str, newest: Segment) -> Known:
        data = msgspec.json.encode(replace(info, match=""))
        at = (newest.key, 0, newest.base_version, newest.version, newest.newest)
        return self._sized(Known(session.id, session.created, session.common_data or b"", data, first, 0, *at))

    def _sized(self, row: Known) -> Known:
        return row._replace(first_size=self._sizes.get(row.first, 0), newest_size=self._sizes.get(row.newest, 0))


def _is_of(row: Known, session: Session) -> bool:
    """True unless it is of another session that had the ID."""
    return (row.created, row.common_data) == (session.created, session.common_data)


def _texts(conversation: Conversation, title: str) -> Iterator[tuple[str, str]]:
    """What a search looks through: where it is, and the text."""
    yield "title", title
    for block in conversation.blocks:
        where = f"turn {block.turn.number}" if block.turn else "before"
        yield from ((where, describe_item(item)[1]) for item in block.items)
    if conversation.waiting is not None:
        yield "waiting", conversation.waiting.question


def find_text(texts: Iterable[tuple[str, str]], search: str | None) -> str:
    """Where a text is, with some of what stands around it; "" where it is not, or none is wanted.

    Neither case nor white space counts.
    """
    if search is None:
        return ""
    wanted = " ".join(search.casefold().split())
    for where, text in texts:
        line = " ".join(text.split())
        at = line.casefold().find(wanted)
        if at >= 0:
            start, end = max(at - 20, 0), at + len(wanted) + 30
            return f"{where}: {'…' if start else ''}{line[start:end]}{'…' if end < len(line) else ''}"
    return ""


def _first_question(conversation: Conversation) -> str:
    return next((turn.question for turn, _ in conversation.turns() if turn.number == 1), "")
