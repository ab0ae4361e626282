"""A response of the Responses API, read of whatever a server sends for one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from flameagent.model_choice import ModelAnswerError
from flameagent.service.models.body import Body
from flameagent.service.models.explain import explain_error_body
from flameagent.service.models.reading.answer import (
    Heard,
    Json,
    WantedBack,
    check_completion,
    dicts,
    objects,
    string,
    unreadable_answer,
)
from flameagent.service.models.reading.pieces import Growing, NoCall, arguments_of
from flameagent.text import all_well_formed, well_formed


@dataclass(eq=False)
class _Named:
    """An item that has a call ID: the server's, and ours."""

    key: Any
    given: str | None
    own: str
    seen: set[str]


class ResponsesReading:
    """A response of the Responses API, of whatever a server sends for one; `name_call` gives calls their IDs."""

    def __init__(self, name_call: Callable[[str | None], str]) -> None:
        self._name_call = name_call
        self._named: list[_Named] = []
        self._heard = Heard("responses")
        self._text = Growing()
        self._added: dict[Any, Json] = {}  # items that have begun, by their place
        self._done: list[Json] = []
        self.response: Json | None = None
        """The whole answer, when it has been read."""

    def wanted_back(self) -> WantedBack:
        """Return what the server wants back with its calls: their IDs."""
        return WantedBack({named.own: named.given for named in self._named if named.given is not None})

    async def events(self, body: Body, seconds: float) -> AsyncIterator[Json]:
        """Read a body, and yield the events of a stream. Raises `ModelAnswerError` for what is no answer."""
        async for value in objects(body, self._heard, seconds):
            try:
                event = self._take(value)
            except NoCall as error:
                raise unreadable_answer(str(error), "responses") from error
            if event is not None:
                yield event
            if self.response is not None:
                await body.drain()
                return
        raise self._heard.nothing()

    def _take(self, value: Json) -> Json | None:
        kind = value.get("type")
        if "output" in value or value.get("object") == "response":
            self._heard.of_api = True
            return self._completed(value, {})
        if isinstance(value.get("choices"), list):
            raise unreadable_answer("a chat completion", "responses", elsewhere=True)
        if not isinstance(kind, str) or not kind.startswith("response."):
            self._heard.other(value)
            return None
        self._heard.of_api = self._heard.of_answer = True
        if kind in {"response.completed", "response.incomplete", "response.failed"}:
            return self._completed(_object(value.get("response")), value)
        if kind in {"response.output_item.added", "response.output_item.done"}:
            return self._item_event(value, kind.rpartition(".")[2])
        if kind == "response.function_call_arguments.done":
            return self._arguments_event(value)
        if kind.endswith(".delta"):
            return self._delta_event(value, kind)
        return value

    def _item_event(self, value: Json, stage: str) -> Json:
        item = self._item(value.get("item"), value.get("output_index"), stage)
        if stage == "added":
            self._added[_place(value)] = item
        else:
            self._added.pop(_place(value), None)
            self._done.append(item)
        return value | {"item": item}

    def _delta_event(self, value: Json, kind: str) -> Json:
        delta = value.get("delta", "")
        if kind == "response.output_text.delta" and isinstance(delta, str):
            value = value | {"delta": self._text.add(delta)}
        elif isinstance(delta, str):
            value = value | {"delta": well_formed(delta)}
        elif kind == "response.output_text.delta":
            raise unreadable_answer("a message of another shape", "responses")
        if kind == "response.function_call_arguments.delta" and isinstance(delta, str):
            for item in _calls([self._added.get(_place(value), {})]):
                item["arguments"] += delta
        return value

    def _arguments_event(self, value: Json) -> Json:
        """All arguments of a call: they are said again when it is done, where the server says that."""
        for item in _calls([self._added.get(_place(value), {})]):
            item["arguments"] = well_formed(arguments_of(value.get("arguments"))) or item["arguments"]
        return value

    def _completed(self, response: Json, event: Json) -> Json:
        """Check a response, and return the event that ends a stream with it."""
        status = response.get("status")
        if status == "failed" or response.get("error"):
            raise ModelAnswerError(explain_error_body({"error": response.get("error")}))
        output = response.get("output")
        if not isinstance(output, list | None) or (output is None and not self._heard.of_answer):
            raise unreadable_answer("output of another shape", "responses")
        output = [self._item(item, at, "whole") for at, item in enumerate(output or [])]
        # Some servers leave items out here, or never say that one is done.
        came = self._done + [item for item in self._added.values() if item["type"] == "function_call"]
        output = came if len(output) < len(came) else output
        if len(_calls(output)) < len(_calls(came)):
            named = {item["call_id"] for item in _calls(output)}
            output = output + [item for item in _calls(came) if item["call_id"] not in named]
        text, refusal = self._text_of(output)
        acts = any(item["type"] not in {"message", "reasoning"} for item in output)
        if self._text.text and not any(item["type"] == "message" for item in output):
            text = self._text.text
            output = [_message(text), *output]
        finish = str(status or "completed")
        if finish == "incomplete":
            details = response.get("incomplete_details")
            finish = str((details.get("reason") if isinstance(details, dict) else None) or "length")
        check_completion(text, refusal, acts, finish)
        for item in output:
            if item["type"] == "function_call":
                item["arguments"] = item["arguments"] if item["arguments"].strip() else "{}"
        self.response = response | {"status": "completed", "output": output, "usage": _tokens(response.get("usage"))}
        number = event.get("sequence_number")
        return {
            "type": "response.completed",
            "response": self.response,
            "sequence_number": number if isinstance(number, int) else 0,
        }

    def _item(self, given: Any, index: Any, stage: str) -> Json:
        """An item in the shape that the SDK expects, with our ID if it is a call."""
        item: Json = all_well_formed(_object(given))
        kind = item.get("type") or ("message" if "content" in item else None)
        if not isinstance(kind, str):
            raise unreadable_answer("an item of another shape", "responses")
        item = item | {"type": kind}
        if kind == "message":
            return item | {"role": "assistant", "content": _parts(item.get("content"))}
        if kind == "reasoning":
            return item | {"summary": dicts(item.get("summary"))}
        if kind == "function_call":
            if not (isinstance(item.get("name"), str) and item["name"]):
                raise NoCall("a tool call without a name")
            if stage != "added" and "arguments" not in item:
                raise NoCall("a tool call of another shape")
            item = item | {"arguments": well_formed(arguments_of(item.get("arguments")))}
        if "call_id" in item or kind == "function_call":
            item = item | {"call_id": self._call_id(item, index, stage)}
        return item

    def _call_id(self, item: Json, index: Any, stage: str) -> str:
        """Return the same ID for the same call, when it begins, is done, and in the whole response."""
        given = item.get("call_id") if isinstance(item.get("call_id"), str) else None
        if item["type"].endswith("_output"):  # of a call of the same response
            return next((named.own for named in reversed(self._named) if named.given == given), given or "")
        key = item.get("id") or index
        open_ = [named for named in self._named if stage not in named.seen and named.given == given]
        named = next((named for named in open_ if named.key == key), None) or next(iter(open_), None)
        if named is None or stage == "added":
            named = _Named(key, given, self._name_call(given), set())
            self._named.append(named)
        named.seen.add(stage)
        return named.own

    def _text_of(self, output: list[Json]) -> tuple[str, str]:
        parts = [part for item in output if item["type"] == "message" for part in item["content"]]
        return "".join(string(p.get("text")) for p in parts), "".join(string(p.get("refusal")) for p in parts)


