"""Calls that wait for an approval, as a client sees them and decides on them.

Promises that a decision names the record that a human was shown, so that of two people one decides.
"""

from __future__ import annotations

import getpass
import uuid
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import msgspec

from flameagent.apis import Answer, Decision
from flameagent.client.errors import ConflictError, UsageError
from flameagent.conversation import Attached, Call, DecisionBody, PendingApproval
from flameagent.text import well_formed


@dataclass(frozen=True)
class Pending:
    """A turn that waits for a decision on its `calls`.

    `on` is the record that a decision has to name. With a `decision` someone has decided and the turn has not
    come to its end: what they approved may have run. `others` are IDs of other calls, which are no parts of these.
    `attachments` are those of its question that were taken, and what its tools have returned so far; `traceparent`
    names the span that the turn is a part of.
    """

    session_id: str
    turn_id: str
    question: str
    on: str
    calls: tuple[Call, ...]
    decision: DecisionBody | None = None
    others: frozenset[str] = frozenset()
    attachments: tuple[Attached, ...] = ()
    traceparent: str = ""

    @classmethod
    def of(cls, session_id: str, waiting: PendingApproval) -> Pending:
        """As the conversation has it."""
        asked = session_id, waiting.turn_id, waiting.question, waiting.record_id, tuple(waiting.calls)
        more = tuple(waiting.pending.attachments), waiting.pending.traceparent
        return cls(*asked, waiting.decision, frozenset(), *more)

    def chosen(self, parts: Sequence[str]) -> tuple[str, ...]:
        """The IDs of the calls with these IDs, or parts that only they have; without any, all that wait.

        Raises `ConflictError` for a call that does not wait, `UsageError` for a part that several have.
        """
        if not parts:
            return tuple(dict.fromkeys(call.id for call in self.calls))
        return tuple(dict.fromkeys(self._one(part) for part in parts))

    def _one(self, part: str) -> str:
        ids = [call.id for call in self.calls]
        found = [part] if part in ids else [call for call in ids if self._may_be(part, call)]
        if not found:
            raise ConflictError(
                f"The call {part!r} does not wait; these do: {', '.join(ids)}.", session_id=self.session_id
            )
        if len(found) > 1:
            raise UsageError(
                f"{len(found)} calls have {part!r} in their ID: {', '.join(found)}. Give more of it.",
                session_id=self.session_id,
            )
        return found[0]

    def _may_be(self, part: str, call: str) -> bool:
        return bool(part) and part in call and part not in self.others

    def as_json(self) -> dict[str, Any]:
        """The calls as `history --json` prints them, as `waiting`."""
        decided = self.decision
        return {
            "turn_id": self.turn_id,
            "question": self.question,
            "on": self.on,
            "pending": calls_as_json(self.calls),
            "attachments": msgspec.to_builtins(self.attachments),
            "decision": None
            if decided is None
            else {
                "by": decided.by,
                "approved": decided.approved,
                "rejected": decided.rejected,
                "always": decided.always_approved,
                "reason": decided.reason,
            },
        }


def calls_of(answer: Answer) -> tuple[Call, ...]:
    """The calls that an Answer names as waiting."""
    calls, names = answer.pending or [], ("id", "tool", "arguments", "agent", "runner")
    return tuple(Call(*(str(call.get(name, "")) for name in names)) for call in calls)


def calls_as_json(calls: Sequence[Call]) -> list[dict[str, str]]:
    """Calls as JSON has them: `id`, `tool`, `arguments` and, where it is another than was asked, `agent`.

    One of a client's tool has the `runner` `client`.
    """
    return [msgspec.to_builtins(call) for call in calls]


def make_decision(
    pending: Pending,
    approve: Sequence[str] = (),
    reject: Sequence[str] = (),
    reason: str = "",
    always: bool = False,
    by: str | None = None,
    outputs: Mapping[str, str] | None = None,
    *,
    name: str = "",
) -> Decision:
    """A new decision on those calls, by ID; by the user of this process, unless `by` says whose it is.

    `outputs` are what this client's own tools said, by call: those calls are approved. `name` is the decision's ID,
    so that it is made once. Raises `UsageError` for a call that is both approved and rejected, and for one of a
    client's tool that is approved without an output.
    """
    outputs = {call: well_formed(text) for call, text in (outputs or {}).items()}
    approve, reject = tuple(dict.fromkeys([*approve, *outputs])), tuple(dict.fromkeys(reject))
    if theirs := [call.id for call in pending.calls if call.runner and call.id in approve and call.id not in outputs]:
        raise UsageError(
            f"The call {theirs[0]} is of a tool of the client that has begun the session: only a client can give its "
            "result. You can reject it.",
            session_id=pending.session_id,
        )
    if both := [call for call in approve if call in reject]:
        raise UsageError(f"The call {both[0]} is both approved and rejected.", session_id=pending.session_id)
    made = name or str(uuid.uuid4())
    by = current_user() if by is None else by
    return Decision(made, pending.on, approve, reject, reason, always, by, outputs or None)


acting_user: ContextVar[str | None] = ContextVar("acting user", default=None)
"""Who asks and decides here, where that is somebody else than who runs this process: whom a server serves."""


def current_user() -> str:
    """Who asks and decides here: who runs this process, unless it serves others; "" where nobody knows."""
    if (acting := acting_user.get()) is not None:
        return acting
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user ID without a name; KeyError before Python 3.13
        return ""
