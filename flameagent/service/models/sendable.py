"""The one last step before a request: a conversation's items as this server takes them.

The conversation keeps what came, as it came. What is sent is made of it here, for both APIs, by these rules:

- A call and its output go together, the output right behind: what has lost its other half is left out.
- A call's arguments are a JSON object; any other text goes as `{"raw_arguments": text}`.
- What a server gave with its calls (IDs, signatures, reasoning) goes back to that server as it came, and to no other.
  Another gets IDs of nine letters and digits, made of the original: the one form that all take, always the same.
- No ID refers to what a server has stored. Tools that a server ran itself, and on chat completions all that only the
  Responses API knows, become calls with outputs, or are left out where their output is not known.
- A server that refuses what this leaves gets less of it (`Server.learn`).

Nothing that is given is changed. What is given may be anything: imports and programs write items too.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, cast, get_args
from urllib.parse import urlsplit

import msgspec
from agents.models.fake_id import FAKE_RESPONSES_ID
from openai.types.responses.response_input_item_param import ResponseInputItemParam

from flameagent.text import all_well_formed

if TYPE_CHECKING:
    from agents.items import TResponseInputItem

    from flameagent.service.models.reading.answer import WantedBack

Item = dict[str, Any]
Api = Literal["chat", "responses"]


@dataclass
class Server:
    """Who gets a request, and what it has refused before.

    `url` is the base URL without what may be a key. `refused`: "ids", those of others that are not nine letters and
    digits; "extras", what it sent with its calls; "no reasoning", calls that others made without any.
    """

    url: str
    model: str
    api: Api
    refused: set[str] = field(default_factory=set)

    def made(self, data: Any) -> bool | None:
        """Whether the item with this `provider_data` is of this server; None: nobody knows.

        Older records name the model alone.
        """
        if not isinstance(data, dict):
            return None
        if "server" in data:
            return bool(data["server"] == self.url)
        return True if data.get("model") == self.model else None

    def learn(self, said: str, sent: Sendable) -> bool:
        """Take from what a server said of a bad request what it refuses; whether there is something new to try."""
        if _ABOUT_REASONING.search(said) and _IS_MISSING.search(said):
            found = "no reasoning"
        elif _ABOUT_IDS.search(said):
            found = "ids"
        elif any(name in said for name in sent.extras()):
            found = "extras"
        else:
            return False
        is_new = found not in self.refused
        self.refused.add(found)
        return is_new


_ABOUT_REASONING = re.compile(r"reasoning_content")
_IS_MISSING = re.compile(r"(?i)missing|must be|passed back|required")
_ABOUT_IDS = re.compile(r"(?i)call[ _]?id|tool[ _]?use[._]?id|toolUseId")


def server_of(base_url: object, model: str, api: Api) -> Server:
    """The server at a base URL."""
    url = urlsplit(str(base_url))
    return Server(f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path.rstrip('/')}", model, api)


@dataclass
class Sendable:
    """What is sent of a conversation: `items`, and for chat completions what the SDK's messages cannot hold."""

    items: list[Item]
    _calls: dict[str, Item] = field(default_factory=dict)
    _messages: dict[str, Item] = field(default_factory=dict)
    _placeholder: Item = field(default_factory=dict)

    def extras(self) -> set[str]:
        """The names of what goes back with calls and their messages."""
        return {name for fields in (*self._calls.values(), *self._messages.values()) for name in fields}

    def completed(self, messages: list[Any]) -> list[Any]:
        """The SDK's messages with what belongs to their calls."""
        if not (self._calls or self._messages or self._placeholder):
            return messages
        return [
            self._completed(message, message["tool_calls"]) if message.get("tool_calls") else message
            for message in messages
        ]

    def _completed(self, message: Item, calls: list[Item]) -> Item:
        whole = [{**self._calls.get(call["id"], {}), **call} for call in calls]
        return {**self._placeholder, **self._messages.get(calls[0]["id"], {}), **message, "tool_calls": whole}


def sendable(
    items: str | list[TResponseInputItem], server: Server, *, encrypted: bool = False, in_the_open: bool = False
) -> Sendable:
    """The items of a conversation as this server takes them.

    On the Responses API reasoning goes along where it is `encrypted`, or `in_the_open` as text, as servers of open
    models give it; its mere ID says nothing to anybody.
    """
    given = [{"role": "user", "content": items}] if isinstance(items, str) else cast("list[Item]", items)
    return _Fitting(given, server, encrypted, in_the_open).fitted


