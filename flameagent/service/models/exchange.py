"""One request to a model's server and its answer: what chat completions and the Responses API have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar, cast

import httpx2
import openai
from agents import Model

from flameagent.model_choice import ModelAnswerError
from flameagent.service.models.body import Body
from flameagent.service.models.reading.answer import BROKEN_OFF, Json, unreadable_answer
from flameagent.service.models.sending.sendable import Sendable
from flameagent.service.models.sending.server import Server, note
from flameagent.service.turn import running

if TYPE_CHECKING:
    from agents.items import ModelResponse, TResponseStreamEvent

    from flameagent.service.models.reading.chat import ChatReading
    from flameagent.service.models.reading.responses import ResponsesReading

_T = TypeVar("_T")

_reading: ContextVar[ChatReading | ResponsesReading | None] = ContextVar(
    "the answer that is being read", default=None
)


class NotingModel(Model):
    """A model that notes on the items of its answers what its server wants back with them."""

    names_its_calls = True
    server: Server

    def begin(self, reading: ChatReading | ResponsesReading) -> None:
        """Note from now on, in this task, what this reading finds."""
        _reading.set(reading)

    async def get_response(self, *args: Any, **named: Any) -> ModelResponse:
        """As the SDK's, with notes on the items."""
        response = cast("ModelResponse", await cast("Any", super()).get_response(*args, **named))
        self._note(response.output)
        return response

    async def stream_response(self, *args: Any, **named: Any) -> AsyncIterator[TResponseStreamEvent]:
        """As the SDK's, with notes on the items."""
        async for event in cast("Any", super()).stream_response(*args, **named):
            if event.type == "response.output_item.done":
                self._note([event.item])
            elif event.type == "response.completed":
                self._note(event.response.output)
            yield event

    def _note(self, items: list[Any]) -> None:
        if (reading := _reading.get()) is not None:
            note(items, self.server, reading.wanted_back())


async def send(
    server: Server,
    fit: Callable[[], Sendable],
    request: Callable[[Sendable], Awaitable[_T]],
    reconsider: Callable[[openai.APIStatusError], bool] = lambda _: False,
) -> _T:
    """Send what `fit` makes of a conversation; again, fitted anew, while the refusal teaches what to leave out.

    `reconsider` is asked first, and returns whether `fit` now gives something else. Raises what `request` raises.
    """
    while True:
        fitted = fit()
        tell_left_out(fitted)
        try:
            with _connection_errors():
                return await request(fitted)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if not (reconsider(error) or server.learn(f"{error.message} {error.body}", fitted)):
                raise


def tell_left_out(fitted: Sendable) -> None:
    """Have whoever asked be told what of their images and files this server is not sent."""
    if fitted.left_out and (turn := running.get()) is not None:
        what = ", ".join(fitted.left_out)
        turn.say(f"The model was not shown {what}: its server takes no images or files there.")


async def read(
    answer: httpx2.Response,
    seconds: float,
    parse: Callable[[Body, float], AsyncIterator[Json]],
    build: Callable[[Json], _T],
) -> AsyncIterator[_T]:
    """Yield the parts of an answer, each built as the SDK expects it; close the answer in any case.

    The next part has to come within `seconds`. Raises `ModelAnswerError` for what is no answer.
    """
    body = Body(answer, seconds)
    try:
        async for part in parse(body, seconds):
            yield build(part)
    finally:
        await body.close()


@contextmanager
def _connection_errors() -> Iterator[None]:
    """Tell a server that ended in the middle of its answer from one that is not there."""
    try:
        yield
    except openai.APIConnectionError as error:
        if isinstance(error.__cause__, httpx2.DecodingError):
            raise unreadable_answer("a body that is not compressed as it says") from error
        if isinstance(error.__cause__, httpx2.RemoteProtocolError | httpx2.ReadError):
            raise ModelAnswerError(BROKEN_OFF) from error
        raise
