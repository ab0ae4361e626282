"""The parts of messages and of outputs of calls, texts, images and files, as this server takes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flameagent.service.models.sending.tool_calls import Item, json_text

# Parts that are sent as they are, and the field that has to be there.
_OF_USERS_ON_CHAT = {"input_text": "text", "input_image": "image_url", "input_audio": "input_audio"}
_OF_USERS = {"input_text": "text"}  # on the Responses API; files and images are looked at more closely
_OF_MODELS = {"output_text": "text", "refusal": "refusal"}


def user_content(content: Any, *, is_chat: bool) -> str | list[Item] | None:
    """Return what a message to the model says; None where it says nothing. What cannot be sent is named in a text."""
    return _content(content, _OF_USERS_ON_CHAT if is_chat else _OF_USERS, "input_text")


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
        return user_content(output, is_chat=is_chat)
    return json_text(output)


def _content(content: Any, known: dict[str, str], text: str) -> str | list[Item] | None:
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


def _is_known(part: Item, known: dict[str, str]) -> bool:
    kind = part.get("type")
    if not isinstance(kind, str):
        return False
    if kind in known:
        return isinstance(part.get(known[kind]), dict if known[kind] == "input_audio" else str)
    if "output_text" in known:
        return False
    if kind == "input_file":
        return (
            isinstance(part.get("file_data"), str)
            or isinstance(part.get("file_id"), str)
            or ("input_image" not in known and isinstance(part.get("file_url"), str))
        )
    return (
        kind == "input_image"
        and "input_image" not in known
        and isinstance(part.get("image_url") or part.get("file_id"), str)
    )


def _part(part: Any, known: dict[str, str], text: str) -> Iterator[Item]:
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
    elif part.get("type") == "image_url" and text == "input_text":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        yield {"type": "input_image", "image_url": url} if isinstance(url, str) else _left_out(part, text)
    else:
        yield _left_out(part, text)


def _left_out(part: Item, text: str) -> Item:
    name = part.get("filename") or part.get("file_url") or part.get("type")
    return {"type": text, "text": f"[{name} was left out: it cannot be sent to this model]"}
