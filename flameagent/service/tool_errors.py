"""Tool calls that go wrong: the model is told what happened, so that it can do better or say so.

The Agents SDK (0.24.0) says "An error occurred while running the tool" whatever it was.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Awaitable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from agents import FunctionTool, ModelBehaviorError
from agents.tool_context import ToolContext

from flameagent import tracing
from flameagent.redact import first_line, redact
from flameagent.service import sdk_compat
from flameagent.service.containment import Escaped, contain
from flameagent.service.turn import running

if TYPE_CHECKING:
    from agents import ToolErrorFormatterArgs


def format_tool_error(failure: ToolErrorFormatterArgs[Any]) -> str | None:
    """Return what to tell the model; None for what the SDK says, which is enough where there is no such tool.

    For `RunConfig.tool_error_formatter`. What the tool raised is in the instance's log with its traceback, without
    keys.
    """
    error, context = failure.error, failure.run_context
    if error is None:
        return None
    if isinstance(error, ModelBehaviorError) and isinstance(context, ToolContext):
        wrong = _wrong_arguments(context)
        return wrong and f"The arguments of {failure.tool_name} are wrong: {wrong}. Call it again with others."
    print(redact("".join(traceback.format_exception(error))), file=sys.stderr)
    said = redact(first_line(str(error)))
    kind = type(error.raised if isinstance(error, Escaped) else error).__name__
    tracing.annotate({"error.type": kind, "exception.message": said if tracing.with_content() else ""})
    return f"The tool {failure.tool_name} failed: {kind}{f': {said}' if said else ''}"


def prepare() -> None:
    """Have the Agents SDK (0.24.0) take whatever a tool raises for a failure of that tool, in the whole process.

    It only takes an `Exception`, and has other words for a cancellation.
    """
    sdk_compat.wrap_calls_of_tools(_call)


async def _call(code: Awaitable[Any], context: Any) -> Any:
    """Await a tool's code, contained; the turn that runs counts how long it takes."""
    turn, call_id = running.get(), str(getattr(context, "tool_call_id", ""))
    tracing.annotate({"gen_ai.tool.call.id": call_id})
    with turn.clock.calling_tool(call_id) if turn else nullcontext():
        return await contain(code)


def _wrong_arguments(context: ToolContext[Any]) -> str | None:
    """Return what is wrong with the arguments of this call; the SDK keeps it for itself, as it may be private."""
    from jsonschema.validators import Draft202012Validator  # seldom needed

    try:
        arguments = json.loads(context.tool_arguments or "{}")
    except ValueError as error:
        return f"they are no JSON ({error})"
    tools = getattr(context.agent, "tools", [])
    schemas = [t.params_json_schema for t in tools if isinstance(t, FunctionTool) and t.name == context.tool_name]
    if not schemas:
        return None
    wrong = [
        f"{'.'.join(map(str, error.absolute_path)) or 'the object'}: {error.message}"
        for error in Draft202012Validator(schemas[0]).iter_errors(arguments)
    ]
    return "; ".join(wrong[:5])[:500] or None
