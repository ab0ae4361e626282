"""One turn: a question, or a decision on its calls, is sent, waited for and cancelled.

Promises that a question is asked and a decision sent once, whatever goes away meanwhile: it is sent again only if
Flame's list of tasks does not have it, and under the same ID, under which the agent answers once. Every wait has an
end.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from apis import Question
from flameagent.client import errors, events
from flameagent.client.connection import Connection, translate_errors
from flameagent.client.events import Listener, Progress
from flameagent.client.recorded_turn import RecordedTurn
from flameagent.client.reply import Reply
from flameagent.client.stream import Stream
from flameagent.client.task_result import read_result
from flameagent.client.turn_task import TurnTask
from flameagent.flame import NotFlame, NotFound, Refused, Unclear, Unreachable
from flameagent.flame.frontend import Session

_SLICE = 1.0
_LOOK_EVERY = 5.0
_PAUSE = 0.3
_STARTS = 5  # of the embedded engine, after which it does not come back


class Turn:
    """A question in an open session, or a decision on its calls: `send` it, `wait` for the answer, `cancel` it.

    `arrange` makes the engine ready for the turn, and is called again for one that came back; `timeout` is in
    seconds, from now on. With a `stream` the agent tells its events while it works.
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
    ) -> None:
        self.session_id = session.id
        self.question = question
        self._connection = connection
        self._arrange = arrange
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._task = TurnTask(connection, session.id, question, stream)
        self._record = RecordedTurn(connection, session, question)

    @property
    def asked(self) -> bool:
        """True once the engine has it."""
        return bool(self._task.id)

    def prolong(self) -> None:
        """From now on `wait` has its whole time again."""
        self._deadline = time.monotonic() + self._timeout

    def send(self) -> None:
        """Ask. Raises `ClientError`; `UnclearError` and `TimedOut` when it may have been asked all the same."""
        try:
            with translate_errors(self.session_id):
                self._task.open_stream()
                try:
                    self._task.create()
                except (Unclear, Unreachable):
                    self._go_on(events.ignore)
        except BaseException:
            self._task.close()
            raise

    def wait(self, listen: Listener | None = None) -> Reply:
        """Wait for the answer; `listen` is told the events. Raises `ClientError`: what failed, or `TimedOut`."""
        try:
            with translate_errors(self.session_id):
                return self._answered(listen or events.ignore)
        finally:
            self._task.close()

    def cancel(self) -> bool:
        """See to it that the turn can no longer be added. False when it has been: it is in the conversation.

        Raises `ClientError` where that cannot be done.
        """
        with translate_errors(self.session_id):
            return self._record.cancel()

    def _answered(self, listen: Listener) -> Reply:
        looked = time.monotonic()
        while True:
            try:
                task = self._task.follow(listen, max(min(_SLICE, self._deadline - time.monotonic()), 0.05))
                if task.state.terminal:
                    return self._record.reply(read_result(task, self._record))
                if time.monotonic() - looked >= _LOOK_EVERY:
                    # Flame 0.6 can say RUNNING for ever, after a node was lost.
                    looked = time.monotonic()
                    if (reply := self._recorded()) is not None:
                        return reply
            except (Unreachable, NotFlame, NotFound):
                # NotFlame: a channel that is closed under a call says CANCELLED.
                if (reply := self._go_on(listen)) is not None:
                    return reply
            except Refused as error:  # the engine knows of it, and cannot go on with it: its disk is full
                if (reply := self._recorded()) is not None:
                    return reply
                raise errors.UnclearError(
                    f"The engine cannot go on with this turn: {error}. It may have been added, or still be."
                ) from error
            self._in_time()

    def _go_on(self, listen: Listener) -> Reply | None:
        """The engine went away: wait for it, and see to it that the question is asked, once.

        The reply where the conversation has the answer already. Raises `NoSuchSession` when the session is gone.
        """
        listen(Progress("the engine went away: waiting for it"))
        self._task.begin_anew()
        self._record.reopen()
        starts = _STARTS
        while True:
            time.sleep(_PAUSE)
            try:
                self._connection.reopen()
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
        if time.monotonic() >= self._deadline:
            raise errors.TimedOut(f"No answer within {self._timeout:g} s. The turn may still finish.")
