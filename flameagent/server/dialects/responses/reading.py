"""How a response stands: from the conversation, and for what is not there yet, from the turn's task."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

from flameagent.apis import Question
from flameagent.client import payloads
from flameagent.client.async_client import AsyncTurn, in_thread
from flameagent.client.connection import translate_errors
from flameagent.client.errors import ClientError, DamagedError, TurnFailed
from flameagent.client.events import Done, Failed
from flameagent.client.reply import Reply
from flameagent.client.turns import turn_of
from flameagent.conversation import Conversation
from flameagent.flame.frontend import Task, TaskState
from flameagent.server.agents import Agents, Found
from flameagent.server.dialects.responses.ids import ResponseId
from flameagent.server.dialects.responses.passes import (
    Passes,
    Standing,
    Status,
    find,
    has_all_of,
    is_taken_back,
    metadata_of,
)
from flameagent.server.errors import NotFoundError
from flameagent.server.once import begun_at

_LOOKS = 3
_SOON = 20.0  # seconds, in which a turn that has ended says how


@dataclass(frozen=True)
class Known:
    """A response, its turn as far as the conversation has it, and the session's conversation.

    One that is at work has the `question` of its turn, and behind a decision that one's ID.
    """

    standing: Standing
    passes: Passes | None
    conversation: Conversation
    question: Question | None = None
    decision_id: str = ""


async def read(agents: Agents, found: Found, wanted: ResponseId) -> Known:
    """The response of that ID, in a session of who asks. Raises `NotFoundError`, `ClientError`."""
    for _ in range(_LOOKS):
        conversation = await _with_turn(found, wanted.turn_id)
        if is_taken_back(conversation, wanted.turn_id):
            break
        passes = find(conversation, wanted.turn_id)
        if passes is not None and passes.is_whole(wanted.number):
            return Known(completed(found, wanted, passes, conversation.prompt), passes, conversation)
        if passes is None and conversation.damage:
            raise DamagedError(str(conversation.damage), session_id=found.session_id)
        if (known := await _at_work(agents, found, wanted, conversation, passes)) is not None:
            return known
    raise NotFoundError("response", str(wanted))


async def _with_turn(found: Found, turn_id: str) -> Conversation:
    """The conversation of a session, as far as it takes to tell of a turn: mostly its newest part alone."""
    with suppress(DamagedError):
        newest = await found.client.conversation(found.session_id)
        has_it = newest.recent_turn(turn_id) is not None or newest.is_old_turn(turn_id)
        waits = newest.waiting is not None and newest.waiting.turn_id == turn_id
        if has_all_of(newest, turn_id) or not (has_it or waits):
            return newest
    return await whole(found)


async def whole(found: Found) -> Conversation:
    """The conversation of a session from its beginning. Raises `ClientError`."""
    return (await found.client.history(found.session_id)).conversation or Conversation()


async def settled(agents: Agents, found: Found, wanted: ResponseId, reply: Reply) -> Standing:
    """The response whose turn has just come to this reply."""
    conversation = reply.conversation
    if conversation is not None and has_all_of(conversation, wanted.turn_id):
        passes = find(conversation, wanted.turn_id)
        if passes is not None and passes.is_whole(wanted.number):
            return completed(found, wanted, passes, conversation.prompt)
    return (await read(agents, found, wanted)).standing


def completed(found: Found, wanted: ResponseId, passes: Passes, prompt: str) -> Standing:
    """A response whose pass has come to its end."""
    at = passes.at / 1000
    return Standing(
        wanted,
        found.agent,
        "completed",
        (begun_at(wanted.turn_id) or passes.at) / 1000,
        prompt,
        passes.output(wanted.number),
        passes.requested,
        passes.used(wanted.number),
        completed=at,
        metadata=passes.metadata,
    )


def failed(begun: Standing, error: ClientError) -> Standing:
    """The response that has come to this error."""
    status: Status = "cancelled" if error.code == "cancelled" else "failed"
    return Standing(begun.id, begun.agent, status, begun.created, begun.prompt, error=error, metadata=begun.metadata)


def begun(found: Found, wanted: ResponseId, question: Question | None, created: int, prompt: str = "") -> Standing:
    """The response of a turn that was just asked for; `created` is in epoch milliseconds."""
    at = (begun_at(wanted.turn_id) or created) / 1000
    metadata = metadata_of(question.context if question else None)
    return Standing(wanted, found.agent, "in_progress", at, prompt, metadata=metadata)


async def created(agents: Agents, wanted: ResponseId) -> int:
    """When a turn was asked, in epoch milliseconds."""
    if at := begun_at(wanted.turn_id):
        return at
    return next((task.created for task in await _tasks(agents, wanted)), 0)


async def _at_work(
    agents: Agents, found: Found, wanted: ResponseId, conversation: Conversation, passes: Passes | None
) -> Known | None:
    """The response whose pass is not in the conversation; None where it has just come to its end.

    Raises `NotFoundError`.
    """
    tasks = await _tasks(agents, wanted)
    own = _own(tasks, wanted, conversation, passes)
    if own is None:
        raise NotFoundError("response", str(wanted))
    question, asked = payloads.question(tasks[0].input), payloads.question(own.input)
    decision_id = asked.decision.id if asked is not None and asked.decision is not None else ""
    start, more = begun(found, wanted, question, tasks[0].created, conversation.prompt), (question, decision_id)
    if conversation.is_cancelled(wanted.turn_id):
        error = TurnFailed("The turn was cancelled. Nothing was added.", code="cancelled")
        return Known(failed(start, error), passes, conversation, *more)
    if not own.state.terminal:
        status: Status = "queued" if own.state == TaskState.PENDING else "in_progress"
        return Known(_at(start, status), passes, conversation, *more)
    named = found.session_id, wanted.turn_id, 0, _SOON
    end = await _end(found.client.attach(*named, live=True, decision_id=decision_id))
    if isinstance(end, Failed):
        return Known(failed(start, end.error), passes, conversation, *more)
    return None


def _own(tasks: Sequence[Task], wanted: ResponseId, conversation: Conversation, passes: Passes | None) -> Task | None:
    """The task of a pass that is not in the conversation; None where there is none.

    Of several decisions on the same calls the first that was made counts.
    """
    decisions = [(task, asked.decision) for task, asked in _asked(tasks) if asked.decision is not None]
    if not wanted.number:
        return next((task for task, asked in reversed(_asked(tasks)) if asked.decision is None), None)
    if wanted.number > len(decisions):
        return None
    waiting = conversation.waiting
    if passes is None or waiting is None:  # cancelled behind it
        return decisions[-1][0]
    if wanted.number != passes.last + (waiting.decision is None):
        return None
    on = [task for task, decision in decisions if decision.on == waiting.record_id]  # not recorded yet, or refused
    made = waiting.decision.decision if waiting.decision is not None else ""
    of_it = [task for task, decision in decisions if decision.id == made]
    ended = of_it or on
    return next((task for task in on if not task.state.terminal), ended[-1] if ended else None)


def _asked(tasks: Sequence[Task]) -> list[tuple[Task, Question]]:
    questions = ((task, payloads.question(task.input)) for task in tasks)
    return [(task, question) for task, question in questions if question is not None]


async def _end(turn: AsyncTurn) -> Done | Failed:
    async with aclosing(turn.__aiter__()) as events:
        async for event in events:
            if isinstance(event, Done | Failed):
                return event
    raise AssertionError("the last event is one of these")


async def _tasks(agents: Agents, wanted: ResponseId) -> list[Task]:
    """The tasks of the turn, oldest first."""

    def look() -> list[Task]:
        with translate_errors(wanted.session_id):
            found = agents.connection.frontend.tasks(wanted.session_id)
        return [task for task in found if turn_of(task) == wanted.turn_id]

    return await in_thread(look)


def _at(start: Standing, status: Status) -> Standing:
    return Standing(start.id, start.agent, status, start.created, start.prompt, metadata=start.metadata)
