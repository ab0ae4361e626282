"""Answers as records keep them, and made again of what is kept."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from msgspec import to_builtins

from flameagent.apis import Answer
from flameagent.conversation.attachments import of_question
from flameagent.conversation.errors import ConflictError
from flameagent.conversation.state import PendingApproval, StoredTurn


def answer_fields(answer: Answer) -> dict[str, Any]:
    """The fields of an Answer that say something: what the record of its turn keeps.

    Not `output`, which is the JSON that the text `answer` is.
    """
    kept = [f for f in fields(Answer) if f.name != "output"]
    return {f.name: value for f in kept if (value := getattr(answer, f.name)) != f.default}


def stored_answer(turn: StoredTurn) -> Answer:
    """The Answer of a turn that is in the conversation; without the fields that a newer program added."""
    known = {f.name for f in fields(Answer)}
    answer = Answer(**{"answer": "", **{name: value for name, value in turn.answer.items() if name in known}})
    answer.output = output_of(turn.answer)
    return answer


def output_of(answer: dict[str, Any]) -> Any:
    """The JSON value of the output type in an answer as records keep it; None where it has none."""
    if not answer.get("output_type"):
        return None
    try:
        return json.loads(answer.get("answer", ""))
    except (TypeError, ValueError, RecursionError):
        return None


def repeated_answer(turn: StoredTurn, turn_id: str, question: str) -> Answer:
    """The Answer of a turn that is asked again by its ID. Raises `ConflictError` where that is another question."""
    if turn.turn == turn_id and turn.question != question:
        raise ConflictError("A turn of that ID has already answered another question; nothing was added.")
    return stored_answer(turn)


def waiting_answer(waiting: PendingApproval) -> Answer:
    """The Answer of a turn whose calls wait for an approval."""
    answer = Answer(
        "", turn_id=waiting.turn_id, pending=to_builtins(waiting.calls), on=waiting.record_id, code="waiting"
    )
    answer.attachments = [each.sha256 for each in of_question(waiting.pending.attachments)] or None
    if waiting.decision is not None:
        answer.note = (
            "A decision was made and the turn did not come to its end: approved tools may have run. "
            "Approve again to run them again, or reject."
        )
    return answer
