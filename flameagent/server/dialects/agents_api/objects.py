"""The objects of the Agents API: agents, turns, items and their parts, as its clients read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flameagent.client.approvals import Pending
from flameagent.conversation import Call, Usage
from flameagent.server.items import Message, Reasoning, Shown, ToolCall

Object = dict[str, Any]

FAILED = "The tool of the client failed: "
"""What the output begins with that stands for a failure of a client's tool."""

_CODES = {
    "model": "server_error",
    "usage": "invalid_request",
    "timeout": "request_timeout",
    "budget_reached": "session_budget_exceeded",
}


def agent(name: str) -> Object:
    """An application as an agent that was saved."""
    return {"object": "agent", "created_at": 0, "updated_at": 0, "metadata": {}, **configured(name)}


def configured(
    name: str, *, model: str = "", instructions: str | None = None, tools: list[Object] | None = None
) -> Object:
    """An agent as a session has it."""
    return {
        "id": name,
        "name": name,
        "model": model or name,
        "instructions": instructions,
        "multi_agent": {"enabled": False},
        "reasoning": {},
        "service_tier": "auto",
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tools": tools or [],
    }


def tool(described: str) -> Object:
    """A tool of the client, from its description as the session keeps it."""
    return {"type": "function", "defer_loading": False, **json.loads(described)}


def usage(counts: Usage | Mapping[str, int] | None) -> Object | None:
    """Tokens of a turn or of a session."""
    if counts is None:
        return None
    used = counts if isinstance(counts, Usage) else Usage.of(dict(counts))
    return {
        "input_tokens": used.input_tokens,
        "input_tokens_details": {"cached_tokens": used.cached_tokens},
        "output_tokens": used.output_tokens,
        "output_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
        "total_tokens": used.input_tokens + used.output_tokens,
    }


def turn(
    turn_id: str,
    session_id: str,
    agent_id: str,
    status: str,
    created: int,
    *,
    completed: int = 0,
    used: Usage | Mapping[str, int] | None = None,
    error: Object | None = None,
) -> Object:
    """A turn; times in epoch milliseconds."""
    return {
        "id": turn_id,
        "object": "agent.session.turn",
        "agent_id": agent_id,
        "session_id": session_id,
        "status": status,
        "created_at": created // 1000,
        "started_at": created // 1000,
        "completed_at": completed // 1000 or None,
        "error": error,
        "usage": usage(used),
        "subagent_id": None,
    }


def failure(code: str, message: str) -> Object:
    """Why a turn failed; `code` is ours."""
    return {"code": _CODES.get(code, "internal_error"), "message": message}


def arguments(text: str) -> Any:
    """The arguments of a call: the JSON object that they are, or the text as it came."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


def required_actions(agent_id: str, pending: Pending | None) -> list[Object]:
    """What has to be done before a turn that waits can go on."""
    return [required_action(agent_id, pending.turn_id, call) for call in pending.calls] if pending else []


def required_action(agent_id: str, turn_id: str, call: Call) -> Object:
    """The output of a call of a client's tool, or an approval."""
    if call.runner:
        told = {"call_id": call.id, "name": call.tool, "arguments": arguments(call.arguments)}
        return {"type": "function_call", "turn_id": turn_id, **told}
    return {
        "type": "mcp_approval_request",
        "request_id": call.id,
        "turn_id": turn_id,
        "request": {
            "type": "mcp_tool_call",
            "server_label": agent_id,
            "name": call.tool,
            "arguments": arguments(call.arguments),
            "message": f"{call.agent or agent_id} asks to use {call.tool}.",
        },
    }


def item(shown: Shown, turn_id: str, agent_id: str, *, whole: bool, client: bool = False, phase: str = "") -> Object:
    """An item of a turn; `client` says that a call is one of a client's tool."""
    status = "completed" if whole else "in_progress"
    common = {"id": shown.id, "turn_id": turn_id, "status": status}
    if isinstance(shown, Message):
        kind = "input_text" if shown.role == "user" else "output_text"
        content = [{"type": kind, "text": shown.text}] if whole or shown.text else []
        said = {"type": "message", "role": shown.role, "content": content, **common}
        return {**said, "phase": phase} if phase else said
    if isinstance(shown, Reasoning):
        return {"type": "reasoning", "summary": [{"type": "summary_text", "text": shown.text}], **common}
    call = {"name": shown.name, "arguments": arguments(shown.arguments)}
    if client:
        failed = shown.output is not None and shown.output.startswith(FAILED)
        common["status"] = "failed" if failed else status
        return {"type": "function_call", "call_id": shown.call_id, **call, **common}
    return {
        "type": "mcp_call",
        "server_label": agent_id,
        **call,
        "output": shown.output,
        "error": None,
        **common,
    }


def output_of(shown: ToolCall, turn_id: str) -> Object:
    """What a client has said of a call of its tool."""
    text = shown.output or ""
    failed = text.startswith(FAILED)
    return {
        "id": f"{shown.id}_output",
        "type": "function_call_output",
        "call_id": shown.call_id,
        "turn_id": turn_id,
        "output": None if failed else text,
        "error": text.removeprefix(FAILED) if failed else None,
        "status": "failed" if failed else "completed",
    }
