"""What an agent is told of its conversation and its user, beside its own instructions: by whoever begins a turn, and
by whoever takes one over.

Promises that each is told it once. An agent that is only used as a tool is told nothing of it.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agents import Agent

from flameagent.service import memory, summaries
from flameagent.service.sdk_compat import agent_of_handoff
from flameagent.service.turn import RunningTurn, running

if TYPE_CHECKING:
    from agents.run_config import CallModelData, CallModelInputFilter, ModelInputData


def known(agent: Agent[Any], turn: RunningTurn) -> list[str]:
    """The summary of turns that are not shown, the keys of facts, and how to look up turns: what its tools can do."""
    names = {tool.name for tool in agent.tools}
    summary = summaries.instructions(turn.session, turn.staged)
    facts = memory.instructions() if "recall" in names else ""
    unseen = memory.unseen_turns() if "search_conversation" in names else ""
    return [part for part in (summary, facts, unseen) if part]


def to_who_takes_over(agent: Agent[Any], then: CallModelInputFilter | None) -> CallModelInputFilter | None:
    """The filter of the requests of a run of `agent` that tells it to whoever takes over, and calls `then`."""
    others = _reached(agent)
    if not others:
        return then

    async def told(data: CallModelData[Any]) -> ModelInputData:
        turn, given = running.get(), data.model_data
        if turn is not None and any(data.agent is other for other in others):
            own = given.instructions or ""
            more = [part for part in known(data.agent, turn) if part not in own]
            given = data.model_data = replace(given, instructions="\n\n".join(filter(None, (own, *more))) or None)
        changed = then(data) if then else given
        return await changed if inspect.isawaitable(changed) else changed

    return told


def _reached(agent: Agent[Any]) -> list[Agent[Any]]:
    """The agents to which it can be handed over, one after the other; the agent itself where one hands it back."""
    found: list[Agent[Any]] = []
    waiting = [agent]
    while waiting:
        for other in map(agent_of_handoff, waiting.pop().handoffs):
            if other is not None and not any(other is each for each in found):
                found.append(other)
                waiting.append(other)
    return found
