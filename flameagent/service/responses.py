"""A model behind OpenAI's Responses API, or a server that speaks it.

Promises what `flameagent.service.model` promises of an answer. The conversation is ours: a request carries
all of it and refers to nothing that a server may have stored, so that it goes on with another key, another
server, or on chat completions.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import openai
from agents.models.openai_responses import OpenAIResponsesModel
from openai.types.responses import Response, ResponseUsage
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails

from flameagent.models import Choice, ModelAnswerError
from flameagent.service.calls import naming
from flameagent.service.model import (
    BROKEN_OFF,
    RETRIES,
    bounded,
    broken_off,
    first_line,
    judge,
    redact,
    unreadable,
)
from flameagent.service.openai_client import connect

if TYPE_CHECKING:
    from agents import ModelSettings
    from agents.items import TResponseInputItem

_ENCRYPTED = "reasoning.encrypted_content"

# The ID of these says only where a server has stored them, and one that has not refuses it.
_WITHOUT_ID = {"message", "reasoning", "function_call", "function_call_output"}

_BEHIND_THE_END = 1.0
_TERMINAL = {"response.completed", "response.incomplete", "response.failed"}


class ResponsesModel(OpenAIResponsesModel):
    """A model behind a server that speaks Responses."""

    def __init__(self, choice: Choice, retries: int = RETRIES) -> None:
        super().__init__(choice.name, connect(choice, retries))
        self.choice = choice
        self._encrypts = True

    # Not public in openai-agents 0.24.0, and the one place that both get_response and stream_response
    # pass between the server's answer and the SDK's reading of it.
    async def _fetch_response(
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],
        model_settings: ModelSettings,
        *rest: Any,
        stream: bool = False,
        **named: Any,
    ) -> Any:
        name = naming(input)
        request = system_instructions, input, model_settings, rest, stream, named
        try:
            answer = await self._send(*request, reasoning=self._encrypts)
        except openai.BadRequestError as error:
            if not _is_about_reasoning(error):
                raise
            # Models that do not reason refuse to be asked for it; what another account's key has
            # encrypted nobody else can read, and the conversation goes on without it.
            self._encrypts = self._encrypts and error.code == "invalid_encrypted_content"
            answer = await self._send(*request, reasoning=False)
        if not stream:
            _check(answer, name, {})
            return answer
        if not isinstance(answer, openai.AsyncStream):
            raise ModelAnswerError(unreadable("no stream", "responses"))
        return self._checked(answer, name)

    async def _send(
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],
        settings: ModelSettings,
        rest: tuple[Any, ...],
        stream: bool,
        named: dict[str, Any],
        *,
        reasoning: bool,
    ) -> Any:
        if settings.store is None and not (named.get("previous_response_id") or named.get("conversation_id")):
            settings = replace(settings, store=False)
        if reasoning:
            included = [one for one in settings.response_include or [] if one != _ENCRYPTED]
            settings = replace(settings, response_include=[*included, _ENCRYPTED])
        items = input if isinstance(input, str) else _standalone(input, reasoning, self.choice.provider != "openai")
        request = cast("Any", self)._build_response_create_kwargs(
            system_instructions, items, settings, *rest, stream=stream, **named
        )
        try:
            return await self._get_client().responses.create(**request)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ModelAnswerError(unreadable("a body that is no JSON", "responses")) from error
        except openai.APIConnectionError as error:
            if broken_off(error):
                raise ModelAnswerError(BROKEN_OFF) from error
            raise

    async def _checked(
        self, events: openai.AsyncStream[Any], name: Callable[[str | None], str]
    ) -> AsyncIterator[Any]:
        """Pass a stream on, and raise where a whole answer would have raised."""
        ids: dict[int, str] = {}
        done: list[Any] = []
        began = False
        try:
            async for event in bounded(events, self.choice.timeout, "responses"):
                kind = getattr(event, "type", None)
                if not isinstance(kind, str):
                    raise ModelAnswerError(unreadable("a stream of another shape", "responses"))
                began = True
                if kind in {"error", "response.error"}:
                    raise ModelAnswerError(_error(event))
                if kind in {"response.output_item.added", "response.output_item.done"}:
                    if hasattr(event.item, "call_id"):
                        index = event.output_index
                        event.item.call_id = ids[index] = ids.get(index) or name(event.item.call_id)
                    if kind.endswith("done"):
                        done.append(event.item)
                elif kind in _TERMINAL:
                    # Some servers leave the items out here; the SDK takes those that came before.
                    if isinstance(event.response, Response) and not event.response.output:
                        event.response.output = done
                        ids = {index: item.call_id for index, item in enumerate(done) if hasattr(item, "call_id")}
                    _check(event.response, name, ids)
                    yield event
                    await _drain(events)
                    return
                yield event
        except (AttributeError, TypeError) as error:  # the client does not validate what it parses
            raise ModelAnswerError(unreadable("a stream of another shape", "responses")) from error
        finally:
            await events.close()
        raise ModelAnswerError(BROKEN_OFF if began else unreadable("a stream without an answer", "responses"))


async def _drain(events: openai.AsyncStream[Any]) -> None:
    """Read what comes behind the end, so that the connection can be used again; it changes nothing any more."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_BEHIND_THE_END):
            async for _ in events:
                pass


