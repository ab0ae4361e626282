"""`AsyncClient`: what `Client` does, for code that runs on an event loop, with any number of turns at once.

Each call of a method of `Client` runs in a thread of its own, since gRPC and Arrow Flight block; their number is not
limited, so that no turn waits for another. Whoever is cancelled stops waiting, not the turn.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import copy_context
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from flameagent.client.client import Client
from flameagent.client.events import Done, Event, Failed
from flameagent.client.memory import Memory
from flameagent.client.reply import Reply
from flameagent.client.turn import Turn, given_up

_P = ParamSpec("_P")
_T = TypeVar("_T")


class AsyncTurn:
    """A turn: `async for event in turn` gives its events, and `await turn.reply()` its answer.

    It is asked when it is first awaited or iterated over; `await turn` does no more, and then it has its IDs. The
    last event is `Done` or `Failed`. Whoever stops iterating, or is cancelled, stops watching, not the turn, and may
    iterate again: what comes is what they have not seen. For one watcher at a time.
    """

    def __init__(self, make: Callable[[], Turn]) -> None:
        self._make = make
        self._made: asyncio.Future[Turn] | None = None
        self._coming: asyncio.Queue[Event | asyncio.Future[None]] = asyncio.Queue()
        self._reading: asyncio.Future[None] | None = None

    def __await__(self) -> Generator[Any, None, Self]:
        yield from self._turn().__await__()
        return self

    @property
    def session_id(self) -> str:
        """The session that it is in; "" before it is asked."""
        return self._made.result().session_id if self._made and self._made.done() else ""

    @property
    def turn_id(self) -> str:
        """Its ID; "" before it is asked."""
        return self._made.result().turn_id if self._made and self._made.done() else ""

    @property
    def question(self) -> str:
        """What is asked; "" before it is asked, and of one without a task that is in the conversation."""
        return self._made.result().question.question if self._made and self._made.done() else ""

    @property
    def attachments(self) -> list[dict[str, Any]]:
        """What goes with the question, as that names it."""
        return self._made.result().question.attachments or [] if self._made and self._made.done() else []

    async def __aiter__(self) -> AsyncGenerator[Event, None]:
        turn, stop = await self._turn(), threading.Event()
        if self._reading is not None:
            await asyncio.wait({self._reading})  # who has watched before
        loop = asyncio.get_running_loop()

        def read() -> None:
            for event in turn:
                loop.call_soon_threadsafe(self._coming.put_nowait, event)

        reading = self._reading = asyncio.ensure_future(in_thread(read, stop))
        reading.add_done_callback(self._coming.put_nowait)
        try:
            while (event := await self._coming.get()) is not reading:
                if not isinstance(event, asyncio.Future):  # else the end of who has watched before
                    yield event
                if isinstance(event, Done | Failed):
                    return
            reading.result()
        finally:
            stop.set()

    async def reply(self) -> Reply:
        """Wait for the answer, or for calls that wait. Raises `ClientError`: what failed, or `TimedOut`."""
        async for _ in self:
            pass
        return (await self._turn()).reply()

    async def send(self) -> None:
        """See that it is asked: one that was prepared is otherwise asked when it is iterated over."""
        turn = await self._turn()
        if not turn.asked:
            await in_thread(turn.send)

    async def cancel(self) -> bool:
        """See to it that the turn can no longer be added. False when it has been. Raises `ClientError`."""
        return await in_thread((await self._turn()).cancel)

    async def _turn(self) -> Turn:
        self._made = self._made or asyncio.ensure_future(in_thread(self._make))
        return await asyncio.shield(self._made)


def _awaited(
    method: Callable[Concatenate[Any, _P], _T],
) -> Callable[Concatenate[Any, _P], Coroutine[Any, Any, _T]]:
    """The method of a `Client` or a `Memory`, to be awaited; functions that it is given are called on the loop."""

    @wraps(method)
    async def call(self: AsyncClient | AsyncMemory, /, *arguments: _P.args, **named: _P.kwargs) -> _T:
        loop = asyncio.get_running_loop()

        def on_the_loop(value: Any) -> Any:
            return partial(loop.call_soon_threadsafe, value) if callable(value) else value

        of = self.client if isinstance(self, AsyncClient) else self.memory
        there: Any = partial(method, of, *map(on_the_loop, arguments))
        return await in_thread(partial(there, **{name: on_the_loop(value) for name, value in named.items()}))

    return call


def _iterated(method: Callable[Concatenate[Client, _P], Turn]) -> Callable[Concatenate[AsyncClient, _P], AsyncTurn]:
    """The method of a `Client` that gives a turn."""

    @wraps(method)
    def call(self: AsyncClient, /, *arguments: _P.args, **named: _P.kwargs) -> AsyncTurn:
        return AsyncTurn(partial(method, self.client, *arguments, **named))

    return call


class AsyncMemory:
    """A `Memory` whose methods are awaited."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.user = memory.user

    erase = _awaited(Memory.erase)
    export = _awaited(Memory.export)
    facts = _awaited(Memory.facts)
    forget = _awaited(Memory.forget)
    restore = _awaited(Memory.restore)
    search = _awaited(Memory.search)
    turns = _awaited(Memory.turns)


