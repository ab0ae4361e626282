"""What a turn has used of models, beside what its user may still use today.

Promises that no model is asked once that is used up: it is looked at before each call, of nested runs and summaries,
too. What is asked at the same time may go beyond.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from flameagent.conversation import Budget, BudgetReachedError, ConversationError, Usage
from flameagent.conversation.codec import convert


@dataclass
class Spending:
    """What one turn has `used`, under the name of its `model`, by which it is recorded and priced."""

    budget: Budget = field(default_factory=Budget)
    used: Usage = field(default_factory=Usage)
    model: str = ""

    @classmethod
    def of(cls, budget: dict[str, Any] | None, used: Usage, model: str) -> Spending:
        """Of a turn that has used something before a human's decision. Raises `ConversationError` for no budget."""
        try:
            return cls(convert(budget or {}, Budget), used, model)
        except msgspec.ValidationError as error:
            raise ConversationError(f"The question's budget cannot be read: {error}. Nothing was added.") from error

    def check(self) -> None:
        """Raise `BudgetReachedError` where no more may be used."""
        if said := self.budget.reached(self.used, self.model):
            raise BudgetReachedError(said)

    def count(self, usage: Any) -> None:
        """Count what a response says of its usage, if it does: the Agents SDK's, or that of a Responses event."""
        if usage is None:
            return
        cached = getattr(getattr(usage, "input_tokens_details", None), "cached_tokens", 0)
        self.used += Usage(
            input_tokens=usage.input_tokens or 0, cached_tokens=cached or 0, output_tokens=usage.output_tokens or 0
        )
