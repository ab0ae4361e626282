"""One turn as its conversation has it: the answer that is kept there, the calls that wait, the cancelling of it."""

from __future__ import annotations

from apis import Answer, Question
from flameagent.client import approvals
from flameagent.client.approvals import Pending
from flameagent.client.connection import Connection
from flameagent.client.errors import ClientError, DamagedError
from flameagent.client.reply import Reply
from flameagent.conversation import (
    ConflictError,
    ConversationError,
    ConversationLog,
    EditBody,
    stored_answer,
    waiting_answer,
)
from flameagent.flame import FlameError
from flameagent.flame.frontend import Session


class RecordedTurn:
    """The turn of a question, or of a decision on its calls, in a session's conversation."""

    def __init__(self, connection: Connection, session: Session, question: Question) -> None:
        self._connection = connection
        self._session = session
        self._question = question
        self._log: ConversationLog | None = None

    def reopen(self) -> None:
        """Read from the cache that the connection has now."""
        self._log = None

    def cancel(self) -> bool:
        """See to it that the turn can no longer be added. False when it has been. Raises `ConversationError`."""
        log = self._opened()
        if log is None:
            raise ClientError("This session keeps no history, so its turn cannot be cancelled.")
        while True:
            conversation = log.refresh()
            if conversation.recent_turn(self._question.id):
                return False
            try:
                log.append(EditBody("cancel", turn=self._question.id), revision=conversation.revision)
            except ConflictError:
                continue
            return True

    def answer(self) -> Answer | None:
        """The outcome that the conversation has: an answer or calls that wait; None for neither.

        Raises `ConversationError`, `FlameError` where the conversation cannot be read.
        """
        log = self._opened()
        conversation = log.refresh() if log else None
        decision = self._question.decision
        if conversation is None or (decision is not None and decision.id not in conversation.decided):
            return None  # nothing; or what another decision on the same turn brought
        found = conversation.recent_turn(self._question.id)
        if found is not None:
            return stored_answer(found)
        waiting = conversation.waiting
        if waiting is not None and waiting.turn_id == self._question.id and waiting.decision is None:
            return waiting_answer(waiting)
        return None

    def answer_if_readable(self) -> Answer | None:
        """The same, None too where the conversation cannot be read."""
        try:
            return self.answer()
        except (FlameError, ConversationError, DamagedError):
            return None

    def reply(self, answer: Answer) -> Reply:
        """The reply with this answer, and with what the turn added as far as that can be read."""
        session_id, question = self._session.id, self._question
        usage = answer.usage or {}
        if answer.code == "waiting":
            pending = Pending(session_id, question.id, question.question, answer.on, approvals.calls_of(answer))
            return Reply(session_id, 0, question.id, "", answer.model, answer.note, usage=usage, pending=pending)
        conversation, added, note = None, [], answer.note
        try:
            log = self._opened()
            conversation = log.refresh() if log and answer.turn else None
            if conversation:
                added = next((items for turn, items in conversation.turns() if turn.id == question.id), [])
        except (FlameError, ConversationError, DamagedError) as error:
            note = f"{note} The history cannot be read now: {error}".strip()
        turn_id = answer.turn_id or question.id
        return Reply(session_id, answer.turn, turn_id, answer.answer, answer.model, note, added, usage, conversation)

    def _opened(self) -> ConversationLog | None:
        if self._log is None:
            self._log = self._connection.log(self._session)
        return self._log
