"""A model behind OpenAI's Responses API, or a server that speaks it.

Promises what `flameagent.service.model` promises of an answer. The conversation is ours: a request carries
all of it and refers to nothing that a server may have stored, so that it goes on with another key, another
server, or on chat completions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import httpx2
import openai
from agents.models.openai_responses import OpenAIResponsesModel
from openai._models import construct_type  # what openai's own stream makes its events with (3.54.0)
from openai.types.responses import Response, ResponseStreamEvent

from flameagent.models import Choice
from flameagent.service.calls import naming
from flameagent.service.explain import reason_of
from flameagent.service.model import RETRIES, connection_errors
from flameagent.service.openai_client import connect
from flameagent.service.reading.body import Body
from flameagent.service.reading.responses import ResponsesReading

if TYPE_CHECKING:
    from agents import ModelSettings
    from agents.items import TResponseInputItem

_ENCRYPTED = "reasoning.encrypted_content"

# The ID of these says only where a server has stored them, and one that has not refuses it.
_WITHOUT_ID = {"message", "reasoning", "function_call", "function_call_output"}


class ResponsesModel(OpenAIResponsesModel):
    """A model behind a server that speaks Responses."""

    names_its_calls = True

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
        reading = ResponsesReading(name)
        events = self._events(reading, answer)
        if stream:
            return events
        async for _ in events:
            pass
        response = Response.construct(**reading.response or {})
        response._request_id = answer.headers.get("x-request-id")
        return response

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
        with connection_errors():
            return (await self._get_client().responses.with_raw_response.create(**request)).http_response

    async def _events(self, reading: ResponsesReading, answer: httpx2.Response) -> AsyncIterator[ResponseStreamEvent]:
        body = Body(answer, self.choice.timeout)
        try:
            async for event in reading.events(body, self.choice.timeout):
                yield cast("ResponseStreamEvent", construct_type(type_=ResponseStreamEvent, value=event))
        finally:
            await body.close()


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
    return error.param == "include" or "encrypted" in f"{error.code} {reason_of(error)[0]}".casefold()
