"""One turn as its conversation has it: the answer that is kept there, the calls that wait, the cancelling of it."""

from __future__ import annotations

from dataclasses import replace

from flameagent.apis import Answer, Question
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

_TAKEN = "The turn that ran has taken the message in."
_NO_DATA = "The agent did not take the data of the question: it runs an older version."
_ASKED = "The turn that ran had ended without the message: it was asked as a question of its own."


class RecordedTurn:
    """The turn of a question, or of a decision on its calls, in a session's conversation."""

    def __init__(
        self, connection: Connection, session: Session, question: Question, log: ConversationLog | None = None
    ) -> None:
        self._connection = connection
        self._session = session
        self._question = question
        self._log = log

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
        mine = waiting is not None and self._question.id in (waiting.turn_id, *waiting.pending.steered)
        return waiting_answer(waiting) if waiting is not None and mine and waiting.decision is None else None

    def stored(self) -> Answer | None:
        """The answer that the conversation has, however long ago, or calls that wait. Raises as `answer` does."""
        if (answer := self.answer()) is not None:
            return answer
        log = self._opened()
        found = log.load(0).find_turn(self._question.id) if log else None
        return None if found is None else stored_answer(found)

    def answer_if_readable(self) -> Answer | None:
        """The same, None too where the conversation cannot be read."""
        try:
            return self.answer()
        except (FlameError, ConversationError, DamagedError):
            return None

    def reply(self, answer: Answer) -> Reply:
        """The reply with this answer, and with what the turn added as far as that can be read."""
        session_id, question = self._session.id, self._question
        turn_id = answer.turn_id or question.id
        if question.steer:
            answer = replace(answer, note=f"{answer.note} {_TAKEN if turn_id != question.id else _ASKED}".strip())
        usage = answer.usage or {}
        if answer.code == "waiting":
            asked = session_id, turn_id, question.question, answer.on, approvals.calls_of(answer)
            pending = Pending(*asked, traceparent=question.traceparent)
            waits = session_id, 0, turn_id, "", answer.model, self._note(answer)
            return Reply(*waits, usage=usage, pending=pending, attachments=answer.attachments or [])
        conversation, added, note = None, [], self._note(answer)
        try:
            log = self._opened()
            conversation = log.refresh() if log and answer.turn else None
            for turn, items in conversation.turns() if conversation else []:
                if turn.id == turn_id:
                    added = items
                    if question.context and not turn.context and turn_id == question.id:
                        note = f"{note} {_NO_DATA}".strip()
        except (FlameError, ConversationError, DamagedError) as error:
            note = f"{note} The history cannot be read now: {error}".strip()
        return Reply(
            session_id,
            answer.turn,
            turn_id,
            answer.answer,
            answer.model,
            note,
            added,
            usage,
            conversation,
            agent=answer.agent,
            output=answer.output,
            output_type=answer.output_type,
            request_usage=answer.request_usage or [],
            attachments=answer.attachments or [],
            steered=answer.steered or [],
            not_taken=self._not_taken(answer),
        )

    def _note(self, answer: Answer) -> str:
        """What the answer notes, and whether attachments of the question were not taken."""
        return f"{answer.note} {self._not_taken(answer)}".strip()

    def _not_taken(self, answer: Answer) -> str:
        taken = set(answer.attachments or [])
        left = [str(each["name"]) for each in self._question.attachments or [] if each["sha256"] not in taken]
        if not left:
            return ""
        names = ", ".join(left)
        return f"The agent did not take {names}: it runs an older version, or its code passes no attachments on."

    def _opened(self) -> ConversationLog | None:
        if self._log is None:
            self._log = self._connection.log(self._session)
        return self._log
