"""The reply to a question or a decision, and a turn that failed, as programs read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flameagent.client import approvals
from flameagent.client.approvals import Pending
from flameagent.client.errors import ClientError, WaitingError
from flameagent.conversation import Conversation, Item


@dataclass(frozen=True)
class Reply:
    """The answer that a turn brought, or the calls that wait for an approval (`pending`).

    `turn` is its number; 0: it is in no conversation, because it waits or as `note` says. `added` are its items and
    `conversation` the whole as far as it was read, None where it could not be: then `note` says why.
    """

    session_id: str
    turn: int
    turn_id: str
    answer: str
    model: str = ""
    note: str = ""
    added: list[Item] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=dict)
    conversation: Conversation | None = None
    pending: Pending | None = None

    def as_json(self) -> dict[str, Any]:
        """The reply as `-m … --json` prints it."""
        return {
            "session_id": self.session_id,
            "turn": self.turn,
            "turn_id": self.turn_id,
            "status": "awaiting_approval" if self.pending else "answered",
            "answer": self.answer,
            "added": self.added,
            "pending": approvals.calls_as_json(self.pending.calls) if self.pending else [],
            "usage": self.usage,
            "model": self.model,
            "note": self.note,
        }


def failure_as_json(session_id: str, turn_id: str, error: ClientError) -> dict[str, Any]:
    """A turn that failed, as `-m … --json` prints it."""
    failed = {**Reply(session_id, 0, turn_id, "").as_json(), "status": "failed"}
    if isinstance(error, WaitingError):
        failed |= {"status": "awaiting_approval", "pending": approvals.calls_as_json(error.pending)}
    return failed
