"""A conversation's items as this server takes them, made in one pass over them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from flameagent.service import sdk_compat
from flameagent.service.models.sending.builtin_tools import as_functions
from flameagent.service.models.sending.parts import (
    call_output,
    has_media,
    model_content,
    user_content,
    without_media,
)
from flameagent.service.models.sending.server import Server
from flameagent.service.models.sending.tool_calls import (
    CALLS,
    OUTPUTS,
    Item,
    arguments_object,
    call_key,
    is_portable,
    places_of_outputs,
    portable_id,
    tool_name,
)

if TYPE_CHECKING:
    from agents.items import TResponseInputItem


@dataclass
class Sendable:
    """The items of a conversation that are sent, and for chat completions what the SDK's messages cannot hold.

    That is fields of `calls` and of the `messages` around them, by the ID of the call or of the first of several, and
    a `placeholder` for fields that each such message must have. `left_out` says which images and files are not sent;
    `asks_with_media` that the newest message of the user has some, `earlier_media` that some are sent of elsewhere.
    """

    items: list[Item]
    calls: dict[str, Item] = field(default_factory=dict)
    messages: dict[str, Item] = field(default_factory=dict)
    placeholder: Item = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    asks_with_media: bool = False
    earlier_media: bool = False

    def extras(self) -> set[str]:
        """Return the names of what goes back with calls and their messages."""
        return {name for fields in (*self.calls.values(), *self.messages.values()) for name in fields}

    def completed(self, messages: list[Any]) -> list[Any]:
        """Return the SDK's messages with what belongs to their calls."""
        if not (self.calls or self.messages or self.placeholder):
            return messages
        return [
            self._completed(message, message["tool_calls"]) if message.get("tool_calls") else message
            for message in messages
        ]

    def _completed(self, message: Item, calls: list[Item]) -> Item:
        whole = [{**self.calls.get(call["id"], {}), **call} for call in calls]
        return {**self.placeholder, **self.messages.get(calls[0]["id"], {}), **message, "tool_calls": whole}


def sendable(
    items: str | list[TResponseInputItem], server: Server, *, encrypted: bool = False, in_the_open: bool = False
) -> Sendable:
    """Return the items of a conversation as this server takes them.

    On the Responses API reasoning goes along where it is `encrypted`, or `in_the_open` as text, as servers of open
    models give it; its mere ID says nothing to anybody.
    """
    given = [{"role": "user", "content": items}] if isinstance(items, str) else cast("list[Item]", items)
    return _Fitting(given, server, encrypted, in_the_open).fit()


