"""One turn: a question, or a decision on its calls, is sent, waited for and cancelled.

Promises that a question is asked and a decision sent once, whatever goes away meanwhile: it is sent again only if
Flame's list of tasks does not have it, and under the same ID, under which the agent answers once. Every wait has an
end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextvars import ContextVar
from typing import Self

from flameagent.apis import Question
from flameagent.client import errors
from flameagent.client.connection import Connection, translate_errors
from flameagent.client.errors import ClientError
from flameagent.client.events import Done, Event, Failed, Listener, Progress, ignore
from flameagent.client.recorded_turn import RecordedTurn
from flameagent.client.reply import Reply
from flameagent.client.stream import Stream
from flameagent.client.task_result import read_result
from flameagent.client.turn_task import TurnTask
from flameagent.client.turn_watch import TurnWatch, watched
from flameagent.conversation import ConversationLog
from flameagent.flame import NotFlame, NotFound, Refused, Unclear, Unreachable
from flameagent.flame.frontend import Session
from flameagent.tracing import NOTHING, Span

_SLICE = 1.0
_LOOK_EVERY = 5.0
_PAUSE = 0.3
_STARTS = 5  # of the embedded engine, after which it does not come back


given_up: ContextVar[threading.Event | None] = ContextVar("nobody waits for this thread any more", default=None)
"""Set, it ends a wait for a turn with `GivenUp`."""


class GivenUp(Exception):
    """Nobody waits for this turn any more; it goes on."""


class Turn:
    """A question in an open session, or a decision on its calls: `send` it, then iterate over its events.

    The last event is `Done` or `Failed`; `reply` waits for that. One that was not sent is sent then. Whoever stops
    iterating stops watching, not the turn, and may iterate again: what comes is what they have not seen. `cancel`
    ends the turn.

    `arrange` makes the engine ready for the turn, and is called again for one that came back; `timeout` is in
    seconds, from now on. With a `stream` the agent tells its events while it works. `task` is the ID of its task,
    where somebody has made it; a turn that was `named` by its caller may have one. `log` is the session's
    conversation, where it was read already; a `watch` is told of the turn. `span` is recorded until the turn has
    ended, or nobody follows it.
    """

    def __init__(
        self,
        connection: Connection,
        session: Session,
        question: Question,
        *,
        arrange: Callable[[], None],
        timeout: float,
        stream: Stream | None = None,
        named: bool = False,
        task: str = "",
        log: ConversationLog | None = None,
        watch: TurnWatch | None = None,
        span: Span = NOTHING,
    ) -> None:
        self.session_id = session.id
        self._session = session
        self.question = question
        self._connection = connection
        self._arrange = arrange
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._named = named
        self._watch = watch
        self._task = TurnTask(connection, session.id, question, stream)
        self._task.id, self._task.made_elsewhere = task, bool(task)
        self._record = RecordedTurn(connection, session, question, log)
        self._span = span
        self._end: Done | Failed | None = None
        self._number = 0

    @property
    def turn_id(self) -> str:
        """The turn's ID."""
        return self.question.id

    @property
    def task_id(self) -> str:
        """The ID of its task; "" where there is none, or none yet."""
        return self._task.id

    @property
    def asked(self) -> bool:
        """True once the engine has it."""
        return bool(self._task.id)

    def prolong(self) -> None:
        """From now on `wait` has its whole time again."""
        self._deadline, self._end = time.monotonic() + self._timeout, None

    def send(self) -> Self:
        """Ask. Raises `ClientError`; `UnclearError` and `TimedOut` when it may have been asked all the same."""
        with translate_errors(self.session_id):
            if self._named and self._task.find(failed=False):
                return self
            if self._task.stream is not None and not (self._named or self.question.decision):
                self._task.stream.make()
            channels = self._connection.generation
            try:
                self._task.create()
            except (Unclear, Unreachable):
                deque(self._go_on(channels), maxlen=0)
        if self._watch is not None:
            self._watch.asked(self.session_id, self.question)
        return self

    def __iter__(self) -> Iterator[Event]:
        """The events of the turn from here on, the last one again and again."""
        if self._end is None:
            try:
                reply = yield from self._followed()
                self._end = Done(reply, self._next_number)
            except ClientError as error:
                self._end = Failed(error, self._next_number)
            except GivenUp:
                return
        yield self._end

    def reply(self) -> Reply:
        """Wait for the answer, or for calls that wait. Raises `ClientError`: what failed, or `TimedOut`."""
        deque(self, maxlen=0)
        if isinstance(self._end, Failed):
            raise self._end.error
        assert self._end is not None
        return self._end.reply

    def wait(self, listen: Listener | None = None) -> Reply:
        """Wait for the answer; `listen` is told the events before it. Raises `ClientError` as `reply` does."""
        listen, events = listen or ignore, self._followed()
        try:
            while True:
                listen(next(events))
        except StopIteration as end:
            reply: Reply = end.value
            return reply
        finally:
            events.close()

    def cancel(self) -> bool:
        """See to it that the turn can no longer be added. False when it has been: it is in the conversation.

        Raises `ClientError` where that cannot be done.
        """
        with translate_errors(self.session_id):
            return self._record.cancel()

    @property
    def _next_number(self) -> int:
        return max(self._number, self._task.stream.number if self._task.stream else 0) + 1

    def _followed(self) -> Generator[Event, None, Reply]:
        """The events, and the reply. Raises `ClientError`."""
        events = self._events()
        return events if self._watch is None else watched(self._watch, self.session_id, self.question, events)

    def _events(self) -> Generator[Event, None, Reply]:
        try:
            if not self.asked:
                self.send()
            with translate_errors(self.session_id):
                reply = yield from self._answered()
            self._span.set({"flame.turn.number": reply.turn or None, "flame.outcome": _outcome(reply)})
            return reply
        except ClientError as error:
            self._span.set({"flame.outcome": error.code})
            self._span.fail(error.code, str(error))
            raise
        finally:
            self._task.close()
            self._span.end()

    def _answered(self) -> Generator[Event, None, Reply]:
        looked = time.monotonic()
        while True:
            channels = self._connection.generation
            try:
                task = yield from self._task.follow(max(min(_SLICE, self._deadline - time.monotonic()), 0.05))
                if task.state.terminal:
                    return self._record.reply(read_result(task, self._record))
                if time.monotonic() - looked >= _LOOK_EVERY:
                    # Flame 0.6 can say RUNNING for ever, after a node was lost.
                    looked = time.monotonic()
                    if (reply := self._recorded()) is not None:
                        return reply
            except (Unreachable, NotFlame, NotFound):
                # NotFlame: a channel that is closed under a call says CANCELLED.
                if (reply := (yield from self._go_on(channels))) is not None:
                    return reply
            except Refused as error:  # the engine knows of it, and cannot go on with it: its disk is full
                if (reply := self._recorded()) is not None:
                    return reply
                raise errors.UnclearError(
                    f"The engine cannot go on with this turn: {error}. It may have been added, or still be."
                ) from error
            self._in_time()

    def _go_on(self, channels: int) -> Generator[Event, None, Reply | None]:
        """The engine went away behind these channels: wait for it, and see to it that the question is asked, once.

        The reply where the conversation has the answer already. Raises `NoSuchSession` when the session is gone.
        """
        yield Progress("the engine went away: waiting for it")
        self._task.begin_anew()
        self._record.reopen()
        starts = _STARTS
        while True:
            time.sleep(_PAUSE)
            try:
                self._connection.reopen(channels)
                channels = self._connection.generation
                self._arrange()
                if self._task.find():
                    return None
                if (reply := self._recorded()) is not None:
                    return reply
                self._task.create()
                return None
            except NotFound as error:
                raise errors.NoSuchSession(
                    f"The session {self.session_id} is gone: Flame no longer knows it."
                ) from error
            except (Unclear, Unreachable, NotFlame, errors.NoEngine) as error:
                # NoEngine: the embedded one, which may have been killed in the middle of its start, too.
                starts -= isinstance(error, errors.NoEngine)
                if starts == 0:
                    raise
                self._in_time()

    def _recorded(self) -> Reply | None:
        answer = self._record.answer_if_readable()
        return None if answer is None else self._record.reply(answer)

    def _in_time(self) -> None:
        if (left := given_up.get()) is not None and left.is_set():
            raise GivenUp
        if time.monotonic() >= self._deadline:
            raise errors.TimedOut(f"No answer within {self._timeout:g} s. The turn may still finish.")


def _outcome(reply: Reply) -> str:
    return "waiting" if reply.pending else "answered"
