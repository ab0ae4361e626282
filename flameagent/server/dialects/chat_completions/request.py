"""A request for a chat completion, read: which chat it is of, and what was said in it.

Promises a sentence that names the field for whatever cannot be served; what only tunes a model is passed over, since
the agent has its own settings.
"""

from __future__ import annotations

import base64
import binascii
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flameagent.client.attachments import Attachment
from flameagent.server.errors import RequestError

CHAT_HEADERS = ("x-chat-id", "x-openwebui-chat-id", "x-librechat-conversation-id", "x-conversation-id")
"""Headers that name a chat; what Open WebUI sends by itself, and what one configures for it and for LibreChat."""
MESSAGE_HEADERS = ("x-message-id", "x-openwebui-message-id", "x-librechat-message-id")
"""Headers that name the answer that a request is for: another one for the same question asks that once more."""
TASK_HEADERS = ("x-task", "x-openwebui-task")
"""Headers that say that a request is about a chat and no part of it: a title, tags."""
TASK = "### Task:"
"""How the prompts begin with which Open WebUI asks for titles and the like, and puts documents before a question."""

_LONGEST_ID = 500
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*;base64,", re.ASCII)
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_NO_TEXT = "(see the attachment)"


@dataclass
class Exchange:
    """What the user said, until it was answered, and the answer; "" where there is none yet, or none came."""

    text: str
    attachments: list[Attachment] = field(default_factory=list)
    answer: str = ""


@dataclass(frozen=True)
class Asked:
    """A request. `chat` is the program's ID of the chat, `message` that of the answer; "" where it has none.

    `before` is what the agent said before anybody asked; the last of the `exchanges` is to be answered.
    """

    model: str
    prompt: str
    before: str
    exchanges: list[Exchange]
    stream: bool
    with_usage: bool
    chat: str
    message: str
    task: str

    @property
    def texts(self) -> list[str]:
        """What the user said, oldest first."""
        return [each.text for each in self.exchanges]

    @property
    def history(self) -> list[dict[str, Any]]:
        """What was said before the last text, as items of a conversation."""
        said = [("assistant", self.before)]
        for each in self.exchanges[:-1]:
            said += [("user", each.text), ("assistant", each.answer)]
        return [{"role": role, "content": text} for role, text in said if text]