class AsyncClient:
    """A `Client` whose methods are awaited, but for `memory`, and `turn` and others that give an `AsyncTurn`.

    Made by `flameagent.client.connect_async`; for any number of tasks of one loop. As a context manager it closes its
    connections. Parameters, results and errors are those of `Client`.
    """

    def __init__(self, client: Client) -> None:
        self.client = client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def memory(self, user: str | None = None) -> AsyncMemory:
        """What the agent remembers of a person: of who asks, unless it is said. `UsageError` where that is nobody."""
        return AsyncMemory(self.client.memory(user))

    ask = _awaited(Client.ask)
    attach = _iterated(Client.attach)
    attachment = _awaited(Client.attachment)
    add_items = _awaited(Client.add_items)
    attachments = _awaited(Client.attachments)
    begin_session = _awaited(Client.begin_session)
    close = _awaited(Client.close)
    close_session = _awaited(Client.close_session)
    decide = _awaited(Client.decide)
    conversation = _awaited(Client.conversation)
    delete_session = _awaited(Client.delete_session)
    describe = _awaited(Client.describe)
    fork = _awaited(Client.fork)
    failed_sessions = _awaited(Client.failed_sessions)
    report = _awaited(Client.report)
    history = _awaited(Client.history)
    import_conversation = _awaited(Client.import_conversation)
    interrupt = _iterated(Client.interrupt)
    last_session = _awaited(Client.last_session)
    owner = _awaited(Client.owner)
    pending = _awaited(Client.pending)
    prepare = _iterated(Client.prepare)
    prepare_decision = _iterated(Client.prepare_decision)
    prepare_retry = _iterated(Client.prepare_retry)
    reach = _awaited(Client.reach)
    rename = _awaited(Client.rename)
    retry = _awaited(Client.retry)
    rewind = _awaited(Client.rewind)
    session = _awaited(Client.session)
    sessions = _awaited(Client.sessions)
    set_metadata = _awaited(Client.set_metadata)
    status = _awaited(Client.status)
    steer = _iterated(Client.steer)
    turn = _iterated(Client.turn)


async def in_thread(function: Callable[[], _T], stop: threading.Event | None = None) -> _T:
    """What the function returns or raises, in a thread of its own, which gives up waiting for a turn at a `stop`."""
    loop, stop = asyncio.get_running_loop(), stop or threading.Event()
    outcome: asyncio.Future[_T] = loop.create_future()

    def tell(set_it: Callable[[], object]) -> None:
        if not outcome.done():
            set_it()

    def run() -> None:
        given_up.set(stop)
        try:
            ended = partial(outcome.set_result, function())
        except BaseException as error:
            ended = partial(outcome.set_exception, error)
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(tell, ended)

    # With the caller's context: whom a server serves counts in the thread, too.
    threading.Thread(target=copy_context().run, args=(run,), name="flame-agent", daemon=True).start()
    try:
        return await outcome
    except asyncio.CancelledError:
        stop.set()
        raise