def _calls(output: list[Json]) -> list[Json]:
    return [item for item in output if item.get("type") == "function_call"]


def _place(event: Json) -> str:
    return str(event.get("output_index"))


def _object(value: Any) -> Json:
    if not isinstance(value, dict):
        raise unreadable_answer("a response or an item of another shape", "responses")
    return value


def _message(text: str) -> Json:
    return {"type": "message", "id": "", "status": "completed", "role": "assistant", "content": _parts(text)}


def _parts(content: Any) -> list[Json]:
    """The content of a message, as a list of texts and refusals."""
    content = [content] if isinstance(content, str) else content
    if not isinstance(content, list | None):
        raise unreadable_answer("a message of another shape", "responses")
    parts: list[Json] = []
    for part in content or []:
        part = {"text": part} if isinstance(part, str) else part
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            parts.append(part | {"type": "output_text", "annotations": dicts(part.get("annotations"))})
        elif isinstance(part, dict) and isinstance(part.get("refusal"), str):
            parts.append(part | {"type": "refusal"})
        else:
            raise unreadable_answer("a message of another shape", "responses")
    return parts


def _tokens(usage: Any) -> Json:
    """The usage with all counts that the SDK adds up; a server may count nothing."""

    def count(of: Any, name: str) -> int:
        number = of.get(name) if isinstance(of, dict) else None
        return number if isinstance(number, int) else 0

    given, taken = count(usage, "input_tokens"), count(usage, "output_tokens")
    details = usage if isinstance(usage, dict) else {}
    read, thought = details.get("input_tokens_details"), details.get("output_tokens_details")
    return {
        "input_tokens": given,
        "output_tokens": taken,
        "total_tokens": count(usage, "total_tokens") or given + taken,
        "input_tokens_details": {name: count(read, name) for name in ("cached_tokens", "cache_write_tokens")},
        "output_tokens_details": {"reasoning_tokens": count(thought, "reasoning_tokens")},
    }
