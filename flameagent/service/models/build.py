"""The model that a choice names, as a `Model` of the Agents SDK.

What it returns is an answer: text or tool calls, whole, each call with an ID that the conversation has
not used. Anything else a server sends is a `ModelAnswerError`, streamed or not.
"""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import httpx2
import openai
from agents import set_trace_provider, set_tracing_disabled
from agents.models.openai_chatcompletions import OpenAIChatCompletionsModel
from agents.tracing.provider import DefaultTraceProvider
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from flameagent.model_choice import Choice, ModelAnswerError
from flameagent.service import sdk_compat
from flameagent.service.models.call_ids import call_id_allocator, name_all_calls
from flameagent.service.models.openai_client import completing, connect
from flameagent.service.models.reading.answer import BROKEN_OFF, unreadable
from flameagent.service.models.reading.body import Body
from flameagent.service.models.reading.chat import ChatReading
from flameagent.service.models.sendable import note, sendable, server_of

if TYPE_CHECKING:
    from agents import Model, ModelSettings
    from agents.items import ModelResponse, TResponseInputItem, TResponseStreamEvent

RETRIES = 2

_readings: "ContextVar[ChatReading | None]" = ContextVar("the answer that is being read", default=None)


def prepare() -> None:
    """Settle what the Agents SDK does for the whole process: no traces leave it unless AGENT_TRACING=1, and what it
    does with every item of a conversation takes less time."""
    traced = os.environ.get("AGENT_TRACING") == "1"
    if not traced:  # the SDK's own (0.24.0) makes an HTTP client as soon as it is asked for
        set_trace_provider(DefaultTraceProvider())
    set_tracing_disabled(not traced)
    sdk_compat.prepare()
    name_all_calls()


@lru_cache(maxsize=8)
def build(choice: Choice) -> "Model":
    """Return the model of a choice, the same one for the same choice: its connections are kept open.

    To be used in one event loop. Raises `ModelError` when the local model is not installed.
    """
    if choice.provider == "local":
        from flameagent.service.models.local import LocalModel

        return LocalModel(choice)
    if choice.api == "responses":
        from flameagent.service.models.responses import ResponsesModel

        return ResponsesModel(choice)
    return ChatModel(choice)


class ChatModel(OpenAIChatCompletionsModel):
    """A model behind a chat-completions server."""

    names_its_calls = True
    # Only a model that talks until it is stopped gives an answer when it is stopped.
    cut_off_is_an_answer = False

    def __init__(self, choice: Choice, retries: int = RETRIES) -> None:
        super().__init__(choice.name, connect(choice, retries))
        self.choice = choice
        self.server = server_of(choice.base_url, choice.name, "chat")

    # Not public in openai-agents 0.24.0, and the one place that both get_response and stream_response
    # pass between the server's answer and the SDK's reading of it.
    async def _fetch_response(
        self,
        system_instructions: str | None,
        input: "str | list[TResponseInputItem]",
        model_settings: "ModelSettings",
        *rest: Any,
        stream: bool = False,
        **named: Any,
    ) -> Any:
        if model_settings.include_usage is None:
            model_settings = replace(model_settings, include_usage=True)
        reading = ChatReading(call_id_allocator(input), cut_off_is_an_answer=self.cut_off_is_an_answer)
        _readings.set(reading)
        while True:
            fitted = sendable(input, self.server)
            completed = completing.set(fitted.completed)
            try:
                with connection_errors():
                    # What `connect`'s client returns is no ChatCompletion, so the SDK takes it for a stream.
                    begun, answer = await cast("Any", super())._fetch_response(
                        system_instructions, fitted.items, model_settings, *rest, stream=stream, **named
                    )
                break
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not self.server.learn(f"{error.message} {error.body}", fitted):
                    raise
            finally:
                completing.reset(completed)
        chunks = self._chunks(reading, answer)
        if stream:
            return begun, chunks
        async for _ in chunks:
            pass
        completion = ChatCompletion.construct(**reading.completion())
        completion._request_id = answer.headers.get("x-request-id")
        return completion

    async def get_response(self, *args: Any, **named: Any) -> "ModelResponse":
        """As the SDK's, and with what the server wants back of it noted on its items."""
        response = await super().get_response(*args, **named)
        self._note(response.output)
        return response

    async def stream_response(self, *args: Any, **named: Any) -> "AsyncIterator[TResponseStreamEvent]":
        """As the SDK's, and with what the server wants back of it noted on its items."""
        async for event in super().stream_response(*args, **named):
            if event.type == "response.output_item.done":
                self._note([event.item])
            elif event.type == "response.completed":
                self._note(event.response.output)
            yield event

    def _note(self, items: "list[Any]") -> None:
        reading = _readings.get()
        if reading is not None:
            note(items, self.server, reading.calls.given(), reading.calls.extras(), reading.for_the_server())

    async def _chunks(self, reading: ChatReading, answer: httpx2.Response) -> AsyncIterator[ChatCompletionChunk]:
        body = Body(answer, self.choice.timeout)
        try:
            async for chunk in reading.chunks(body, self.choice.timeout):
                yield ChatCompletionChunk.construct(**chunk)
        finally:
            await body.close()


@contextmanager
def connection_errors() -> Iterator[None]:
    """Tell a server that ended in the middle of its answer from one that is not there."""
    try:
        yield
    except openai.APIConnectionError as error:
        if isinstance(error.__cause__, httpx2.DecodingError):
            raise unreadable("a body that is not compressed as it says") from error
        if isinstance(error.__cause__, httpx2.RemoteProtocolError | httpx2.ReadError):
            raise ModelAnswerError(BROKEN_OFF) from error
        raise
