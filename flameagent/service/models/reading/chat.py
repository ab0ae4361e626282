"""A chat completion, read of whatever a server sends for one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from flameagent.model_choice import ModelAnswerError
from flameagent.service.models.body import Body
from flameagent.service.models.reading.answer import (
    BROKEN_OFF,
    Cut,
    Heard,
    Json,
    WantedBack,
    check_completion,
    dicts,
    end_of,
    objects,
    string,
    unreadable_answer,
)
from flameagent.service.models.reading.pieces import Calls, Growing, NoCall, index_of


class ChatReading:
    """A chat completion, of whatever a server sends for one.

    `name_call` gives calls their IDs; `cut_off_is_an_answer` for a model that talks until it is stopped.
    """

    def __init__(self, name_call: Callable[[str | None], str], *, cut_off_is_an_answer: bool = False) -> None:
        self._cut_off_is_an_answer = cut_off_is_an_answer
        self._text, self._refusal, self._thought = Growing(), Growing(), Growing()
        self._thought_as = "reasoning_content"
        self.calls = Calls(name_call)
        self._lists: dict[str, list[Json]] = {"thinking_blocks": [], "annotations": [], "reasoning_details": []}
        self._logprobs: list[Json] = []
        self._envelope: Json = {"id": "", "created": 0, "model": ""}
        self._usage: Json | None = None
        self._finish: str | None = None
        self._heard = Heard("chat")
        self._choice: Any = None  # the index of the one that is read
        self._in_pieces = False
        self._is_whole = False

    async def chunks(self, body: Body, seconds: float) -> AsyncIterator[Json]:
        """Read a body, and yield the chunks of a stream. Raises `ModelAnswerError` for what is no answer."""
        try:
            async for value in objects(body, self._heard, seconds):
                try:
                    for chunk in self._take(value):
                        yield chunk
                except NoCall as error:
                    raise unreadable_answer(str(error)) from error
        except Cut:
            if self._finish is None:  # behind it only the usage would come
                raise
        yield self._end()
        await body.drain()

    def completion(self) -> Json:
        """Return what has been read as a whole answer."""
        message = {
            "role": "assistant",
            "content": self._text.text or None,
            "refusal": None,
            "tool_calls": self.calls.whole() or None,
            **({self._thought_as: self._thought.text} if self._thought.text else {}),
            **{name: listed for name, listed in self._lists.items() if listed},
        }
        choice = self._as_choice(end_of(self._finish or "stop"), self._logprobs) | {"message": message}
        return {**self._envelope, "object": "chat.completion", "choices": [choice], "usage": self._usage}

    def wanted_back(self) -> WantedBack:
        """Return what the server wants back: IDs and fields of calls, and details of the message (OpenRouter)."""
        message = {name: self._lists[name] for name in ("reasoning_details",) if self._lists[name]}
        return WantedBack(self.calls.given(), self.calls.extras(), message)

    def _take(self, value: Json) -> Iterator[Json]:
        choices = value.get("choices")
        if not isinstance(choices, list | None):
            raise unreadable_answer("choices of another shape")
        if choices is None:
            self._heard.other(value)
            return
        self._heard.of_api = True
        for name, kind in (("id", str), ("created", int), ("model", str)):
            self._envelope[name] = value[name] if isinstance(value.get(name), kind) else self._envelope[name]
        self._usage = _counts(value.get("usage")) or self._usage
        choice = self._choice_of(choices)
        if choice is None:
            return
        self._heard.of_answer = True
        self._usage = _counts(choice.get("usage")) or self._usage  # Moonshot
        finish = choice.get("finish_reason")
        if finish and str(finish).strip().casefold() not in {"", "null", "none"}:
            self._finish = str(finish)
        delta, message = choice.get("delta"), choice.get("message")
        if message is None and isinstance(choice.get("text"), str):  # the API before this one
            message = {"content": choice["text"]}
        logprobs = _logprobs(choice.get("logprobs"))
        self._logprobs += logprobs
        if delta:
            self._in_pieces = True
            yield from self._add(delta, logprobs, whole=False)
        if message:
            self._is_whole = not delta and not self._heard.events
            # In a stream it is a piece, or behind pieces what they have come to (MiniMax).
            yield from self._add(message, logprobs, whole=self._is_whole or self._in_pieces)

    def _choice_of(self, choices: list[Any]) -> Json | None:
        for choice in choices:
            if not isinstance(choice, dict):
                raise unreadable_answer("a choice of another shape")
            index = index_of(choice)
            self._choice = index if self._choice is None else self._choice
            if index in (None, self._choice):
                return choice
        return None

    def _add(self, delta: Any, logprobs: list[Json], *, whole: bool) -> Iterator[Json]:
        """Take a piece of the message, or a `whole` one."""
        if not isinstance(delta, dict):
            raise unreadable_answer("a message of another shape")
        text, refusal, thought = _content(delta.get("content"))
        refusal += string(delta.get("refusal"))
        name, more = next(((n, t) for n in _THOUGHTS if (t := string(delta.get(n)))), (self._thought_as, ""))
        self._thought_as = self._thought_as if self._thought.text else name
        thought += more
        pieces = delta.get("tool_calls") or []
        pieces = [pieces] if isinstance(pieces, dict) else pieces
        if not isinstance(pieces, list):
            raise unreadable_answer("tool calls of another shape")
        if not pieces and delta.get("function_call"):  # before there were tools
            pieces = [{"function": delta["function_call"]}]
        lists = {name: listed for name in self._lists if (listed := dicts(delta.get(name)))}
        if whole:
            text, refusal, thought = (
                _rest(piece, known.text)
                for piece, known in ((text, self._text), (refusal, self._refusal), (thought, self._thought))
            )
            lists = {name: listed for name, listed in lists.items() if not self._lists[name]}
        for name, listed in lists.items():
            self._lists[name] += listed
        passed = {
            "content": self._text.add(text),
            "refusal": self._refusal.add(refusal),
            self._thought_as: self._thought.add(thought),
            "tool_calls": (self.calls.add_whole if whole else self.calls.add)(pieces),
            **lists,
        }
        if any(passed.values()):
            yield self._chunk(passed, None, logprobs)

    def _end(self) -> Json:
        """Return the last chunk of an answer. Raises `ModelAnswerError` if there is none."""
        # `[DONE]` without a reason is an end: gateways in front of Gemini leave the reason out, others all of it.
        if self._finish is None and not self._is_whole and not (self._heard.done and self._heard.of_answer):
            raise self._heard.nothing()
        if self._finish is None and not self.calls.are_complete():
            raise ModelAnswerError(BROKEN_OFF)
        finish = self._finish or "stop"
        rest: Json = {
            "content": self._text.end(),
            "refusal": self._refusal.end(),
            self._thought_as: self._thought.end(),
        }
        check_completion(self._text.text, self._refusal.text, bool(self.calls), finish, self._cut_off_is_an_answer)
        try:
            rest["tool_calls"] = self.calls.end()
        except NoCall as error:
            raise unreadable_answer(str(error)) from error
        return self._chunk(rest, end_of(finish), []) | {"usage": self._usage}

    def _chunk(self, passed: Json, finish: str | None, logprobs: list[Json]) -> Json:
        delta = {"role": "assistant"} | {name: piece for name, piece in passed.items() if piece}
        choice = self._as_choice(finish, logprobs) | {"delta": delta}
        return {**self._envelope, "object": "chat.completion.chunk", "choices": [choice], "usage": None}

    def _as_choice(self, finish: str | None, logprobs: list[Json]) -> Json:
        finish = "tool_calls" if finish == "stop" and self.calls else finish
        return {"index": 0, "finish_reason": finish, "logprobs": {"content": logprobs} if logprobs else None}


_THOUGHTS = ("reasoning_content", "reasoning")


def _rest(whole: str, known: str) -> str:
    """Return what a whole text has more than its pieces."""
    return "" if whole.strip() == known.strip() else whole.removeprefix(known)


def _content(content: Any) -> tuple[str, str, str]:
    """Return text, refusal and thoughts of a message's content: a text, or a list of parts."""
    text, refusal, thought = "", "", ""
    for part in content if isinstance(content, list) else [content] if content else []:
        match part:
            case {"type": "thinking" | "reasoning" as kind, **rest}:  # Mistral
                thought += _content(rest.get(kind) or rest.get("text"))[0]
            case {"type": "reference" | "redacted_thinking"}:  # Mistral, Anthropic: nothing that anybody reads
                pass
            case str() as piece:
                text += piece
            case {"text": str() | None as piece} | {"text": {"value": str() as piece}}:
                text += piece or ""
            case {"refusal": str() as piece}:
                refusal += piece
            case _:
                raise unreadable_answer("a message of another shape")
    return text, refusal, thought


def _logprobs(value: Any) -> list[Json]:
    tokens = dicts(value.get("content")) if isinstance(value, dict) else []
    return [
        token | {"top_logprobs": dicts(token.get("top_logprobs"))}
        for token in tokens
        if isinstance(token.get("token"), str) and isinstance(token.get("logprob"), int | float)
    ]


def _counts(usage: Any) -> Json | None:
    """Return the usage, if it has the counts that the SDK adds up; of its details those that are numbers."""
    if not isinstance(usage, dict):
        return None
    given, taken, both = (usage.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens"))
    if not isinstance(given, int) or not isinstance(taken, int):
        return None
    details = {
        name: {key: count for key, count in value.items() if isinstance(count, int)}
        for name in ("prompt_tokens_details", "completion_tokens_details")
        if isinstance(value := usage.get(name), dict)
    }
    rest = {name: value for name, value in usage.items() if not name.endswith("_details")}
    return rest | {"total_tokens": both if isinstance(both, int) else given + taken} | details
