"""The parts of messages and of outputs of calls, texts, images and files, as this server takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from flameagent.service.models.sending.tool_calls import Item, json_text

Known: TypeAlias = Mapping[str, tuple[str, ...]]

# The parts that are sent as they are, each with the fields of which one has to be there.
_OF_USERS: Known = {
    "input_text": ("text",),
    "input_image": ("image_url", "file_id"),
    "input_file": ("file_data", "file_id", "file_url"),
}
_OF_USERS_ON_CHAT: Known = {
    "input_text": ("text",),
    "input_image": ("image_url",),
    "input_audio": ("input_audio",),
    "input_file": ("file_data", "file_id"),
}
_OF_TOOLS_ON_CHAT: Known = {"input_text": ("text",)}
_OF_SYSTEMS_ON_CHAT: Known = {"input_text": ("text",)}
_OF_MODELS: Known = {"output_text": ("text",), "refusal": ("refusal",)}


def user_content(content: Any, *, is_chat: bool, by_system: bool = False) -> str | list[Item] | None:
    """Return what a message to the model says; None where it says nothing. What cannot be sent is named in a text."""
    on_chat = _OF_SYSTEMS_ON_CHAT if by_system else _OF_USERS_ON_CHAT
    return _content(content, on_chat if is_chat else _OF_USERS, "input_text")


def model_content(content: Any) -> str | list[Item] | None:
    """Return what a message of the model says; None where it says nothing."""
    return _content(content, _OF_MODELS, "output_text")


def call_output(output: Any, *, is_chat: bool) -> Any:
    """Return the output of a call: a text, or parts."""
    if isinstance(output, str):
        return output
    if output is None:
        return ""
    if isinstance(output, list) and output and all(isinstance(part, dict) and "type" in part for part in output):
        return _content(output, _OF_TOOLS_ON_CHAT if is_chat else _OF_USERS, "input_text")
    return json_text(output)


def has_media(content: Any) -> bool:
    """Return whether there is an image or a file among the parts of a message or of an output."""
    return isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") in ("input_image", "input_file", "image_url") for part in content
    )


def without_media(content: list[Any]) -> list[Any]:
    """Return the parts with a text in the place of each image and file."""
    return [_left_out(part, "input_text") if has_media([part]) else part for part in content]


def _content(content: Any, known: Known, text: str) -> str | list[Item] | None:
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        return None
    for part in content:
        if not (isinstance(part, dict) and _is_known(part, known)):
            content = [other for part in content for other in _part(part, known, text)]
            break
    return content or None


def _is_known(part: Item, known: Known) -> bool:
    kind = part.get("type")
    return isinstance(kind, str) and any(_has(part, field) for field in known.get(kind, ()))


def _has(part: Item, field: str) -> bool:
    value = part.get(field)
    if field == "input_audio":
        return isinstance(value, dict)
    return isinstance(value, str) and (value != "" or field in ("text", "refusal"))


def _part(part: Any, known: Known, text: str) -> Iterator[Item]:
    """Yield a part in a form that can be sent."""
    if isinstance(part, str):
        yield {"type": text, "text": part}
    elif not isinstance(part, dict):
        yield {"type": text, "text": json_text(part)}
    elif _is_known(part, known):
        yield part
    elif isinstance(part.get("text"), str):
        yield {"type": text, "text": part["text"]}
    elif isinstance(part.get("refusal"), str):
        yield {"type": text, "text": part["refusal"]}
    else:
        image = part.get("image_url") if part.get("type") == "image_url" else None
        url = image.get("url") if isinstance(image, dict) else image
        shown = {"type": "input_image", "image_url": url}
        yield shown if _is_known(shown, known) else _left_out(part, text)


def _left_out(part: Item, text: str) -> Item:
    name = part.get("filename") or part.get("file_url") or part.get("type")
    return {"type": text, "text": f"[{name} was left out: it cannot be sent to this model]"}
