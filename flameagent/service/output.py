"""An agent's answer: as text, which is its output type's JSON where it has one, and as the value of that JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agents import AgentOutputSchema, AgentOutputSchemaBase, ItemHelpers, MessageOutputItem
from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, to_json

from flameagent.service.sdk_compat import unwrapped

if TYPE_CHECKING:
    from agents import RunResult, RunResultStreaming


def text(result: RunResult | RunResultStreaming) -> str:
    """Return the final output of a run as text; of another type than `str` as JSON.

    By the serializer of the output type of the agent that answered. Where the type cannot read that back (its names
    differ by direction, it is read by a schema of its own), it is what the model wrote. Raises `TypeError` for
    what is no JSON.
    """
    output, schema, said = result.final_output, _schema(result.last_agent.output_type), _said(result)
    if schema is None or schema.is_plain_text():
        return output if isinstance(output, str) else _dumped(None, output)
    if not isinstance(schema, AgentOutputSchema):
        return _dumped(None, output) if said is None else said
    adapter: TypeAdapter[Any] = TypeAdapter(schema.output_type)
    if said is None:
        return _dumped(adapter, output)
    try:
        dumped = _dumped(adapter, output)
        if adapter.validate_json(dumped) == output:
            return dumped
    except (TypeError, ValueError):
        pass
    return unwrapped(said, schema)


def value(result: RunResult | RunResultStreaming, text: str) -> tuple[Any, str]:
    """Return the JSON value of an answer that is of an output type, and that type's name; of a text None and ""."""
    schema = _schema(result.last_agent.output_type)
    if schema is None or schema.is_plain_text():
        return None, ""
    try:
        return json.loads(text), schema.name()
    except (ValueError, RecursionError):  # a schema of the agent's own, whose texts are no JSON
        return None, ""


def _schema(kind: Any) -> AgentOutputSchemaBase | None:
    if kind is None or isinstance(kind, AgentOutputSchemaBase):
        return kind
    return AgentOutputSchema(kind, strict_json_schema=False)


def _said(result: RunResult | RunResultStreaming) -> str | None:
    """Return what the model wrote, where that was the end of the run and not the output of a tool."""
    last = result.new_items[-1] if result.new_items else None
    return ItemHelpers.text_message_output(last) if isinstance(last, MessageOutputItem) else None


def _dumped(adapter: TypeAdapter[Any] | None, output: Any) -> str:
    try:
        if adapter is None:
            return to_json(output).decode()
        return adapter.dump_json(output, by_alias=True, round_trip=True, warnings="none").decode()
    except PydanticSerializationError as error:
        raise TypeError(
            f"the agent's final output, {type(output).__name__}, cannot be written as JSON: {error}"
        ) from error
