"""The Agents SDK's spans as spans of the turn: agents, calls of models and tools, MCP, guardrails and handoffs.

Named and described as OpenTelemetry's conventions for generative AI say (`gen_ai.…`). The SDK tells them to a
`TracingProcessor`, which this is; nothing of the SDK is wrapped. The openinference instrumentation would do the same,
in names of its own and with all texts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agents import add_trace_processor
from agents.tracing import TracingProcessor, get_current_span, get_trace_provider
from agents.tracing.span_data import (
    AgentSpanData,
    FunctionSpanData,
    GenerationSpanData,
    GuardrailSpanData,
    HandoffSpanData,
    MCPListToolsSpanData,
    ResponseSpanData,
)

from flameagent import tracing

if TYPE_CHECKING:
    from agents.tracing import Span, Trace

    from flameagent.tracing.recording import Place, Recorder

_MOST = 10_000  # spans that run
_LONGEST = 16_384  # characters of texts

# What a run is made of, which says no more than the agent's own span.
_LEFT_OUT = ("task", "turn")


class SdkSpans(TracingProcessor):
    """Has them recorded, where a recorder is there."""

    def __init__(self) -> None:
        self._places: dict[str, Place | None] = {}
        self._told_by: object = None

    def install(self) -> None:
        """Be told of all spans of this process, once."""
        if self._told_by is not (provider := get_trace_provider()):
            self._told_by = provider
            add_trace_processor(self)

    def record_to(self, recorder: Recorder) -> None:
        """From now on spans of ours that begin inside one of the SDK belong to that."""
        recorder.inner = self._inner

    def on_trace_start(self, trace: Trace) -> None:
        """A run is a part of a turn."""

    def on_trace_end(self, trace: Trace) -> None:
        """A run is a part of a turn."""

    def on_span_start(self, span: Span[Any]) -> None:
        recorder = tracing.recorder()
        if recorder is None:
            return
        if len(self._places) > _MOST:  # of runs that were left without an end
            self._places.clear()
        if (data := span.span_data).type in _LEFT_OUT:
            self._places[span.span_id] = self._places.get(span.parent_id or "")
            return
        kind = "client" if isinstance(data, GenerationSpanData | ResponseSpanData) else "internal"
        self._places[span.span_id] = recorder.begin(_name(data), _begun(data), kind=kind)

    def on_span_end(self, span: Span[Any]) -> None:
        place = self._places.pop(span.span_id, None)
        if place is None or isinstance(place, tracing.Remote) or span.span_data.type in _LEFT_OUT:
            return
        place.name = _name(span.span_data)
        place.set(_ended(span.span_data))
        if span.error is not None:
            # What a tool has raised the SDK keeps for itself (0.24.0); `tool_errors` has said of what kind it is.
            said = str((span.error.get("data") or {}).get("error") or "")
            said = str(place.attributes.get("exception.message") or said)
            kind = str(place.attributes.get("error.type") or "error")
            place.fail(kind, f"{span.error['message']}{said and ': '}{said}")
        place.end()

    def shutdown(self) -> None:
        """The recorder looks after that."""

    def force_flush(self) -> None:
        """The recorder looks after that."""

    def _inner(self) -> tuple[str, Place] | None:
        span = get_current_span()
        place = self._places.get(span.span_id) if span is not None else None
        return None if span is None or place is None else (place.span_id, place)


SPANS = SdkSpans()


def _name(data: Any) -> str:
    match data:
        case AgentSpanData():
            return f"invoke_agent {data.name}"
        case GenerationSpanData():
            return f"chat {data.model or ''}".strip()
        case ResponseSpanData():
            return "chat"
        case FunctionSpanData():
            return f"execute_tool {data.name}"
        case HandoffSpanData():
            return f"handoff {data.from_agent} → {data.to_agent or '?'}"
        case GuardrailSpanData():
            return f"guardrail {data.name}"
        case MCPListToolsSpanData():
            return f"tools/list {data.server or ''}".strip()
        case _:
            return str(getattr(data, "name", "") or data.type)


def _begun(data: Any) -> dict[str, Any]:
    match data:
        case AgentSpanData():
            return {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": data.name}
        case GenerationSpanData() | ResponseSpanData():
            return {"gen_ai.operation.name": "chat"}
        case FunctionSpanData():
            kinds = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.type": "function"}
            return kinds | {"gen_ai.tool.name": data.name}
        case MCPListToolsSpanData():
            return {"mcp.method.name": "tools/list", "flame.mcp.server": data.server or ""}
        case GuardrailSpanData():
            return {"flame.guardrail.name": data.name}
        case _:
            return {}


def _ended(data: Any) -> dict[str, Any]:
    match data:
        case GenerationSpanData():
            return {"gen_ai.request.model": data.model, **_configured(data), **_used(data.usage), **_said(data)}
        case ResponseSpanData():
            return {**_used(data.usage), **_responded(data)}
        case FunctionSpanData():
            texts = _texts(**{"gen_ai.tool.call.arguments": data.input, "gen_ai.tool.call.result": data.output})
            return texts | _mcp(data.mcp_data)
        case HandoffSpanData():
            return {"flame.handoff.from": data.from_agent, "flame.handoff.to": data.to_agent}
        case GuardrailSpanData():
            return {"flame.guardrail.triggered": data.triggered}
        case MCPListToolsSpanData():
            return {"flame.mcp.tools": len(data.result or ())}
        case _:
            return {}


def _mcp(data: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"mcp.method.name": "tools/call", "flame.mcp.server": str(data.get("server") or "")} if data else {}


def _configured(data: GenerationSpanData) -> dict[str, Any]:
    names = ("temperature", "top_p", "max_tokens", "frequency_penalty", "presence_penalty")
    settings = data.model_config or {}
    return {f"gen_ai.request.{name}": settings[name] for name in names if settings.get(name) is not None}


def _used(usage: Mapping[str, Any] | None) -> dict[str, Any]:
    if not usage:
        return {}
    given, made = usage.get("input_tokens_details") or {}, usage.get("output_tokens_details") or {}
    counts = {
        "gen_ai.usage.input_tokens": usage.get("input_tokens"),
        "gen_ai.usage.output_tokens": usage.get("output_tokens"),
        "gen_ai.usage.cache_read.input_tokens": given.get("cached_tokens"),
        "gen_ai.usage.cache_creation.input_tokens": given.get("cache_write_tokens"),
        "gen_ai.usage.reasoning.output_tokens": made.get("reasoning_tokens"),
    }
    return {name: count for name, count in counts.items() if count is not None}


def _said(data: GenerationSpanData) -> dict[str, Any]:
    return _texts(**{"gen_ai.input.messages": data.input, "gen_ai.output.messages": data.output})


def _responded(data: ResponseSpanData) -> dict[str, Any]:
    response = data.response
    if response is None:
        return {}
    output = [item.model_dump(exclude_none=True) for item in response.output]
    texts = _texts(**{"gen_ai.input.messages": data.input, "gen_ai.output.messages": output})
    return texts | {"gen_ai.response.model": response.model, "gen_ai.response.id": response.id}


def _texts(**values: Any) -> dict[str, Any]:
    """Texts, where they are wanted, as JSON: of long ones the end, where the newest is."""
    if not tracing.with_content():
        return {}
    written = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        for name, value in values.items()
        if value is not None
    }
    return {name: text if len(text) <= _LONGEST else f"… {text[-_LONGEST:]}" for name, text in written.items()}
