"""A model behind a server that speaks chat completions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import httpx2
from agents import OpenAIChatCompletionsModel
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from flameagent.model_choice import Choice
from flameagent.service import sdk_compat
from flameagent.service.models.call_ids import call_id_allocator
from flameagent.service.models.exchange import NotingModel, read, send
from flameagent.service.models.openai_client import RETRIES, connect, message_completer
from flameagent.service.models.reading.chat import ChatReading
from flameagent.service.models.sending.sendable import Sendable, sendable
from flameagent.service.models.sending.server import server_of
from flameagent.service.turn_trace import describe_request

if TYPE_CHECKING:
    from agents import ModelSettings
    from agents.items import TResponseInputItem


class ChatModel(NotingModel, OpenAIChatCompletionsModel):
    """A model behind a chat-completions server."""

    # Only a model that talks until it is stopped gives an answer when it is stopped.
    cut_off_is_an_answer = False

    def __init__(self, choice: Choice, retries: int = RETRIES) -> None:
        super().__init__(choice.name, connect(choice, retries))
        self.choice = choice
        self.server = server_of(choice.base_url, choice.name, "chat")

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
        if model_settings.include_usage is None:
            model_settings = replace(model_settings, include_usage=True)
        reading = ChatReading(call_id_allocator(input), cut_off_is_an_answer=self.cut_off_is_an_answer)
        self.begin(reading)
        describe_request(self.choice)
        fetch = cast("Any", super())._fetch_response

        async def request(fitted: Sendable) -> tuple[Any, httpx2.Response]:
            completed = message_completer.set(fitted.completed)
            try:
                # What `connect`'s client returns is no ChatCompletion, so the SDK takes it for a stream.
                begun, answer = await fetch(
                    system_instructions, fitted.items, model_settings, *rest, stream=stream, **named
                )
                return begun, answer
            finally:
                message_completer.reset(completed)

        begun, answer = await send(self.server, lambda: sendable(input, self.server), request)
        chunks = read(
            answer, self.choice.timeout, reading.chunks, lambda chunk: ChatCompletionChunk.construct(**chunk)
        )
        if stream:
            return begun, chunks
        async for _ in chunks:
            pass
        completion = ChatCompletion.construct(**reading.completion())
        sdk_compat.set_request_id(completion, answer.headers.get("x-request-id"))
        return completion
