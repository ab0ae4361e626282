"""A model behind OpenAI's Responses API, or a server that speaks it.

Promises what `flameagent.service.models.build` promises of an answer. The conversation is ours: a request carries
all of it and refers to nothing that a server may have stored, so that it goes on with another key, another
server, or on chat completions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import httpx2
import openai
from agents.models.openai_responses import OpenAIResponsesModel
from openai._models import construct_type  # what openai's own stream makes its events with (3.54.0)
from openai.types.responses import Response, ResponseStreamEvent

from flameagent.model_choice import Choice
from flameagent.service.models.build import RETRIES, connection_errors
from flameagent.service.models.call_ids import call_id_allocator
from flameagent.service.models.explain import reason_of
from flameagent.service.models.openai_client import connect
from flameagent.service.models.reading.body import Body
from flameagent.service.models.reading.responses import ResponsesReading
from flameagent.service.models.sendable import note, sendable, server_of

if TYPE_CHECKING:
    from agents import ModelSettings
    from agents.items import ModelResponse, TResponseInputItem

_ENCRYPTED = "reasoning.encrypted_content"

_readings: ContextVar[ResponsesReading | None] = ContextVar("the response that is being read", default=None)


class ResponsesModel(OpenAIResponsesModel):
    """A model behind a server that speaks Responses."""

    names_its_calls = True

    def __init__(self, choice: Choice, retries: int = RETRIES) -> None:
        super().__init__(choice.name, connect(choice, retries))
        self.choice = choice
        self.server = server_of(choice.base_url, choice.name, "responses")
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
        reading = ResponsesReading(call_id_allocator(input))
        _readings.set(reading)
        reasoning = self._encrypts
        while True:
            open_models = self.choice.provider != "openai"
            fitted = sendable(input, self.server, encrypted=reasoning, in_the_open=open_models)
            try:
                answer = await self._send(
                    system_instructions, fitted.items, model_settings, rest, stream, named, reasoning=reasoning
                )
                break
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if reasoning and _is_about_reasoning(error):
                    # Models that do not reason refuse to be asked for it; what another account's key has
                    # encrypted nobody else can read, and the conversation goes on without it.
                    self._encrypts = self._encrypts and error.code == "invalid_encrypted_content"
                    reasoning = False
                elif not self.server.learn(f"{error.message} {error.body}", fitted):
                    raise
        events = self._events(reading, answer)
        if stream:
            return events
        async for _ in events:
            pass
        response = Response.construct(**reading.response or {})
        response._request_id = answer.headers.get("x-request-id")
        return response

    async def get_response(self, *args: Any, **named: Any) -> ModelResponse:
        """As the SDK's, and with what the server wants back of it noted on its items."""
        response = await super().get_response(*args, **named)
        self._note(response.output)
        return response

    async def stream_response(self, *args: Any, **named: Any) -> AsyncIterator[ResponseStreamEvent]:
        """As the SDK's, and with what the server wants back of it noted on its items."""
        async for event in super().stream_response(*args, **named):
            if event.type == "response.output_item.done":
                self._note([event.item])
            elif event.type == "response.completed":
                self._note(event.response.output)
            yield event

    def _note(self, items: list[Any]) -> None:
        if (reading := _readings.get()) is not None:
            note(items, self.server, reading.given(), {}, {})

    async def _send(
        self,
        system_instructions: str | None,
        items: list[dict[str, Any]],
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


def _is_about_reasoning(error: openai.APIStatusError) -> bool:
    return error.param == "include" or "encrypted" in f"{error.code} {reason_of(error)[0]}".casefold()
