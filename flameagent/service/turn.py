"""The turn that runs now, for tools that ask about it."""

from __future__ import annotations

import hashlib
import json
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flameagent.conversation import FlameSession, StagedTurn

if TYPE_CHECKING:
    from agents.tool_context import ToolContext


@dataclass
class RunningTurn:
    """A turn with its session, the calls that have asked for a key, and the IDs of all calls of all its runs."""

    session: FlameSession
    staged: StagedTurn
    asked: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    call_ids: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.call_ids = self.session.call_ids()


running: ContextVar[RunningTurn | None] = ContextVar("running", default=None)


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
