"""The reply to a question or a decision, and a turn that failed, as programs read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from flameagent.client import approvals
from flameagent.client.approvals import Pending
from flameagent.client.errors import ClientError, WaitingError
from flameagent.conversation import Conversation, Item, item_text
from flameagent.conversation.codec import convert

Output = TypeVar("Output")


@dataclass(frozen=True)
class Reply:
    """The answer that a turn brought, or the calls that wait for an approval (`pending`).

    `turn` is its number; 0: it is in no conversation, because it waits or as `note` says. `added` are its items and
    `conversation` the whole as far as it was read, None where it could not be: then `note` says why. `agent` is the
    name of the agent that answered. Where that has an output type, `output` is its JSON value, and `output_type` the
    type's name. `usage` is of the whole turn, `request_usage` of each request, where there were several.
    `attachments` are the hashes of those that the agent took, `steered` the IDs of the messages that it has taken in
    while it ran. `not_taken` is the sentence about those that it did not take, which is in the `note`, too.
    """

    session_id: str
    turn: int
    turn_id: str
    answer: str
    model: str = ""
    note: str = ""
    added: list[Item] = field(default_factory=list, repr=False)
    usage: dict[str, int] = field(default_factory=dict)
    conversation: Conversation | None = field(default=None, repr=False)
    pending: Pending | None = None
    agent: str = ""
    output: Any = None
    output_type: str = ""
    request_usage: list[dict[str, int]] = field(default_factory=list, repr=False)

    def __str__(self) -> str:
        """The answer, or a line that says what waits."""
        if self.pending is None:
            return self.answer
        waiting = [item_text.describe_call(call.tool, call.arguments) for call in self.pending.calls]
        return f"Waits for a decision on: {'; '.join(waiting)}"

    attachments: list[str] = field(default_factory=list)
    steered: list[str] = field(default_factory=list)
    not_taken: str = ""

    def output_as(self, kind: type[Output]) -> Output:
        """The output as a value of the agent's output type, or of another that fits. Raises `ClientError`."""
        try:
            read: Output = convert(self.output, kind, dec_hook=_validated)
            return read
        except (TypeError, ValueError) as error:
            named, reason = getattr(kind, "__name__", str(kind)), " ".join(str(error).split())
            raise ClientError(f"The agent's output is no {named}: {reason}", session_id=self.session_id) from error

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
            "agent": self.agent,
            "output": self.output,
            "output_type": self.output_type,
            "request_usage": self.request_usage,
            "attachments": self.attachments,
            "steered": self.steered,
        }


def _validated(kind: Any, value: Any) -> Any:
    """A value of a class that msgspec does not know: a model of pydantic."""
    if not hasattr(kind, "model_validate"):
        raise TypeError(f"a value cannot be made a {kind.__name__}")
    return kind.model_validate(value)


def failure_as_json(session_id: str, turn_id: str, error: ClientError) -> dict[str, Any]:
    """A turn that failed, as `-m … --json` prints it."""
    failed = {**Reply(session_id, 0, turn_id, "").as_json(), "status": "failed"}
    if isinstance(error, WaitingError):
        failed |= {"status": "awaiting_approval", "pending": approvals.calls_as_json(error.pending)}
    return failed
