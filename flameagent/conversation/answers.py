"""Answers as records keep them, and made again of what is kept."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from msgspec import to_builtins

from apis import Answer
from flameagent.conversation.state import PendingApproval, StoredTurn


def answer_fields(answer: Answer) -> dict[str, Any]:
    """The fields of an Answer that say something: what the record of its turn keeps."""
    return {f.name: value for f in fields(Answer) if (value := getattr(answer, f.name)) != f.default}


def stored_answer(turn: StoredTurn) -> Answer:
    """The Answer of a turn that is in the conversation; without the fields that a newer program added."""
    known = {f.name for f in fields(Answer)}
    return Answer(**{"answer": "", **{name: value for name, value in turn.answer.items() if name in known}})


def waiting_answer(waiting: PendingApproval) -> Answer:
    """The Answer of a turn whose calls wait for an approval."""
    answer = Answer(
        "", turn_id=waiting.turn_id, pending=to_builtins(waiting.calls), on=waiting.record_id, code="waiting"
    )
    if waiting.decision is not None:
        answer.note = (
            "A decision was made and the turn did not come to its end: approved tools may have run. "
            "Approve again to run them again, or reject."
        )
    return answer
