"""For how long a turn waited, and what took how long, as its record keeps it."""

from __future__ import annotations

import msgspec


class Timing(msgspec.Struct, frozen=True, array_like=True):
    """The times of a turn, in milliseconds.

    Whoever asked `waited` until an agent took it; None: nobody said when it was asked, or their clocks do not agree.
    `ran` is how long it was worked on, without the time for which it waited for a human; where it did, `began` is
    when the work began (epoch milliseconds), otherwise that follows. `model` is the time of all calls of models
    together, and `tools` that of each tool call, by its ID, those of nested runs among them; calls may overlap.
    `failed` are the calls of tools that raised something.
    """

    ran: int = 0
    model: int = 0
    waited: int | None = None
    tools: dict[str, int] = {}
    began: int = 0
    failed: list[str] = []

    def began_at(self, at: int) -> int:
        """When the work on a turn began whose record was made then; both in epoch milliseconds."""
        return self.began or at - self.ran


NO_TIMING = Timing()
"""Of turns of which no times are known."""
