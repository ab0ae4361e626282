"""A replay: a turn in which calls of tools get the outputs that a record has, and no tool is carried out by itself.

Promises that from the beginning of such a turn on no tool of any agent can be reached in this process, in whatever
run, nested ones included, unless the replay says that tools may run. An agent has stand-ins in the place of its
function tools, those of MCP servers and agents that are used as tools included, and what cannot be stood in for it
does not have. Guardrails and handoffs are as they are.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flameagent.conversation import RecordedCall, Replay
from flameagent.conversation.replayed import NOT_RUN, RecordedOutputs, arguments_value
from flameagent.service.turn import running

if TYPE_CHECKING:
    from agents import FunctionTool, RunContextWrapper, Tool
    from agents.tool_context import ToolContext

_ONLY_FIND = ("ToolSearchTool", "ProgrammaticToolCallingTool")
"""Tools of a model's server that do nothing but call others."""

_runs: _Replaying | None = None
"""Not of a context: code of the agent's may call tools in threads without one, and later than in its turn. A worker
runs one turn at a time, of one session, which is a replay for good."""


def begin(replay: Replay | None) -> None:
    """From now on the agents of this process have only what that replay lets them; None: all."""
    global _runs
    if replay is not None:
        from flameagent.service import sdk_compat

        sdk_compat.choose_tools_of_agents(_chosen)
    _runs = None if replay is None else _Replaying(replay)


def _chosen(tools: Sequence[Tool]) -> list[Tool]:
    """The tools that an agent has now, of those that are its own."""
    return list(tools) if _runs is None else _runs.stand_ins(tools)


class _Replaying:
    """One turn of a replay."""

    def __init__(self, replay: Replay) -> None:
        self._runs_tools = replay.run_tools
        self._recorded = RecordedOutputs(replay.calls)
        self._given: dict[tuple[str, str, str], RecordedCall | None] = {}

    def stand_ins(self, tools: Sequence[Tool]) -> list[Tool]:
        from agents import FunctionTool

        found: list[Tool] = []
        for tool in tools:
            if isinstance(tool, FunctionTool):
                found.append(tool if hasattr(tool, "stands_in") else self._stand_in(tool))
            elif self._runs_tools or type(tool).__name__ in _ONLY_FIND:
                found.append(tool)
            elif (turn := running.get()) is not None:
                name = getattr(tool, "name", type(tool).__name__)
                turn.say(f"The tool {name} was not offered to the model: no record can stand in for it in a replay.")
        return found

    def _stand_in(self, tool: FunctionTool) -> FunctionTool:
        name = tool.qualified_name

        async def invoke(context: ToolContext[Any], arguments: str) -> Any:
            if (recorded := self._output_for(name, arguments, context.tool_call_id)) is not None:
                return _returned(recorded.output)
            return await tool.on_invoke_tool(context, arguments) if self._runs_tools else NOT_RUN

        async def needs_approval(context: RunContextWrapper[Any], arguments: dict[str, Any], call_id: str) -> bool:
            if self._output_for(name, json.dumps(arguments), call_id) is not None:
                return False  # as it was decided then, its output says
            from flameagent.service.sdk_compat import needs_approval_of

            return await needs_approval_of(tool, context, arguments, call_id)

        made = copy.copy(tool)
        made.on_invoke_tool = invoke
        made.needs_approval = needs_approval if tool.needs_approval else False
        if not self._runs_tools:  # whose output may be none of the tool's
            made.output_json_schema = made._output_type_adapter = made.custom_data_extractor = None
        made.stands_in = True  # type: ignore[attr-defined]
        return made

    def _output_for(self, tool: str, arguments: str, call_id: str) -> RecordedCall | None:
        """The recorded call whose output that call gets, the same each time that it is asked for."""
        call = tool, arguments_value(arguments), call_id
        if call not in self._given:
            self._given[call] = self._recorded.take(tool, arguments)
        return self._given[call]


def _returned(output: Any) -> Any:
    """What a tool returns for a run to make this output of it."""
    return [_part(part) for part in output] if isinstance(output, list) else output


def _part(part: dict[str, Any]) -> dict[str, Any]:
    kind = str(part.get("type", ""))
    if kind not in ("input_text", "input_image", "input_file"):
        return {"type": "text", "text": str(part)}
    return {**part, "type": kind.removeprefix("input_")}