class _Fitting:
    """One pass over the items of a conversation."""

    def __init__(self, items: list[Item], server: Server, encrypted: bool, in_the_open: bool) -> None:
        self._server = server
        self._is_chat = server.api == "chat"
        self._encrypted, self._in_the_open = encrypted, in_the_open
        if not all(type(item) is dict and item.get("type", "message") in _USUAL for item in items):
            approvals = _approvals(items)
            items = [other for item in items if isinstance(item, dict) for other in self._plain(item, approvals)]
        self._out: list[Item] = []
        self.fitted = Sendable(self._out)
        if self._is_chat and "no reasoning" in server.refused:
            self.fitted._placeholder = {"reasoning_content": " "}  # Moonshot, and DeepSeek where it reasons
        self._ids: set[str] = set()
        self._open: dict[int, Item] = {}  # outputs of the newest calls, by their place
        self._first: str | None = None  # the newest calls' first one, which what belongs to all of them goes with
        self._has_said = False  # the model said something behind its calls
        self._answering = False  # outputs have begun
        self._thoughts: list[int] = []  # places of reasoning whose item has not come
        self._thought: Item = {}
        answers = _answers(items)
        emitted: set[int] = set()
        for at, item in enumerate(items):
            kind = item.get("type", "message")
            if kind in _OUTPUTS:
                output = self._open.pop(at, None)
                if output is not None:
                    self._answering = True
                    self._out.append(output)
                    self._end_thought()
            elif kind in _CALLS:
                places = answers.get((kind, _key(item)), ())
                place = next((place for place in places if place > at and place not in emitted), None)
                if place is None:
                    self._drop_thoughts()
                    continue
                emitted.add(place)
                self._call(item, place, items[place])
            elif kind == "message":
                self._message(item)
            elif kind == "reasoning":
                self._reasoning(item)
            elif self._is_chat or kind not in _fields() or kind in _STORED:
                self._drop_thoughts()
            else:
                self._model_made(self._known(item, kind))
        self._close()
        self._drop_thoughts()

    def _plain(self, item: Item, approvals: dict[str, Item | None]) -> Iterator[Item]:
        """An item, or the call and the output that say the same to any server."""
        kind = item.get("type")
        if not isinstance(kind, str):
            yield item if kind is None and "role" in item else {**item, "type": "?"}
        elif kind in ("mcp_approval_request", "mcp_approval_response"):
            request = item.get("id" if kind.endswith("request") else "approval_request_id")
            response = approvals.get(repr(request))
            if response is _GOES_ON and not self._is_chat:
                yield item  # its ID is what the approval names, and the server needs both to run the call
            elif kind.endswith("request") and response is not _HAS_RUN:
                yield from _pair(item, item.get("name"), item.get("arguments"), _refusal(response))
        elif kind in _HOSTED:
            name, arguments, output = _HOSTED[kind](item)
            if output is None:  # the model's answer holds the gist
                yield {"type": "?"}
            else:
                yield from _pair(item, name, arguments, output)
        elif self._is_chat and kind in _NATIVE:
            name, arguments = _NATIVE[kind](item)
            call = {"type": "function_call", "call_id": item.get("call_id"), "name": name, "arguments": arguments}
            yield call | {"provider_data": item.get("provider_data")}
        elif self._is_chat and kind in _NATIVE_OUTPUTS:
            call_id = item.get("call_id") or item.get("id")
            yield {"type": "function_call_output", "call_id": call_id, "output": _parts_of_output(item.get("output"))}
        else:
            yield item

    def _call(self, item: Item, place: int, output: Item) -> None:
        if self._answering or self._first is None:
            self._close()
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
            call = self._known(item, kind) | {"call_id": call_id}
        if kind == "function_call":
            call["name"] = _name(item.get("name"), made_here)
            call["arguments"] = _arguments(item.get("arguments"))
        if made_here and "extras" not in self._server.refused and self._is_chat:
            self._belongs(call_id, data)
        self._first = self._first or call_id
        self._model_made(call)
        answer = {} if self._is_chat else self._known(output, output["type"])
        answer |= {"type": output["type"], "call_id": call_id}
        if output["type"] == "function_call_output":
            answer["output"] = _output(output.get("output"), self._is_chat)
        self._open[place] = answer

    def _belongs(self, call_id: str, data: Item) -> None:
        """Note what goes with a call, and with the message of the first of several."""
        if isinstance(extras := data.get("call"), dict):
            self.fitted._calls[call_id] = extras
        message = dict(data["message"]) if isinstance(data.get("message"), dict) else {}
        message |= {name: "\n".join(texts) if name in _TEXTS else texts for name, texts in self._thought.items()}
        self._thought = {}
        if message:
            known = self.fitted._messages.setdefault(self._first or call_id, {})
            known |= message

    def _message(self, item: Item) -> None:
        role, content = item.get("role"), item.get("content")
        if role in ("user", "system", "developer"):
            self._close()
            self._drop_thoughts()
            self._end_thought()
            content = _content(content, _SAID_TO if self._is_chat else _SAID_TO_RESPONSES, "input_text")
        elif role == "assistant":
            if self._open and (self._has_said or self._answering or isinstance(content, str)):
                self._close()
            self._has_said = True
            content = _content(content, _SAID_BY, "output_text")
        else:
            return
        if content is None:
            self._drop_thoughts()
            return
        if self._is_chat and role == "assistant" and isinstance(content, list):
            # The one shape in which the SDK takes parts of an assistant.
            fitted = {"id": FAKE_RESPONSES_ID, "type": "message", "role": role, "content": content}
        elif self._is_chat:
            fitted = {"role": role, "content": content}
        else:
            fitted = self._known(item, "message") | {"content": content}
        if role == "assistant":
            self._model_made(fitted)
        else:
            self._out.append(fitted)

    def _reasoning(self, item: Item) -> None:
        data = item.get("provider_data")
        if not self._is_chat:
            sealed = item.get("encrypted_content")
            is_sealed = self._encrypted and isinstance(sealed, str) and bool(sealed)
            kept = is_sealed or (self._in_the_open and _are_texts(item.get("content")))
            if kept and not data:
                self._thoughts.append(len(self._out))
                self._out.append(self._known(item, "reasoning") | {"summary": item.get("summary") or []})
            return
        if self._answering:
            self._close()
        if item.get("id") not in (None, FAKE_RESPONSES_ID) or (item.get("encrypted_content") and not data):
            return  # of the Responses API
        if self._server.made(data):
            for name, thought in _thoughts(item, cast("Item", data)).items():
                self._thought.setdefault(name, []).extend(thought)
        elif not (isinstance(data, dict) and "server" in data) and _is_readable(item):
            self._thoughts.append(len(self._out))
            self._out.append(item)

    def _model_made(self, item: Item) -> None:
        self._thoughts = []
        self._out.append(item)

    def _drop_thoughts(self) -> None:
        """Leave out reasoning whose item is left out."""
        for place in reversed(self._thoughts):
            del self._out[place]
        self._thoughts = []

    def _end_thought(self) -> None:
        self._thought = {}

    def _close(self) -> None:
        """End a group of calls: what is missing of their outputs comes now."""
        for place in sorted(self._open):
            self._out.append(self._open[place])
        self._open = {}
        self._first, self._has_said, self._answering = None, False, False

    def _id(self, given: Any, data: Item, made_here: bool | None) -> str:
        own = given if isinstance(given, str) else repr(given)
        if made_here and "ids" not in self._server.refused:
            wanted = data.get("call_id")
            wanted = wanted if isinstance(wanted, str) and wanted and wanted not in self._ids else own
        elif made_here is None and "ids" not in self._server.refused and _PLAIN.fullmatch(own):
            wanted = own
        else:
            wanted = own if _NINE.fullmatch(own) else nine(own)
        again = 0
        while wanted in self._ids or not wanted:
            again += 1
            wanted = nine(f"{own}\n{again}")
        self._ids.add(wanted)
        return wanted

    def _known(self, item: Item, kind: str) -> Item:
        """An item of the Responses API without what no server knows, or only one that stores."""
        known = _fields()[kind]
        return {name: value for name, value in item.items() if name in known}


