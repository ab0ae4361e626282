"""The times of turns: when each was asked, for how long it waited, and what took how long.

They come of the turns' records. Turns of older programs have none there: of those Flame knows when they were asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flameagent.client import payloads
from flameagent.conversation import Item, Turn
from flameagent.conversation.timing import NO_TIMING
from flameagent.flame.frontend import Task


@dataclass(frozen=True)
class ToolTime:
    """A call of a tool that `took` so many milliseconds; of a nested run's only the ID is known."""

    call_id: str
    tool: str
    took: int
    failed: bool


@dataclass(frozen=True)
class TurnTimes:
    """The times of a turn; moments are epoch milliseconds, durations milliseconds, and None is not known.

    It was `asked`, `waited` until it `began`, `ran` for so long, without the time for which it waited for a human,
    and has `ended`; all but that time is the `total`. `model` and `tools` were part of it, and may overlap.
    """

    ended: int
    asked: int | None = None
    waited: int | None = None
    began: int | None = None
    ran: int | None = None
    total: int | None = None
    model: int | None = None
    tools: tuple[ToolTime, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As `history --json` prints it."""
        return {**asdict(self), "tools": [asdict(each) for each in self.tools]}


def turn_times(turn: Turn, items: Iterable[Item], asked: Mapping[str, int] | None = None) -> TurnTimes:
    """Those of a turn with these items; `asked` is when turns were asked, as Flame knows it, by their IDs."""
    timing = turn.timing
    if timing == NO_TIMING:
        created = (asked or {}).get(turn.id)
        total = turn.at - created if created is not None and created <= turn.at and not turn.decisions else None
        return TurnTimes(turn.at, created, total=total)
    began, names = timing.began_at(turn.at), _tools(items)
    return TurnTimes(
        ended=turn.at,
        asked=None if timing.waited is None else began - timing.waited,
        waited=timing.waited,
        began=began,
        ran=timing.ran,
        total=None if timing.waited is None else timing.waited + timing.ran,
        model=timing.model,
        tools=tuple(
            ToolTime(call_id, names.get(call_id, ""), took, call_id in timing.failed)
            for call_id, took in timing.tools.items()
        ),
    )


def asked_at(tasks: Iterable[Task]) -> dict[str, int]:
    """When the turns of a session were asked, by their IDs, as its tasks say it."""
    asked: dict[str, int] = {}
    for task in tasks:
        if payloads.question(task.input) is not None and task.created:
            asked.setdefault(payloads.turn_id(task.input) or f"{task.session_id}/{task.id}", task.created)
    return asked


def _tools(items: Iterable[Item]) -> dict[str, str]:
    """The names of tools, by the IDs of their calls."""
    return {str(item["call_id"]): str(item["name"]) for item in items if item.get("call_id") and item.get("name")}