class _Fitting:
    """One pass over the items of a conversation."""

    def __init__(self, items: list[Item], server: Server, encrypted: bool, in_the_open: bool) -> None:
        self._server = server
        self._is_chat = server.api == "chat"
        self._encrypted, self._in_the_open = encrypted, in_the_open
        self._items = as_functions(items, is_chat=self._is_chat)
        self._outputs = places_of_outputs(self._items)
        self._used: set[int] = set()  # places of outputs whose call was sent
        self._sent: list[Item] = []
        self._fitted = Sendable(self._sent)
        if self._is_chat and "no reasoning" in server.refused:
            self._fitted.placeholder = {"reasoning_content": " "}  # Moonshot, and DeepSeek where it reasons
        self._ids: set[str] = set()
        # The newest group of calls, which the model made at once: their outputs by place, until they are sent; the
        # first call, which what belongs to all of them goes with; whether it said something behind them; and whether
        # outputs have begun.
        self._due: dict[int, Item] = {}
        self._first: str | None = None
        self._has_said = False
        self._answering = False
        self._loose: list[int] = []  # places of reasoning that was sent and whose item has not come
        self._reasoning_fields: Item = {}  # reasoning that goes into the message of the next calls

    def fit(self) -> Sendable:
        """Return what is sent."""
        for place, item in enumerate(self._items):
            kind = item.get("type", "message")
            if kind in OUTPUTS:
                self._take_output(place)
            elif kind in CALLS:
                self._take_call(place, item)
            elif kind == "message":
                self._take_message(item)
            elif kind == "reasoning":
                self._take_reasoning(item)
            elif self._is_chat or kind not in _fields() or kind in _STORED:
                self._drop_loose()
            else:
                self._send_of_model(_known(item, kind))
        self._end_group()
        self._drop_loose()
        return self._fitted

    def _take_output(self, place: int) -> None:
        if (output := self._due.pop(place, None)) is not None:
            self._answering = True
            self._sent.append(output)
            self._reasoning_fields = {}

    def _take_call(self, place: int, item: Item) -> None:
        places = self._outputs.get((item["type"], call_key(item)), ())
        behind = next((each for each in places if each > place and each not in self._used), None)
        if behind is None:
            self._drop_loose()
            return
        self._used.add(behind)
        if self._answering or self._first is None:
            self._end_group()
        call = self._call(item)
        self._first = self._first or call["call_id"]
        self._send_of_model(call)
        output = self._items[behind]
        answer = {} if self._is_chat else _known(output, output["type"])
        answer |= {"type": output["type"], "call_id": call["call_id"]}
        if output["type"] == "function_call_output":
            given = self._shown(output.get("output"), f"what {call.get('name')} returned", takes=not self._is_chat)
            answer["output"] = call_output(given, is_chat=self._is_chat)
        self._due[behind] = answer

    def _call(self, item: Item) -> Item:
        data = item.get("provider_data")
        made_here = self._server.made(data)
        data = data if isinstance(data, dict) else {}
        call_id = self._id(item.get("call_id"), data, made_here)
        kind = item["type"]
        if self._is_chat:
            call: Item = {"type": kind, "call_id": call_id}
            if "server" not in data and isinstance(item.get("provider_data"), dict):
                call["provider_data"] = data  # the SDK knows what to do with some
        else:
            call = _known(item, kind) | {"call_id": call_id}
        if kind == "function_call":
            call["name"] = tool_name(item.get("name"), made_here)
            call["arguments"] = arguments_object(item.get("arguments"))
        if made_here and "extras" not in self._server.refused and self._is_chat:
            self._give_back(call_id, data)
        return call

    def _give_back(self, call_id: str, data: Item) -> None:
        """Have go along what its server gave with a call, and with the message of the first of several."""
        if isinstance(extras := data.get("call"), dict):
            self._fitted.calls[call_id] = extras
        message = dict(data["message"]) if isinstance(data.get("message"), dict) else {}
        message |= {
            name: "\n".join(texts) if name in _TEXTS else texts for name, texts in self._reasoning_fields.items()
        }
        self._reasoning_fields = {}
        if message:
            known = self._fitted.messages.setdefault(self._first or call_id, {})
            known |= message

    def _id(self, given: Any, data: Item, made_here: bool | None) -> str:
        own = given if isinstance(given, str) else repr(given)
        if made_here and "ids" not in self._server.refused:
            wanted = data.get("call_id")
            wanted = wanted if isinstance(wanted, str) and wanted and wanted not in self._ids else own
        elif made_here is None and "ids" not in self._server.refused and _PLAIN.fullmatch(own):
            wanted = own
        else:
            wanted = own if is_portable(own) else portable_id(own)
        again = 0
        while wanted in self._ids or not wanted:
            again += 1
            wanted = portable_id(f"{own}\n{again}")
        self._ids.add(wanted)
        return wanted

    def _take_message(self, item: Item) -> None:
        role, content = item.get("role"), item.get("content")
        if role in ("user", "system", "developer"):
            self._end_group()
            self._drop_loose()
            self._reasoning_fields = {}
            if has_media(content) and not self._is_newest(item):
                content = self._shown(content, "images and files of earlier questions")
            content = user_content(content, is_chat=self._is_chat, by_system=role != "user")
        elif role == "assistant":
            if self._due and (self._has_said or self._answering or isinstance(content, str)):
                self._end_group()
            self._has_said = True
            content = model_content(content)
        else:
            return
        if content is None:
            self._drop_loose()
            return
        if self._is_chat and role == "assistant" and isinstance(content, list):
            message = sdk_compat.assistant_parts(content)
        elif self._is_chat:
            message = {"role": role, "content": content}
        else:
            message = _known(item, "message") | {"content": content}
        if role == "assistant":
            self._send_of_model(message)
        else:
            self._sent.append(message)

    def _take_reasoning(self, item: Item) -> None:
        data = item.get("provider_data")
        if not self._is_chat:
            sealed = item.get("encrypted_content")
            is_sealed = self._encrypted and isinstance(sealed, str) and bool(sealed)
            kept = is_sealed or (self._in_the_open and _are_texts(item.get("content")))
            if kept and not data:
                self._send_loose(_known(item, "reasoning") | {"summary": item.get("summary") or []})
            return
        if self._answering:
            self._end_group()
        if sdk_compat.has_own_id(item) or (item.get("encrypted_content") and not data):
            return  # of the Responses API
        if self._server.made(data):
            for name, texts in _reasoning_by_field(item, cast("Item", data)).items():
                self._reasoning_fields.setdefault(name, []).extend(texts)
        elif not (isinstance(data, dict) and "server" in data) and _is_readable(item):
            self._send_loose(item)

    def _is_newest(self, message: Item) -> bool:
        """Return whether this message with an image or a file is what the user says now; note it then."""
        newest = next((item for item in reversed(self._items) if item.get("role") == "user"), None)
        self._fitted.asks_with_media = message is newest
        return message is newest

    def _shown(self, parts: Any, what: str, *, takes: bool = True) -> Any:
        """Return parts, without images and files where the server takes none there."""
        if not has_media(parts):
            return parts
        if takes and "media" not in self._server.refused:
            self._fitted.earlier_media = True
            return parts
        if what not in self._fitted.left_out:
            self._fitted.left_out.append(what)
        return without_media(parts)

    def _send_of_model(self, item: Item) -> None:
        self._loose = []
        self._sent.append(item)

    def _send_loose(self, reasoning: Item) -> None:
        self._loose.append(len(self._sent))
        self._sent.append(reasoning)

    def _drop_loose(self) -> None:
        """Leave out reasoning whose item is left out."""
        for place in reversed(self._loose):
            del self._sent[place]
        self._loose = []

    def _end_group(self) -> None:
        """End a group of calls: what is missing of their outputs comes now."""
        for place in sorted(self._due):
            self._sent.append(self._due[place])
        self._due = {}
        self._first, self._has_said, self._answering = None, False, False


