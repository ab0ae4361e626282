"""A model behind OpenAI's Responses API, or a server that speaks it.

Promises what `flameagent.service.models.build` promises of an answer. The conversation is ours: a request carries
all of it and refers to nothing that a server may have stored, so that it goes on with another key, another
server, or on chat completions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import httpx2
import openai
from agents import OpenAIResponsesModel
from openai.types.responses import Response

from flameagent.model_choice import Choice
from flameagent.service import sdk_compat
from flameagent.service.models.call_ids import call_id_allocator
from flameagent.service.models.exchange import NotingModel, read, send
from flameagent.service.models.explain import read_reason
from flameagent.service.models.openai_client import RETRIES, connect
from flameagent.service.models.reading.responses import ResponsesReading
from flameagent.service.models.sending.sendable import Sendable, sendable
from flameagent.service.models.sending.server import server_of
from flameagent.service.turn_trace import describe_request

if TYPE_CHECKING:
    from agents import ModelSettings
    from agents.items import TResponseInputItem

_ENCRYPTED = "reasoning.encrypted_content"


class ResponsesModel(NotingModel, OpenAIResponsesModel):
    """A model behind a server that speaks Responses."""

    def __init__(self, choice: Choice, retries: int = RETRIES) -> None:
        super().__init__(choice.name, connect(choice, retries))
        self.choice = choice
        self.server = server_of(choice.base_url, choice.name, "responses")
        self._encrypts = True

    # Not public (`sdk_compat`), and the one place that both get_response and stream_response pass between the
    # server's answer and the SDK's reading of it.
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
        self.begin(reading)
        describe_request(self.choice)
        reasoning, in_the_open = self._encrypts, self.choice.provider != "openai"

        def fit() -> Sendable:
            return sendable(input, self.server, encrypted=reasoning, in_the_open=in_the_open)

        async def request(fitted: Sendable) -> httpx2.Response:
            settings = self._settings(model_settings, named, reasoning)
            return await self._create(system_instructions, fitted.items, settings, *rest, stream=stream, **named)

        def goes_without_reasoning(error: openai.APIStatusError) -> bool:
            """Models that do not reason refuse to be asked for it; what another account's key has encrypted nobody
            else can read, and the conversation goes on without it."""
            nonlocal reasoning
            if not (reasoning and _is_about_reasoning(error)):
                return False
            self._encrypts = self._encrypts and error.code == "invalid_encrypted_content"
            reasoning = False
            return True

        answer = await send(self.server, fit, request, goes_without_reasoning)
        events = read(answer, self.choice.timeout, reading.events, sdk_compat.response_event)
        if stream:
            return events
        async for _ in events:
            pass
        response = Response.construct(**reading.response or {})
        sdk_compat.set_request_id(response, answer.headers.get("x-request-id"))
        return response

    def _settings(self, settings: ModelSettings, named: dict[str, Any], reasoning: bool) -> ModelSettings:
        if settings.store is None and not (named.get("previous_response_id") or named.get("conversation_id")):
            settings = replace(settings, store=False)
        if reasoning:
            included = [one for one in settings.response_include or [] if one != _ENCRYPTED]
            settings = replace(settings, response_include=[*included, _ENCRYPTED])
        return settings

    async def _create(self, *conversation: Any, **named: Any) -> httpx2.Response:
        request = cast("Any", self)._build_response_create_kwargs(*conversation, **named)
        raw = await self._get_client().responses.with_raw_response.create(**request)
        return cast("httpx2.Response", raw.http_response)


def _is_about_reasoning(error: openai.APIStatusError) -> bool:
    return error.param == "include" or "encrypted" in f"{error.code} {read_reason(error)[0]}".casefold()
