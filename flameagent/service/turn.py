"""The turn that runs now, for tools that ask about it."""

from __future__ import annotations

import hashlib
import json
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flameagent.conversation import FlameSession, StagedTurn
from flameagent.service.clock import Clock
from flameagent.service.spending import Spending

if TYPE_CHECKING:
    from agents.tool_context import ToolContext

    from flameagent.service.person import Person
    from flameagent.service.steering import Steering
    from flameagent.service.summaries import Summaries


@dataclass
class RunningTurn:
    """A turn with its session, the messages that come for it while it runs, the calls that have asked for a key, and
    the IDs of all calls of all its runs. `notes` are sentences for whoever asked; `person` is whose session it
    is, `summaries` are of what left its window; `outputs` are what a client has said of calls of its tools;
    `spending` is what models have cost, `clock` what took how long."""

    session: FlameSession
    staged: StagedTurn
    steering: Steering
    person: Person
    summaries: Summaries
    asked: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    spending: Spending = field(default_factory=Spending)
    clock: Clock = field(default_factory=Clock)
    call_ids: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.call_ids = self.session.call_ids()

    def say(self, note: str) -> None:
        """Have whoever asked be told this, once."""
        if note not in self.notes:
            self.notes.append(note)


running: ContextVar[RunningTurn | None] = ContextVar("running", default=None)


def user() -> str:
    """Who asked, as far as the client said; "" where nobody is known. Raises `RuntimeError` outside a turn."""
    turn = running.get()
    if turn is None:
        raise RuntimeError("there is no turn here: the session has no context, or this is no tool call")
    return turn.staged.user


def idempotency_key(context: ToolContext[object]) -> str:
    """A key for what this tool call does, the same when the turn runs again after a crash.

    Made of the turn's ID, the tool's name, its arguments, and the number of equal calls before it in the turn:
    give it to a service that does things once per key. Raises `RuntimeError` outside a turn.
    """
    turn = running.get()
    if turn is None:
        raise RuntimeError("there is no turn here: the session has no context, or this is no tool call")
    call = context.tool_name, _canonical(context.tool_arguments)
    before = [
        str(item["call_id"])
        for item in turn.staged.items
        if item.get("type") == "function_call" and (item.get("name"), _canonical(item.get("arguments"))) == call
    ]
    # The calls of the model's newest answer are not staged before their outputs are there.
    asked = turn.asked.setdefault(call, [])
    if context.tool_call_id not in [*before, *asked]:
        asked.append(context.tool_call_id)
    number = list(dict.fromkeys([*before, *asked])).index(context.tool_call_id)
    return hashlib.sha256(json.dumps([turn.staged.id, *call, number]).encode()).hexdigest()[:32]


def _canonical(arguments: object) -> str:
    try:
        return json.dumps(json.loads(str(arguments)), sort_keys=True)
    except ValueError:
        return str(arguments)