def read(body: Mapping[str, Any], headers: Mapping[str, str]) -> Asked:
    """The request with that body. Raises `RequestError`."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise _wrong("model", "is the name of an agent; /v1/models lists them")
    _refuse_what_is_not_served(body)
    stream, options = body.get("stream") or False, body.get("stream_options") or {}
    if not isinstance(stream, bool):
        raise _wrong("stream", "is true or false")
    if not isinstance(options, dict):
        raise _wrong("stream_options", "is an object")
    prompt, before, exchanges = _said(body.get("messages"))
    metadata = body.get("metadata")
    named = metadata.get("chat_id") if isinstance(metadata, dict) else None
    chat = _header(headers, CHAT_HEADERS) or (named if isinstance(named, str) else "")
    if len(chat) > _LONGEST_ID:
        raise _wrong("metadata.chat_id", f"has more than {_LONGEST_ID} characters")
    message, task = _header(headers, MESSAGE_HEADERS), _header(headers, TASK_HEADERS)
    with_usage = options.get("include_usage") is True
    return Asked(model, prompt, before, exchanges, stream, with_usage, chat, message, task)


def _refuse_what_is_not_served(body: Mapping[str, Any]) -> None:
    if body.get("tools") and body.get("tool_choice") != "none":
        raise _wrong("tools", "are not taken: the agent has its own tools, and the server runs them")
    if body.get("functions"):
        raise _wrong("functions", "are not taken: the agent has its own tools, and the server runs them")
    if body.get("n") not in (None, 1):
        raise _wrong("n", "is 1: a question has one answer")
    modalities = body.get("modalities") or []
    if body.get("audio") is not None or not isinstance(modalities, list) or "audio" in modalities:
        raise _wrong("modalities", "is a list without audio")
    wanted = body.get("response_format")
    if wanted is not None and not (isinstance(wanted, dict) and wanted.get("type") == "text"):
        raise _wrong("response_format", "is text: the form of an answer is the agent's own")


def _said(messages: Any) -> tuple[str, str, list[Exchange]]:
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages", "is a list with one message at least")
    prompts: list[str] = []
    before = ""
    exchanges: list[Exchange] = []
    role = ""
    for number, message in enumerate(messages):
        param = f"messages[{number}]"
        role = str(message.get("role")) if isinstance(message, dict) else ""
        if role not in _ROLES:
            raise _wrong(f"{param}.role", f"is one of {', '.join(_ROLES)}")
        attachments: list[Attachment] = []
        is_user = role == "user"
        text = _content(message.get("content"), f"{param}.content", attachments if is_user else None)
        if is_user:
            text = text if text.strip() else (_NO_TEXT if attachments else "")
            if not text:
                raise _wrong(f"{param}.content", "is empty")
            if exchanges and not exchanges[-1].answer:  # what was asked before was not answered
                exchanges[-1].text += f"\n\n{text}"
                exchanges[-1].attachments += attachments
            else:
                exchanges.append(Exchange(text, attachments))
        elif role == "assistant" and text.strip():
            if exchanges:
                exchanges[-1].answer = f"{exchanges[-1].answer}\n\n{text}".strip()
            else:
                before = f"{before}\n\n{text}".strip()
        elif role in ("system", "developer"):
            prompts.append(text)
    if not exchanges or role != "user":
        raise _wrong("messages", "ends with a message of the user, which is to be answered")
    return "\n\n".join(prompts), before, exchanges


def _content(content: Any, param: str, attachments: list[Attachment] | None) -> str:
    """The text of a message; what is attached to it goes to the list, where there is one."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise _wrong(param, "is a text or a list of parts")
    texts = []
    for number, part in enumerate(content):
        here = f"{param}[{number}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("text", "refusal"):
            text = part.get(kind)
            if not isinstance(text, str):
                raise _wrong(f"{here}.{kind}", "is a text")
            texts.append(text)
        elif kind in ("image_url", "file"):
            if attachments is not None:
                attachments.append(_attached(part.get(kind), kind, f"{here}.{kind}", len(attachments) + 1))
        else:
            raise _wrong(f"{here}.type", "is text, image_url or file")
    return "\n".join(texts)


def _attached(value: Any, kind: str, param: str, number: int) -> Attachment:
    if kind == "image_url":
        url = value.get("url") if isinstance(value, dict) else value
    else:
        url = value.get("file_data") if isinstance(value, dict) else None
    found = _DATA_URL.match(url) if isinstance(url, str) else None
    if not isinstance(url, str) or not found:
        raise _wrong(param, "is given with its data, as a URL that begins with data: and has base64")
    try:
        data = base64.b64decode(url[found.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise _wrong(param, "is no base64") from None
    name = value.get("filename") if isinstance(value, dict) else None
    if isinstance(name, str) and name.strip():
        return Attachment(name[:200], data)
    ending = mimetypes.guess_extension(found.group(1) or "") or ""
    return Attachment(f"{'image' if kind == 'image_url' else 'file'}-{number}{ending}", data)


def _header(headers: Mapping[str, str], names: tuple[str, ...]) -> str:
    for name in names:
        value = headers.get(name, "").strip()
        if len(value) > _LONGEST_ID:
            raise RequestError(400, f"The header {name} has more than {_LONGEST_ID} characters.", param=name)
        if value and "{{" not in value:  # a placeholder that the program had nothing for
            return value
    return ""


def _wrong(param: str, what: str) -> RequestError:
    return RequestError(400, f"`{param}` {what}.", param=param)
