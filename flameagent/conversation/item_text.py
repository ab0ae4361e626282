"""An item of a conversation as a person reads it: who or what, and a text.

Promises something readable for every input item of the Agents SDK, one that nobody has thought of included.
"""

from __future__ import annotations

import json
from typing import Any

from flameagent.conversation.attachments import Reference


def describe_item(item: dict[str, Any]) -> tuple[str, str]:
    """A label such as `user`, `call` or `result`, and the text."""
    kind = str(item.get("type") or "message")
    if kind == "message":
        return str(item.get("role") or "message"), _text(item.get("content"))
    if kind == "function_call":
        return "call", f"{item.get('name', '?')}({_text(item.get('arguments'))})"
    if kind == "function_call_output":
        return "result", _text(item.get("output"))
    if kind == "reasoning":
        return "reasoning", _text(item.get("summary")) or _text(item.get("content")) or "(not shown by the model)"
    shown = {name: value for name, value in item.items() if name not in ("type", "id", "status", "provider_data")}
    return kind.removesuffix("_call"), _json(shown)


def describe_call(tool: str, arguments: str, *, characters: int = 100) -> str:
    """A tool call as one line: the tool, and what it is given."""
    try:
        given = json.loads(arguments)
    except (ValueError, RecursionError):
        given = arguments
    values = given.values() if isinstance(given, dict) else given if isinstance(given, list) else [given]
    line = " ".join(f"{tool} {', '.join(map(_text, values))}".split())
    return line if len(line) <= characters else f"{line[: characters - 1]}…"


def shorten(text: str, *, lines: int = 8, characters: int = 600) -> str:
    """The text, or its beginning and how much more there is."""
    kept = "\n".join(text[:characters].split("\n")[:lines])
    rest = len(text) - len(kept)
    return f"{kept.rstrip()} … ({rest} more characters)" if rest > 0 and text[len(kept) :].strip() else kept.rstrip()


def _text(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(part for part in map(_part, content) if part)
    return _json(content)


def _part(part: Any) -> str:
    if not isinstance(part, dict):
        return _text(part)
    if isinstance(part.get("text"), str):
        return str(part["text"])
    if isinstance(part.get("refusal"), str):
        return f"(refused) {part['refusal']}"
    kind = str(part.get("type") or "")
    if kind in ("input_image", "input_file", "input_audio", "image", "file"):
        name = part.get("filename") or part.get("file_id") or _attached_name(part)
        return f"[{kind.removeprefix('input_')}{f' {name}' if name else ''}]"
    return _json(part)


def _attached_name(part: dict[str, Any]) -> str:
    reference = Reference.read(part.get("image_url")) or Reference.read(part.get("file_data"))
    return reference.name if reference else ""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
