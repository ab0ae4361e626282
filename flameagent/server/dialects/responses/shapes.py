"""The JSON of the Responses dialect: items, usage and responses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from flameagent.client.errors import ClientError
from flameagent.conversation import Attached, Usage
from flameagent.server.dialects.responses.passes import Request, Standing
from flameagent.server.errors import sentence
from flameagent.server.items import Message, Reasoning, Shown

Json: TypeAlias = dict[str, Any]


def item(shown: Shown | Request, agent: str, *, status: str = "completed", requested: Iterable[str] = ()) -> Json:
    """An item of a response's output; `requested` are the calls that a human had to decide on."""
    if isinstance(shown, Message):
        content = [output_text(shown.text)] if shown.text or status == "completed" else []
        return {"type": "message", "id": shown.id, "role": shown.role, "status": status, "content": content}
    if isinstance(shown, Reasoning):
        summary = [summary_text(shown.text)] if shown.text or status == "completed" else []
        return {"type": "reasoning", "id": shown.id, "summary": summary, "status": status}
    if isinstance(shown, Request) and shown.is_clients:
        called = {"call_id": shown.call.id, "name": shown.call.tool, "arguments": shown.call.arguments}
        return {"type": "function_call", "id": shown.id, "status": status, **called}
    if isinstance(shown, Request):
        return {
            "type": "mcp_approval_request",
            "id": shown.id,
            "server_label": shown.call.agent or agent,
            "name": shown.call.tool,
            "arguments": shown.call.arguments,
        }
    return {
        "type": "mcp_call",
        "id": shown.id,
        "server_label": agent,
        "name": shown.name,
        "arguments": shown.arguments,
        "output": shown.output,
        "error": None,
        "status": status,
        "approval_request_id": f"mcpr_{shown.call_id}" if shown.call_id in requested else None,
    }


def output_text(text: str) -> Json:
    """A part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def summary_text(text: str) -> Json:
    """A part of reasoning."""
    return {"type": "summary_text", "text": text}


def question(item_id: str, text: str, attached: Iterable[Attached], data: Mapping[str, str] | None = None) -> Json:
    """The message that a turn begins with; `data` are data URLs of what was attached, by hash, where wanted."""
    parts: list[Json] = [{"type": "input_text", "text": text}]
    for each in attached:
        url = (data or {}).get(each.sha256)
        if each.media_type.startswith("image/"):
            parts.append({"type": "input_image", "image_url": url, "file_id": None, "detail": "auto"})
        else:
            parts.append({"type": "input_file", "filename": each.name, **({"file_data": url} if url else {})})
    return {"type": "message", "id": item_id, "role": "user", "status": "completed", "content": parts}


def usage(used: Usage | None) -> Json | None:
    """The tokens that were used; None where nobody knows."""
    if used is None:
        return None
    details = {"cached_tokens": used.cached_tokens, "cache_write_tokens": used.cache_write_tokens}
    return {
        "input_tokens": used.input_tokens,
        "input_tokens_details": details,
        "output_tokens": used.output_tokens,
        "output_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
        "total_tokens": used.input_tokens + used.output_tokens,
    }


def failure(error: ClientError) -> Json:
    """Why a response has failed. The code is one of the dialect's, the type our own word for it."""
    code = "rate_limit_exceeded" if error.code == "budget_reached" else "server_error"
    return {"code": code, "message": sentence(error), "type": error.code, "param": None}


def response(standing: Standing, **asked: Any) -> Json:
    """A response as it stands; `asked` is what only the request for it has said."""
    agent, requested = standing.agent, standing.requested
    output = [item(each, agent, requested=requested) for each in standing.output]
    completed = standing.status == "completed"
    return {
        "id": str(standing.id),
        "object": "response",
        "created_at": standing.created,
        "completed_at": standing.completed if completed else None,
        "status": standing.status,
        "model": agent,
        "output": output,
        "error": failure(standing.error) if standing.error is not None else None,
        "incomplete_details": None,
        "instructions": standing.prompt or None,
        "conversation": {"id": standing.id.session_id},
        "previous_response_id": str(standing.id.at(standing.id.number - 1)) if standing.id.number else None,
        "metadata": standing.metadata,
        "usage": usage(standing.usage),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "text": {"format": {"type": "text"}},
        "store": True,
        "temperature": None,
        "top_p": None,
        "max_output_tokens": None,
        "truncation": "disabled",
        **asked,
    }