_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,40}")
_NINE = re.compile(r"[A-Za-z0-9]{9}")
_ALPHABET = string.ascii_letters + string.digits
_TEXTS = ("reasoning_content", "reasoning")


@lru_cache(maxsize=4096)
def nine(call_id: str) -> str:
    """Nine letters and digits for an ID: the one form that Mistral takes, and all others too."""
    number = int.from_bytes(sha256(call_id.encode(errors="surrogatepass")).digest()[:8], "big")
    return "".join(_ALPHABET[number // len(_ALPHABET) ** place % len(_ALPHABET)] for place in range(9))


_CALLS = {
    "function_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
    "computer_call": "computer_call_output",
    "local_shell_call": "local_shell_call_output",
    "shell_call": "shell_call_output",
    "apply_patch_call": "apply_patch_call_output",
}
_OUTPUTS = {output: call for call, output in _CALLS.items()}
_USUAL = ("message", "function_call", "function_call_output", "reasoning")
_STORED = {"item_reference"}  # says only what a server has stored


def _key(item: Item) -> str:
    call_id = item.get("call_id")
    if isinstance(call_id, str):
        return call_id
    return str(item.get("id")) if item.get("type") == "local_shell_call_output" else f"{call_id!r}, which is no text"


def _answers(items: list[Item]) -> dict[tuple[str, str], list[int]]:
    """Where the outputs are, by the kind and the ID of their calls."""
    answers: dict[tuple[str, str], list[int]] = {}
    for at, item in enumerate(items):
        kind = item.get("type")
        if isinstance(kind, str) and kind in _OUTPUTS:
            answers.setdefault((_OUTPUTS[kind], _key(item)), []).append(at)
    return answers


@cache
def _fields() -> dict[str, frozenset[str]]:
    """The fields that the Responses API knows of each kind of item, but for IDs, which say where it is stored."""
    found: dict[str, set[str]] = {}
    for param in get_args(ResponseInputItemParam):
        annotations = param.__annotations__
        for kind in re.findall(r"""["'](\w+)["']""", str(annotations.get("type"))):
            found.setdefault(kind, set()).update(annotations)
    return {kind: frozenset(names - ({"id"} - _IDS_NEEDED.get(kind, set()))) for kind, names in found.items()}


_IDS_NEEDED: dict[str, set[str]] = {"mcp_approval_request": {"id"}}  # its approval names it


def _name(name: Any, made_here: bool | None) -> str:
    name = name if isinstance(name, str) and name else "unknown"
    return name if made_here else re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64]


def _arguments(arguments: Any) -> str:
    return _object(arguments if isinstance(arguments, str) else "" if arguments is None else json.dumps(arguments))


@lru_cache(maxsize=4096)
def _object(text: str) -> str:
    """The text if it is a JSON object by the strictest readers (llama.cpp's), otherwise one that says the same."""
    if not text.strip():
        return "{}"
    try:
        if isinstance(msgspec.json.decode(text), dict):
            return text
    except (ValueError, RecursionError):
        pass
    try:
        value = json.loads(text)
        if isinstance(value, dict):  # halves of characters in its escapes
            return json.dumps(all_well_formed(value), ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        pass
    return json.dumps({"raw_arguments": all_well_formed(text)}, ensure_ascii=False)


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        return str(type(value).__name__)


def _pair(item: Item, name: Any, arguments: Any, output: Any) -> Iterator[Item]:
    """A call that a server ran itself, as one that was run here."""
    call_id = nine(f"{item.get('type')} {item.get('id')}")
    call = {"type": "function_call", "call_id": call_id, "name": name}
    yield call | {"arguments": arguments if isinstance(arguments, str) else _json(arguments)}
    yield {"type": "function_call_output", "call_id": call_id, "output": output}


_HAS_RUN: Item = {}
_GOES_ON: Item = {}


def _approvals(items: list[Item]) -> dict[str, Item | None]:
    """What became of requests for an approval of hosted MCP tools: `_HAS_RUN`, `_GOES_ON` or the response."""
    found: dict[str, Item | None] = {}
    spoken = 0
    for at, item in enumerate(items):
        kind = item.get("type", "message") if isinstance(item, dict) else None
        if kind == "message":
            spoken = at
        elif kind == "mcp_approval_response":
            found[repr(item.get("approval_request_id"))] = {"at": at, **item}
        elif kind == "mcp_call" and item.get("approval_request_id"):
            found[repr(item["approval_request_id"])] = _HAS_RUN
    for request, response in found.items():
        if response and response.get("approve") and response["at"] > spoken:
            found[request] = _GOES_ON
    return found


def _refusal(response: Item | None) -> str:
    if response is None:
        return "Nobody has decided on this call; it was not run."
    if response.get("approve"):
        return "This call was approved, and what came of it is not known."
    return f"A human rejected this call. {response.get('reason') or ''}".strip()


def _searched_files(item: Item) -> tuple[Any, Any, Any]:
    return "file_search", {"queries": item.get("queries")}, item.get("results") and _json(item["results"])


def _interpreted(item: Item) -> tuple[Any, Any, Any]:
    return "code_interpreter", {"code": item.get("code")}, _json(item.get("outputs") or [])


def _drew(item: Item) -> tuple[Any, Any, Any]:
    said = "The image was made." if item.get("result") else "No image was made."
    return "image_generation", {"prompt": item.get("revised_prompt")}, said


def _called_mcp(item: Item) -> tuple[Any, Any, Any]:
    output = item.get("output")
    if output is None:
        error = item.get("error")
        output = f"The call failed: {error if isinstance(error, str) else _json(error)}" if error else ""
    return item.get("name"), item.get("arguments"), output


def _nothing(item: Item) -> tuple[Any, Any, Any]:
    return "", "", None


_HOSTED: dict[str, Callable[[Item], tuple[Any, Any, Any]]] = {
    "mcp_call": _called_mcp,
    "mcp_list_tools": _nothing,
    "web_search_call": _nothing,
    "file_search_call": _searched_files,
    "code_interpreter_call": _interpreted,
    "image_generation_call": _drew,
}
"""Tools that a server ran itself, under an ID of its own: name, arguments and output; None: not known."""


def _named(name: str, *names: str) -> Callable[[Item], tuple[str, str]]:
    return lambda item: (name or str(item.get("name") or ""), _json({key: item[key] for key in names if key in item}))


_NATIVE = {
    "custom_tool_call": _named("", "input"),
    "computer_call": _named("computer", "action", "actions"),
    "local_shell_call": _named("local_shell", "action"),
    "shell_call": _named("shell", "action"),
    "apply_patch_call": _named("apply_patch", "operation"),
}
"""Tools of the Responses API that are run here: name and arguments."""
_NATIVE_OUTPUTS = {_CALLS[kind] for kind in _NATIVE}


def _parts_of_output(output: Any) -> Any:
    if isinstance(output, dict) and isinstance(output.get("image_url"), str):
        return [{"type": "input_image", "image_url": output["image_url"]}]
    return output


_IMAGE = ("input_image", "image_url")
_SAID_TO = {"input_text": "text", "input_image": "image_url", "input_audio": "input_audio"}
"""Parts that chat completions take of a user, and the field that has to be there."""
_SAID_TO_RESPONSES = {"input_text": "text"}
_SAID_BY = {"output_text": "text", "refusal": "refusal"}


def _content(content: Any, known: dict[str, str], text: str) -> str | list[Item] | None:
    """What a message says; None where it says nothing. Parts that cannot be sent are named in a text."""
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
    """A part in a form that can be sent."""
    if isinstance(part, str):
        yield {"type": text, "text": part}
    elif not isinstance(part, dict):
        yield {"type": text, "text": _json(part)}
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


def _output(output: Any, is_chat: bool) -> Any:
    """The output of a call: a text, or parts."""
    if isinstance(output, str):
        return output
    if output is None:
        return ""
    if isinstance(output, list) and output and all(isinstance(part, dict) and "type" in part for part in output):
        return _content(output, _SAID_TO if is_chat else _SAID_TO_RESPONSES, "input_text")
    return _json(output)


def _are_texts(parts: Any) -> bool:
    """Whether it is a list of parts that each have a text."""
    return (
        isinstance(parts, list)
        and bool(parts)
        and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in parts)
    )


def _is_readable(item: Item) -> bool:
    """Whether the SDK can read this reasoning of older records."""
    return all(isinstance(item.get(name, []), list) for name in ("summary", "content")) and isinstance(
        item.get("provider_data", {}), dict
    )


def _thoughts(item: Item, data: Item) -> dict[str, list[Any]]:
    """Reasoning in the fields that it came in."""
    found: dict[str, list[Any]] = {}
    if isinstance(blocks := data.get("thinking_blocks"), list) and blocks:
        found["thinking_blocks"] = blocks
    as_it_came = data.get("_chat_completions_reasoning_field")
    name, parts = ("reasoning", "content") if as_it_came == "reasoning" else ("reasoning_content", "summary")
    listed = item.get(parts) if isinstance(item.get(parts), list) else []
    texts = [part["text"] for part in listed or [] if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return found | ({name: texts} if texts else {})


def note(items: list[Any], server: Server, wanted: WantedBack) -> None:
    """Note on the items of an answer who gave it, and what it wants back with its calls."""
    first = True
    for item in items:
        kind = getattr(item, "type", None)
        if kind in _CALLS:
            call_id = item.call_id
            data: Item = {"server": server.url}
            if wanted.ids.get(call_id) not in (None, "", call_id):
                data["call_id"] = wanted.ids[call_id]
            if wanted.calls.get(call_id):
                data["call"] = wanted.calls[call_id]
            if first and wanted.message:
                data["message"] = wanted.message
            first = False
        elif kind == "reasoning" and server.api == "chat":
            data = {"server": server.url}
        else:
            continue
        before = getattr(item, "provider_data", None)
        item.provider_data = {**(before if isinstance(before, dict) else {}), **data}