_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,40}")
_TEXTS = ("reasoning_content", "reasoning")
_STORED = {"item_reference"}  # says only what a server has stored


def _known(item: Item, kind: str) -> Item:
    """Return an item of the Responses API without what no server knows, or only one that stores."""
    known = _fields()[kind]
    return {name: value for name, value in item.items() if name in known}


@cache
def _fields() -> dict[str, frozenset[str]]:
    """Return the fields that the Responses API knows of each kind of item, but IDs of what a server has stored."""
    found = sdk_compat.fields_of_items()
    return {kind: frozenset(names - ({"id"} - _IDS_NEEDED.get(kind, set()))) for kind, names in found.items()}


_IDS_NEEDED: dict[str, set[str]] = {"mcp_approval_request": {"id"}}  # its approval names it


def _are_texts(parts: Any) -> bool:
    """Return whether it is a list of parts that each have a text."""
    return (
        isinstance(parts, list)
        and bool(parts)
        and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in parts)
    )


def _is_readable(item: Item) -> bool:
    """Return whether the SDK can read this reasoning of older records."""
    return all(isinstance(item.get(name, []), list) for name in ("summary", "content")) and isinstance(
        item.get("provider_data", {}), dict
    )


def _reasoning_by_field(item: Item, data: Item) -> dict[str, list[Any]]:
    """Return reasoning in the fields that it came in."""
    found: dict[str, list[Any]] = {}
    if isinstance(blocks := data.get("thinking_blocks"), list) and blocks:
        found["thinking_blocks"] = blocks
    name = sdk_compat.reasoning_field(data)
    parts = "content" if name == "reasoning" else "summary"
    listed = item.get(parts) if isinstance(item.get(parts), list) else []
    texts = [part["text"] for part in listed or [] if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return found | ({name: texts} if texts else {})
