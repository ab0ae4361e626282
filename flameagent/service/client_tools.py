"""Tools that whoever asks has, and not the agent: a call of one waits until its client says what came of it.

Promises that such a call is answered by its client alone, and that what that says is recorded before the model is
told. A tool of the agent itself is never hidden behind one of a client.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agents import Agent, FunctionTool
from agents.tool_context import ToolContext

from flameagent.conversation import Call, ConflictError, FlameSession
from flameagent.service.turn import running

if TYPE_CHECKING:
    from agents.items import ToolApprovalItem


class ClientTool(FunctionTool):
    """A tool of a client; each call waits, as one that needs an approval does."""


def tools_of(agent: Agent[Any], session: FlameSession) -> list[ClientTool]:
    """Return the tools of the session's client for its agent, without those whose names the agent has itself."""
    own = {tool.name for tool in agent.tools}
    made: list[ClientTool] = []
    for text in session.state.tools:
        described = json.loads(text)
        name = str(described.get("name", ""))
        if name in own:
            if (turn := running.get()) is not None:
                turn.say(f"The agent has a tool {name} itself; that of the client is not used.")
            continue
        parameters = described.get("parameters") or {"type": "object", "properties": {}}
        about = str(described.get("description") or "")
        made.append(ClientTool(name, about, parameters, _given, strict_json_schema=False, needs_approval=True))
    return made


def is_of_client(item: ToolApprovalItem) -> bool:
    """Return whether the call that waits is one of a client's tool."""
    return any(isinstance(tool, ClientTool) and tool.name == item.tool_name for tool in item.agent.tools)


def check_outputs(approved: tuple[str, ...], outputs: Mapping[str, str], calls: Mapping[str, Call]) -> None:
    """Raise `ConflictError` unless exactly the approved calls of the client's tools have an output."""
    theirs = [call for call in approved if calls[call].runner]
    if without := [call for call in theirs if call not in outputs]:
        raise ConflictError(
            f"The call {without[0]} is of a tool of the client that has begun the session: only a client can give "
            "its result. It can be rejected. Nothing was decided."
        )
    if wrong := [call for call in outputs if call not in theirs]:
        raise ConflictError(f"The call {wrong[0]} is none of a client's tool that is approved; nothing was decided.")


async def _given(context: ToolContext[Any], arguments: str) -> str:
    """Return what the client has said of this call."""
    turn = running.get()
    if turn is None or context.tool_call_id not in turn.outputs:
        raise LookupError("its client has not said what came of it")
    return turn.outputs[context.tool_call_id]