def _standalone(items: list[TResponseInputItem], reasoning: bool, in_the_open: bool) -> list[TResponseInputItem]:
    """The items without what only the server that made them could resolve.

    Reasoning is kept where it comes along encrypted, or `in_the_open` as text, as servers of open models
    give it; its mere ID says nothing to anybody.
    """
    kept = []
    for item in cast("list[dict[str, Any]]", items):
        kind = item.get("type", "message")
        if kind == "reasoning" and not (
            (reasoning and item.get("encrypted_content")) or (in_the_open and item.get("content"))
        ):
            continue
        kept.append({key: item[key] for key in item if key != "id"} if kind in _WITHOUT_ID else item)
    return cast("list[TResponseInputItem]", kept)


def _is_about_reasoning(error: openai.BadRequestError) -> bool:
    said = f"{error.code} {error.message}".casefold()
    return error.param == "include" or "encrypted" in said


def _check(answer: Any, name: Callable[[str | None], str], ids: Mapping[int, str]) -> None:
    """Check a whole answer, name its calls, and fill in what the SDK reads without looking.

    `ids` are those that its calls, by their place in it, have been given already.
    """
    if not isinstance(answer, Response):
        raise ModelAnswerError(unreadable("a body that is no JSON object", "responses"))
    status = getattr(answer, "status", None)
    if status == "failed" or getattr(answer, "error", None):
        raise ModelAnswerError(_error(getattr(answer, "error", None)))
    output = getattr(answer, "output", None)
    if not isinstance(output, list):
        raise ModelAnswerError(unreadable("JSON of another shape", "responses"))
    text, refusal, acts = "", "", False
    for index, item in enumerate(output):
        kind = getattr(item, "type", None)
        if not isinstance(kind, str):
            raise ModelAnswerError(unreadable("JSON of another shape", "responses"))
        if kind == "message":
            more_text, more_refusal = _said(item)
            text, refusal = text + more_text, refusal + more_refusal
        elif kind == "function_call" and not (isinstance(getattr(item, "arguments", None), str) and item.name):
            raise ModelAnswerError(unreadable("a tool call of another shape", "responses"))
        if hasattr(item, "call_id"):
            item.call_id = ids.get(index) or name(item.call_id)
        acts = acts or kind not in {"message", "reasoning"}
    finish = "stop"
    if status == "incomplete":
        reason = getattr(getattr(answer, "incomplete_details", None), "reason", None)
        finish = "content_filter" if reason == "content_filter" else "length"
    judge(text, refusal, acts, finish)
    answer.usage = _whole(answer.usage)


def _said(message: Any) -> tuple[str, str]:
    text, refusal = "", ""
    content = getattr(message, "content", None)
    if not isinstance(content, list):
        raise ModelAnswerError(unreadable("a message of another shape", "responses"))
    for part in content:
        more = getattr(part, "text", None) or ""
        refused = getattr(part, "refusal", None) or ""
        if not (isinstance(more, str) and isinstance(refused, str)):
            raise ModelAnswerError(unreadable("a message of another shape", "responses"))
        text, refusal = text + more, refusal + refused
    return text, refusal


def _whole(usage: Any) -> ResponseUsage:
    """The usage with all counts that the SDK adds up; a server may count nothing."""

    def count(of: Any, name: str) -> int:
        number = getattr(of, name, None)
        return number if isinstance(number, int) else 0

    given, taken = count(usage, "input_tokens"), count(usage, "output_tokens")
    read, thought = getattr(usage, "input_tokens_details", None), getattr(usage, "output_tokens_details", None)
    return ResponseUsage(
        input_tokens=given,
        output_tokens=taken,
        total_tokens=count(usage, "total_tokens") or given + taken,
        input_tokens_details=InputTokensDetails(
            cached_tokens=count(read, "cached_tokens"), cache_write_tokens=count(read, "cache_write_tokens")
        ),
        output_tokens_details=OutputTokensDetails(reasoning_tokens=count(thought, "reasoning_tokens")),
    )


def _error(error: Any) -> str:
    said = getattr(error, "message", None) or "it does not say which"
    return f"The model's server answered with an error: {first_line(redact(str(said)))}"
