"""The input of a response: messages with images and files, what was said before, and decisions on calls.

Promises that every item is checked before anything is done, and that nothing is fetched from elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import json
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flameagent.client.attachments import Attachment
from flameagent.conversation import Item
from flameagent.server.errors import RequestError

_DATA = re.compile(r"data:([^;,]*)(?:;[^;,]*)*;base64,", re.IGNORECASE)
_ROLES = ("user", "assistant", "system", "developer")
_PASSED_OVER = ("reasoning", "mcp_list_tools", "mcp_approval_request")
_LONGEST_BEGINNING = 20_000_000  # characters of what a session begins with, which every turn reads
_MOST = 10_000


@dataclass(frozen=True)
class Said:
    """A message of a user: its text, and what is attached."""

    text: str
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """A decision on one call that waits, by the ID of the question for it."""

    request_id: str
    approve: bool
    reason: str = ""


@dataclass
class Input:
    """What a request brings: items that were said before, and then a question, or verdicts and results of calls.

    `results` are what tools of the client said, by the ID of a call that is not among the items. `asked` are the
    user's messages at the end: the last is the question; `before` has the items of all but that one.
    """

    before: list[Item] = field(default_factory=list)
    asked: list[Said] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    results: dict[str, str] = field(default_factory=dict)
    only_users: bool = True

    @property
    def decides(self) -> bool:
        """True where the turn that waits is to go on."""
        return bool(self.verdicts or self.results)


def read(given: str | list[dict[str, Any]] | None) -> Input:
    """The input of a request. Raises `RequestError`."""
    if given is None or given == []:
        raise _wrong("A response needs an input.", "input")
    if isinstance(given, str):
        return Input(asked=[_not_empty(Said(given), "input")])
    if len(given) > _MOST:
        raise _wrong(f"The input has more than {_MOST} items.", "input")
    found, called = Input(), set[str]()
    last: Item | None = None
    for number, item in enumerate(given):
        at = f"input[{number}]"
        if item.get("type") == "mcp_approval_response":
            found.verdicts.append(_verdict(item, at))
            continue
        if item.get("type") == "function_call_output" and str(item.get("call_id")) not in called:
            call_id = _text(item, "call_id", at)
            if call_id in found.results:
                raise _wrong("There are two results of one call.", f"{at}.call_id")
            found.results[call_id] = _output(item, at)
            continue
        said = _said(item, at)
        if last is not None:
            found.before.append(last)
            last = None
        if said is not None:
            found.asked.append(_not_empty(said, at))
            last = {"role": "user", "content": _content(item, at)}
        elif earlier := _items(item, at):
            found.before += earlier
            called.update(each["call_id"] for each in earlier if "call_id" in each)
            found.asked, found.only_users = [], False
    if found.decides and (found.asked or found.before):
        raise _wrong("Decisions on calls and their results come alone: ask when they are carried out.", "input")
    if last is None and not found.decides:
        raise _wrong("The input ends with a message of the user, which is the question.", "input")
    return found


def items(given: list[dict[str, Any]], name: str = "items") -> list[Item]:
    """Items of a conversation as the Agents SDK has them. Raises `RequestError`."""
    found = [each for number, item in enumerate(given) for each in _items(item, f"{name}[{number}]")]
    return _bounded(found, name)


def beginning(found: Input) -> list[Item]:
    """The items that a new session begins with. Raises `RequestError`."""
    return _bounded(found.before, "input")


def together(found: Input) -> Said:
    """All messages of the user as one question, for a conversation that goes on. Raises `RequestError`."""
    if not found.only_users:
        raise _wrong(
            "A conversation that goes on takes messages of the user alone: what was said before is in it already.",
            "input",
        )
    text = "\n\n".join(each.text for each in found.asked)
    return Said(text, tuple(one for each in found.asked for one in each.attachments))


def _bounded(found: list[Item], name: str) -> list[Item]:
    if found and len(json.dumps(found)) > _LONGEST_BEGINNING:
        raise _wrong(f"What was said before is longer than {_LONGEST_BEGINNING // 1_000_000} MB.", name)
    return found


def _verdict(item: Mapping[str, Any], at: str) -> Verdict:
    named, approve, reason = item.get("approval_request_id"), item.get("approve"), item.get("reason") or ""
    if not isinstance(named, str):
        raise _wrong("It names the mcp_approval_request that it answers.", f"{at}.approval_request_id")
    if not isinstance(approve, bool):
        raise _wrong("It is true or false.", f"{at}.approve")
    if not isinstance(reason, str):
        raise _wrong("A reason is a text.", f"{at}.reason")
    return Verdict(named, approve, reason)


def _said(item: Mapping[str, Any], at: str) -> Said | None:
    """A message of the user; None for anything else."""
    if item.get("type", "message") != "message" or item.get("role") != "user":
        return None
    texts, attachments = [], list[Attachment]()
    for number, part in enumerate(_parts(item, at)):
        place = f"{at}.content[{number}]"
        match part.get("type"):
            case "input_text" | "text":
                texts.append(_text(part, "text", place))
            case "input_image":
                data, media_type = _data(part, "image_url", place)
                ending = mimetypes.guess_extension(media_type) or ""
                attachments.append(Attachment(f"image-{len(attachments) + 1}{ending}", data))
            case "input_file":
                data, media_type = _data(part, "file_data", place)
                name = part.get("filename") or f"file-{len(attachments) + 1}"
                if not isinstance(name, str):
                    raise _wrong("A file's name is a text.", f"{place}.filename")
                attachments.append(Attachment(name, data))
            case kind:
                raise _wrong(f"A message of the user has no part {kind!r:.40}.", f"{place}.type")
    text = "\n".join(texts)
    if attachments and not text.strip():
        text = ", ".join(each.name for each in attachments)
    return Said(text, tuple(attachments))


def _not_empty(said: Said, at: str) -> Said:
    if not said.text.strip():
        raise _wrong("A message is empty.", at)
    return said


def _items(item: Mapping[str, Any], at: str) -> list[Item]:
    """What was said or done before, as items of the Agents SDK; none for what is of another server alone."""
    kind = item.get("type", "message")
    match kind:
        case "message":
            if item.get("role") not in _ROLES:
                raise _wrong(f"A role is one of {', '.join(_ROLES)}.", f"{at}.role")
            if item.get("role") == "user":
                _said(item, at)  # as for a question: nothing is fetched from elsewhere
            return [{"role": item["role"], "content": _content(item, at)}]
        case "function_call":
            names = ("call_id", "name", "arguments")
            return [{"type": kind, **{name: _text(item, name, at) for name in names}}]
        case "function_call_output":
            return [{"type": kind, "call_id": _text(item, "call_id", at), "output": _output(item, at)}]
        case "mcp_call":
            call_id = _text(item, "id", at)[-40:]
            called = {name: _text(item, name, at) for name in ("name", "arguments")}
            output = item.get("output")
            return [
                {"type": "function_call", "call_id": call_id, **called},
                {"type": "function_call_output", "call_id": call_id, "output": output if output else ""},
            ]
    if kind in _PASSED_OVER:
        return []
    raise _wrong(f"An item {kind!r:.60} has no counterpart here.", f"{at}.type")


def _output(item: Mapping[str, Any], at: str) -> str:
    """What a tool said: a text, or a list of them."""
    output = item.get("output")
    if isinstance(output, str):
        return output
    if not isinstance(output, list) or not all(isinstance(part, dict) for part in output):
        raise _wrong("The output of a call is a text, or a list of texts.", f"{at}.output")
    return "\n".join(_text(part, "text", f"{at}.output") for part in output)


def _content(item: Mapping[str, Any], at: str) -> str | list[Item]:
    """The content of a message without what is of another server alone."""
    if isinstance(item.get("content"), str):
        return str(item["content"])
    found: list[Item] = []
    for number, part in enumerate(_parts(item, at)):
        place = f"{at}.content[{number}]"
        match part.get("type"):
            case "input_text" | "output_text" | "text":
                kind = "output_text" if item.get("role") == "assistant" else "input_text"
                found.append({"type": kind, "text": _text(part, "text", place)})
            case "refusal":
                found.append({"type": "refusal", "refusal": _text(part, "refusal", place)})
            case "input_image":
                found.append({"type": "input_image", "image_url": _text(part, "image_url", place), "detail": "auto"})
            case "input_file":
                data = _text(part, "file_data", place)
                found.append({"type": "input_file", "filename": part.get("filename") or "file", "file_data": data})
            case kind:
                raise _wrong(f"A message has no part {kind!r:.40}.", f"{place}.type")
    return found


def _parts(item: Mapping[str, Any], at: str) -> list[dict[str, Any]]:
    content = item.get("content")
    if isinstance(content, str):
        return [{"type": "input_text", "text": content}]
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise _wrong("The content of a message is a text or a list of parts.", f"{at}.content")
    return content


def _text(part: Mapping[str, Any], name: str, at: str) -> str:
    if not isinstance(text := part.get(name), str):
        raise _wrong("It is a text.", f"{at}.{name}")
    return text


def _data(part: Mapping[str, Any], name: str, at: str) -> tuple[bytes, str]:
    """The bytes of an image or a file, and its media type, where it says one. Raises `RequestError`."""
    for other in ("file_id", "file_url"):
        if part.get(other) is not None:
            raise _wrong("Files come with the message, as data: nothing is fetched from elsewhere.", f"{at}.{other}")
    url = _text(part, name, at)
    found = _DATA.match(url)
    if found is None and (name == "image_url" or ":" in url[:100]):
        raise _wrong("It is a data URL in base64: nothing is fetched from elsewhere.", f"{at}.{name}")
    try:
        data = base64.b64decode(url[found.end() :] if found else url, validate=True)
    except (ValueError, binascii.Error):
        raise _wrong("Its data are not in base64.", f"{at}.{name}") from None
    return data, (found[1] if found else "")


def _wrong(message: str, param: str) -> RequestError:
    return RequestError(400, message, code="invalid_value", param=param)
