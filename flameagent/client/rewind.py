"""Taking turns back, and other changes outside a turn: records say what a conversation keeps; nothing is erased.

Promises that a turn which runs is not run over: it is cancelled first, if that is asked for, or nothing happens. What
was taken back stays in the whole history. It is not brought back by a task that Flame runs again, nor remembered of a
person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flameagent.client import approvals, payloads, person
from flameagent.client.agent_connection import AgentConnection
from flameagent.client.connection import Connection, translate_errors
from flameagent.client.errors import ClientError, ConflictError, UsageError
from flameagent.conversation import (
    Block,
    Conversation,
    ConversationError,
    ConversationLog,
    EditBody,
    PendingBody,
    QuestionData,
    Turn,
    attachments,
)
from flameagent.conversation import ConflictError as Raced
from flameagent.flame.frontend import Session
from flameagent.flame.objects import patiently
from flameagent.text import all_well_formed, well_formed


@dataclass(frozen=True)
class Rewound:
    """A conversation that keeps `turns` turns; `taken` were taken back, one that waited for an approval included.

    `cancelled` are the IDs of the turns that ran.
    """

    session_id: str
    turns: int
    taken: int
    cancelled: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The result as `rewind --json` prints it."""
        return {
            "session_id": self.session_id,
            "turns": self.turns,
            "rewound": self.taken,
            "cancelled": list(self.cancelled),
        }


def rewind(connection: AgentConnection, session: Session, turns: int, *, force: bool = False) -> Rewound:
    """Keep that many turns of an open session. With `force` a turn that runs is cancelled first.

    Raises `UsageError` where there is no such turn or nothing to take back, `ConflictError` where a turn runs or
    someone else is first, `DamagedError`.
    """
    cancelled: list[str] = []
    with translate_errors(session.id):
        log = _log(connection, session)
        while True:
            # In this order: a turn that does not run now has brought what it will.
            running = _running(connection, session.id)
            conversation = _whole(log)
            if running and not force:
                raise ConflictError("A turn runs in this session. Wait for it, or have it cancelled with --force.")
            _checked(conversation, turns, running=bool(running or cancelled))
            for turn_id in running:
                if turn_id not in (*cancelled, *conversation.cancelled) and not conversation.recent_turn(turn_id):
                    log.append(EditBody("cancel", turn=turn_id))
                    cancelled.append(turn_id)
            conversation = log.load(0)
            taken = conversation.turn_count - turns + (conversation.waiting is not None)
            if not taken:
                return Rewound(session.id, turns, 0, tuple(cancelled))
            try:
                log.append(
                    conversation.rewind_edit(turns, by=approvals.current_user()), revision=conversation.revision
                )
            except Raced:
                if not force:
                    raise
                continue
            _take_back(connection, session, log.conversation)
            return Rewound(session.id, turns, taken, tuple(cancelled))


def take_back_the_last(connection: AgentConnection, session: Session) -> tuple[str, QuestionData]:
    """Take the last turn of an open session back, one that waits included, to ask its question again.

    Returns the question, and what went with it.

    Can be repeated: while the question was not answered again, no further turn is taken. Raises `UsageError` where
    there is no turn, `ConflictError` where one runs or someone else is first, `DamagedError`.
    """
    with translate_errors(session.id):
        log = _log(connection, session)
        if _running(connection, session.id):
            raise ConflictError("A turn runs in this session. Wait for it before you retry.")
        conversation = patiently(lambda: _whole(log), connection.patience)
        turns = conversation.turns()
        if conversation.waiting is not None:
            asked: PendingBody | Turn = conversation.waiting.pending
            keep = conversation.turn_count
        elif conversation.retry_question:
            return conversation.retry_question, conversation.retry_data
        elif turns:
            asked, keep = turns[-1][0], conversation.turn_count - 1
        else:
            raise UsageError("There is no turn yet that could be asked again.")
        data = QuestionData(asked.context, attachments.of_question(asked.attachments))
        by = approvals.current_user()
        edit = conversation.rewind_edit(keep, by=by, retry_question=asked.question, retry_data=data)
        log.append(edit, revision=conversation.revision)
        _take_back(connection, session, log.conversation)
        return asked.question, data


def rename(connection: Connection, session: Session, title: str) -> str:
    """Give the session a title, open or closed; "" takes it away. The title as it is kept. Raises `DamagedError`."""
    title = " ".join(well_formed(title).split())
    with translate_errors(session.id):
        log = _log(connection, session)
        log.append(EditBody("title", title=title, by=approvals.current_user()))
    return title


def add_items(
    connection: Connection, session: Session, items: Sequence[Mapping[str, Any]], edit_id: str | None
) -> Block:
    """Add items to an open session, once by the ID of the edit; the block that they are.

    Raises `ConflictError` while a turn runs, which they would be between the question and the answer of.
    """
    added = [dict(all_well_formed(dict(each))) for each in items]
    with translate_errors(session.id):
        log = _log(connection, session)
        conversation = log.refresh()
        if edit_id is None or edit_id not in conversation.newest_records:
            if _running(connection, session.id):
                raise ConflictError("A turn runs in this session. Wait for it before you add something.")
            log.append(EditBody("add", items=added), record_id=edit_id)
        blocks = [block for block in log.conversation.blocks if block.turn is None and block.items == added]
        return blocks[-1] if blocks else Block(added)


def _log(connection: Connection, session: Session) -> ConversationLog:
    log = connection.log(session)
    if log is None:
        raise ClientError("This session has no context: it keeps no turns.")
    return log


def _whole(log: ConversationLog) -> Conversation:
    log.refresh()
    conversation = log.load(0)
    if conversation.damage:
        raise conversation.damage
    return conversation


def _take_back(connection: AgentConnection, session: Session, conversation: Conversation) -> None:
    """What its newest rewind took is not remembered any more; killed before that, the next turn sees to it."""
    person.take_back(connection, session, conversation.owner, conversation.rewinds[-1].own_turns)


def _checked(conversation: Conversation, turns: int, *, running: bool) -> None:
    """A turn that runs can be taken back, too, though it is not there yet."""
    try:
        if not (running and turns == conversation.turn_count):
            conversation.rewind_edit(turns)
    except ConversationError as error:
        raise UsageError(str(error)) from error


def _running(connection: Connection, session_id: str) -> list[str]:
    """The IDs of the turns whose tasks run or wait to run."""
    if not connection.is_busy(session_id):
        return []
    tasks = [task for task in connection.frontend.tasks(session_id) if not task.state.terminal]
    return list(dict.fromkeys(payloads.turn_id(task.input) or f"{session_id}/{task.id}" for task in tasks))
