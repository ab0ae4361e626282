"""Calls that wait for an approval, as a client sees them and decides on them.

Promises that a decision names the record that a human was shown, so that of two people one decides.
"""

from __future__ import annotations

import getpass
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from apis import Answer, Decision
from flameagent.client.errors import ConflictError, UsageError
from flameagent.conversation import Call, DecisionBody, PendingApproval


@dataclass(frozen=True)
class Pending:
    """A turn that waits for a decision on its `calls`.

    `on` is the record that a decision has to name. With a `decision` someone has decided and the turn has not
    come to its end: what they approved may have run. `others` are IDs of other calls, which are no parts of these.
    """

    session_id: str
    turn_id: str
    question: str
    on: str
    calls: tuple[Call, ...]
    decision: DecisionBody | None = None
    others: frozenset[str] = frozenset()

    @classmethod
    def of(cls, session_id: str, waiting: PendingApproval) -> Pending:
        """As the conversation has it."""
        return cls(
            session_id, waiting.turn_id, waiting.question, waiting.record_id, tuple(waiting.calls), waiting.decision
        )

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
    calls = answer.pending or []
    return tuple(Call(*(str(call.get(name, "")) for name in ("id", "tool", "arguments", "agent"))) for call in calls)


def calls_as_json(calls: Sequence[Call]) -> list[dict[str, str]]:
    """Calls as JSON has them: `id`, `tool`, `arguments` and, where it is another than was asked, `agent`."""
    return [msgspec.to_builtins(call) for call in calls]


def make_decision(
    pending: Pending,
    approve: Sequence[str] = (),
    reject: Sequence[str] = (),
    reason: str = "",
    always: bool = False,
    by: str | None = None,
) -> Decision:
    """A new decision on those calls, by ID; by the user of this process, unless `by` says whose it is.

    Raises `UsageError` for a call that is both approved and rejected.
    """
    approve, reject = tuple(dict.fromkeys(approve)), tuple(dict.fromkeys(reject))
    if both := [call for call in approve if call in reject]:
        raise UsageError(f"The call {both[0]} is both approved and rejected.", session_id=pending.session_id)
    return Decision(
        str(uuid.uuid4()), pending.on, approve, reject, reason, always, current_user() if by is None else by
    )


def current_user() -> str:
    """Who runs this process; "" where nobody knows."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user ID without a name; KeyError before Python 3.13
        return ""
