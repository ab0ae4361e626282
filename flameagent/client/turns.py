"""Turns of a session: made to be asked, and those that others have asked, followed from any event on, and cancelled.

Promises that whoever attaches to a turn sees what others saw of it, with the same numbers, as long as the object with
its events is there: until the next turn of the session runs. Later its record tells the same in short.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from flameagent.apis import Answer, Question
from flameagent.client import payloads
from flameagent.client.agent_connection import AgentConnection
from flameagent.client.connection import Connection, translate_errors
from flameagent.client.errors import ClientError, UsageError
from flameagent.client.events import ApprovalNeeded, AttemptBegan, Event, TextDelta, ToolCalled, ToolOutput
from flameagent.client.recorded_turn import RecordedTurn
from flameagent.client.reply import Reply
from flameagent.client.stream import Stream
from flameagent.client.turn import Turn
from flameagent.conversation import ConversationLog
from flameagent.conversation.item_text import describe_item
from flameagent.conversation.stream_key import stream_key
from flameagent.flame.frontend import Session, Task, TaskState
from flameagent.tracing import NOTHING, Span


class AttachedTurn(Turn):
    """A turn whose task is there already, made by somebody else, or that is in the conversation without one.

    With `live` what was not told while it ran is not told from its record either.
    """

    def __init__(
        self, *arguments: Any, after: int, answer: Answer | None = None, live: bool = False, **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        self._after = after
        self._answer = answer
        self._live = live

    def _answered(self) -> Generator[Event, None, Reply]:
        if self._answer is None:
            reply = yield from super()._answered()
        else:
            reply = self._record.reply(self._answer)
        stream = self._task.stream
        if not self._live and (stream is None or not stream.begun):  # its object is gone, or there never was one
            yield from self._of_the_record(reply)
        return reply

    def _of_the_record(self, reply: Reply) -> Iterator[Event]:
        """What the record tells of the turn; who has seen a part of it begins anew."""
        told: list[Event] = [AttemptBegan()] if self._after else []
        told += [event for item in reply.added if (event := _event(item)) is not None]
        if reply.pending:
            told.append(ApprovalNeeded(reply.pending.calls))
        for number, event in enumerate(told, start=self._after + 1):
            self._number = number
            yield replace(event, number=number)


class SteeringTurn(Turn):
    """A message for a turn that runs: the events are that turn's, and then those of the message, if it is asked."""

    def _answered(self) -> Generator[Event, None, Reply]:
        with suppress(ClientError):
            running = attach(
                self._connection, self._session, self.question.steer, 0, arrange=self._arrange, timeout=self._timeout
            )
            yield from running._followed()
        return (yield from super()._answered())


def make(
    connection: AgentConnection,
    session: Session,
    question: Question,
    timeout: float,
    *,
    followed: bool,
    named: bool,
    log: ConversationLog | None = None,
    span: Span = NOTHING,
) -> Turn:
    """A turn that is to be asked in an open session; only where it is `followed` the agent tells its events.

    `log` is the session's conversation, where it was read just now; `span` that which the turn is recorded as.
    """
    stream = None
    if followed and session.common_data is not None:  # without context an agent has no cache
        stream = Stream(connection, stream_key(connection.application.name, session.id, question.id))
        if question.decision is not None:
            stream.pass_over()
    arrange = partial(connection.arrange, session.id)
    kind = SteeringTurn if question.steer and stream else Turn
    more = dict[str, Any](stream=stream, named=named, log=log, watch=connection.watch, span=span)
    return kind(connection, session, question, arrange=arrange, timeout=timeout, **more)


def attach(
    connection: Connection,
    session: Session,
    turn_id: str | None,
    after: int,
    *,
    arrange: Callable[[], None],
    timeout: float,
    live: bool = False,
    decision_id: str = "",
) -> Turn:
    """The turn of that ID, or the one that runs; its events after that number come, with `live` not of its record.

    With a `decision_id` as it goes on behind that decision, also where another was tried later.

    Raises `UsageError` where there is none.
    """
    with translate_errors(session.id):
        task = _newest(connection, session, turn_id, decision_id) if turn_id else running_task(connection, session.id)
        asked = payloads.question(task.input) if task else None
        if task is not None and asked is not None:
            question = replace(asked, id=turn_of(task))
            stream = Stream(connection, asked.stream, after=after) if asked.stream else None
            answer, task_id = None, task.id
        elif turn_id:
            question, stream, task_id = Question("", turn_id), None, ""
            answer = RecordedTurn(connection, session, question).stored()
        else:
            raise UsageError(
                f"No turn runs in the session {session.id}: there is nothing to watch.", session_id=session.id
            )
        if answer is None and not task_id:
            raise UsageError(f"The session {session.id} has no turn {turn_id}.", session_id=session.id)
    made = dict[str, Any](arrange=arrange, timeout=timeout, stream=stream, task=task_id, watch=connection.watch)
    return AttachedTurn(connection, session, question, **made, after=after, answer=answer, live=live)


def running_task(connection: Connection, session_id: str) -> Task | None:
    """The task of the turn that runs in the session, or that is the next to; None where there is none."""
    if not connection.is_busy(session_id):
        return None
    open_tasks = [task for task in connection.frontend.tasks(session_id) if not task.state.terminal]
    return next((task for task in open_tasks if task.state == TaskState.RUNNING), next(iter(open_tasks), None))


def running_turn(connection: Connection, session: Session) -> str:
    """The ID of the turn that runs in the session, or that is the next to; "" where there is none."""
    with translate_errors(session.id):
        task = running_task(connection, session.id)
        return turn_of(task) if task else ""


def turn_of(task: Task) -> str:
    """The ID of a task's turn."""
    return payloads.turn_id(task.input) or f"{task.session_id}/{task.id}"


def cancel_running(connection: Connection, session: Session) -> str:
    """Cancel the turn that runs, not those that wait behind it; its ID, "" where none runs or it is answered."""
    with translate_errors(session.id):
        turn_id = running_turn(connection, session)
        return turn_id if turn_id and RecordedTurn(connection, session, Question("", turn_id)).cancel() else ""


def _newest(connection: Connection, session: Session, turn_id: str, decision_id: str) -> Task | None:
    tasks = [task for task in connection.frontend.tasks(session.id) if turn_of(task) == turn_id]
    named = [task for task in tasks if decision_id and payloads.task_name(task.input) == decision_id]
    found = named or tasks
    return found[-1] if found else None


def _event(item: dict[str, Any]) -> Event | None:
    """The event that an item of a record tells; None for what the user said, and other things."""
    if item.get("type") == "function_call":
        return ToolCalled(str(item.get("call_id", "")), str(item.get("name", "")), str(item.get("arguments", "")))
    if item.get("type") == "function_call_output":
        return ToolOutput(str(item.get("call_id", "")), str(item.get("output", ""))[:2000])
    if item.get("role") == "assistant":
        return TextDelta(describe_item(item)[1])
    return None
