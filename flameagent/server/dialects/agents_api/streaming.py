"""The events of a session, for whoever subscribes: turn after turn, whichever server they were asked through.

Promises that the events of a turn have the same IDs and say the same on every server, for whoever comes back too:
they are made of the numbers that the agent has given them. A connection that breaks ends nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from flameagent.apis import Question
from flameagent.client import payloads
from flameagent.client.async_client import in_thread
from flameagent.client.connection import Connection, translate_errors
from flameagent.client.errors import ClientError, ConflictError, NoSuchSession, UsageError
from flameagent.client.events import (
    ApprovalNeeded,
    AttemptBegan,
    Done,
    Event,
    Failed,
    MessageTaken,
    Progress,
    ToolCalled,
    ToolOutput,
)
from flameagent.client.turns import turn_of
from flameagent.flame import NotFound
from flameagent.flame.frontend import Task
from flameagent.server import sse
from flameagent.server.agents import Agents, Found
from flameagent.server.dialects.agents_api import objects, reading
from flameagent.server.dialects.agents_api.changes import Changes
from flameagent.server.dialects.agents_api.objects import Object
from flameagent.server.dialects.agents_api.reading import View
from flameagent.server.errors import sentence
from flameagent.server.items import Added, Change, Completed, Delta, LiveItems, Message, ToolCall, of_question
from flameagent.server.items import Reasoning as ReasoningItem

_DAY = 86_400.0
_LOOK, _SLOWER, _SELDOM = 2.0, 1.5, 15.0  # seconds between looks whether a turn that waits still does
_NEVER = 300.0  # and, for all that is not told, at an idle session
_SOON = 0.05
_AWAY = 1.0
_PASSING = ("no_engine", "timeout", "unclear")
"""Codes of errors that say nothing of the turn: it is followed further."""
_TURN = "agent.session.turn."


@dataclass
class _Turn:
    """A turn as far as it was told."""

    question: Question
    created: int
    live: LiveItems
    number: int = 0  # of the last event
    begun: bool = False
    calls: set[str] = field(default_factory=set)  # that were told
    clients: set[str] = field(default_factory=set)  # of them those of a client's tool
    held: dict[str, ToolCalled] = field(default_factory=dict)
    waits: frozenset[str] = frozenset()  # the calls that it waits for
    ended: bool = False
    rests: str = "idle"  # what the session is when it has ended


class Feed:
    """The events of one session for one subscriber, from the task `first` on."""

    def __init__(self, agents: Agents, changes: Changes, view: View, first: int) -> None:
        self._agents = agents
        self._changes = changes
        self._found: Found = view.found
        self._view = view
        self._next = first
        self._turns: dict[str, _Turn] = {}
        self._tools = {objects.tool(each)["name"] for each in view.conversation.tools}

    async def events(self, *, until_idle: bool = False, created: bool = False) -> AsyncIterator[bytes]:
        """Them, as they are sent; `until_idle` ends with what was begun, `created` begins with the session."""
        if created:
            yield self._event("agent.session.created", "session", session=self._view.as_json())
        last: _Turn | None = None
        pause = _LOOK
        with self._changes.of(self._found.session_id) as wake:
            while True:
                wake.clear()
                try:
                    task = await self._task()
                    rest, over = ([], False) if task is not None else await self._after(last)
                except ClientError:  # the engine is away
                    await asyncio.sleep(_AWAY)
                    continue
                if task is not None:
                    self._next = int(task.id) + 1
                    last = self._of(task)
                    if not last.ended:
                        async for told in self._follow(last, task):
                            yield told
                    continue
                for each in rest:
                    yield each
                if over or (until_idle and last is not None and last.ended and rest):
                    return
                if last is not None and last.ended:
                    if not rest:
                        await asyncio.sleep(_SOON)  # Flame still counts its task, or another one comes
                        continue
                    last = None
                try:
                    await asyncio.wait_for(wake.wait(), pause if last is not None else _NEVER)
                    pause = _LOOK
                except TimeoutError:
                    pause = min(pause * _SLOWER, _SELDOM)

    async def _task(self) -> Task | None:
        """The next one, if it is there. Their numbers count up."""
        connection, session_id = self._agents.connection, self._found.session_id

        def read() -> Task | None:
            with translate_errors(session_id), suppress(NotFound):
                return connection.frontend.task(session_id, str(self._next))
            return None

        return await in_thread(read)

    def _of(self, task: Task) -> _Turn:
        turn_id = turn_of(task)
        if turn_id not in self._turns:
            question = payloads.question(task.input) or Question("", turn_id)
            question.id = turn_id
            self._turns[turn_id] = _Turn(question, task.created, LiveItems(turn_id))
            while len(self._turns) > 2:  # the ones before are over
                del self._turns[next(iter(self._turns))]
        return self._turns[turn_id]

    async def _follow(self, turn: _Turn, task: Task) -> AsyncIterator[bytes]:
        """The events of a turn until it has ended, or waits."""
        turn_id, session_id = turn.question.id, self._found.session_id
        steers = bool(turn.question.steer)
        if not steers:
            for told in self._begin(turn):
                yield told
        while True:
            attached = self._found.client.attach(session_id, turn_id, turn.number, _DAY)
            try:
                async for event in attached:
                    if isinstance(event, Failed) and event.error.code in _PASSING:
                        break
                    if isinstance(event, Done) and event.reply.turn_id not in ("", turn_id):
                        turn.ended = True  # the turn that ran has taken the message in
                        return
                    if not isinstance(event, Progress):
                        for told in self._begin(turn):
                            yield told
                    for told in await self._told(turn, event, task):
                        yield told
                else:
                    return
            except (UsageError, NoSuchSession):  # it is nowhere: taken back, or deleted
                turn.ended = True
                return
            except ClientError:
                pass
            await asyncio.sleep(_AWAY)

    def _begin(self, turn: _Turn) -> Iterable[bytes]:
        if turn.begun:
            return
        turn.begun = True
        yield self._of_turn(turn, "created", status="queued")
        question = of_question(turn.question.id, turn.question.question)
        yield self._added(turn, "question", self._item(turn, question, whole=True))
        yield self._session_event(turn, "in_progress", "began")
        yield self._of_turn(turn, "in_progress", status="in_progress")

    async def _told(self, turn: _Turn, event: Event, task: Task) -> list[bytes]:
        """What an event of the agent is in this dialect."""
        turn.number = max(turn.number, event.number) if not isinstance(event, Done | Failed) else turn.number
        told: list[bytes] = []
        if turn.waits and not isinstance(event, ApprovalNeeded | Progress | AttemptBegan | Done | Failed):
            turn.waits = frozenset()
            told.append(self._session_event(turn, "in_progress", f"on_{event.number}"))
        match event:
            case Done(reply):
                if reply.pending is not None:
                    return told + self._waiting(turn, ApprovalNeeded(reply.pending.calls, turn.number))
                told += self._changes_of(turn, turn.live.finish(reply.added), "end", final=True)
                turn.ended = True
                usage = reply.usage or None
                told.append(self._of_turn(turn, "completed", status="completed", used=usage, task=task))
            case Failed(error):
                if isinstance(error, NoSuchSession):
                    turn.ended = True
                elif isinstance(error, ConflictError) and await self._still_waits(turn):
                    pass  # of two decisions the other one counts
                else:
                    told += self._failed(turn, error, task)
            case ApprovalNeeded():
                told += self._waiting(turn, event)
            case MessageTaken(message_id, text, number):
                item = self._item(turn, of_question(message_id, text), whole=True)
                told.append(self._added(turn, f"{number}_message", item))
            case ToolCalled(call) if call in turn.calls:
                pass  # a turn that goes on tells them again
            case ToolCalled(call, name) if name in self._tools:
                turn.held[call] = event  # until it is known whether the client is to run it
                told += self._changes_of(turn, turn.live.close(), event.number, before_call=True)
            case _:
                told += self._plain(turn, event)
        return told

    def _plain(self, turn: _Turn, event: Event) -> list[bytes]:
        told: list[bytes] = []
        match event:
            case AttemptBegan():
                turn.calls, turn.clients, turn.held = set(), set(), {}
            case ToolOutput(call) if call in turn.held:  # a tool of the agent itself
                told += self._changes_of(turn, turn.live.feed(turn.held.pop(call)), f"{event.number}_call")
                turn.calls.add(call)
            case ToolCalled(call):
                turn.calls.add(call)
        changes = turn.live.feed(event)
        return told + self._changes_of(turn, changes, event.number, before_call=isinstance(event, ToolCalled))

    def _waiting(self, turn: _Turn, event: ApprovalNeeded) -> list[bytes]:
        """The calls of the client are told now: before, nobody could say what came of them."""
        waits = frozenset(call.id for call in event.calls)
        if waits == turn.waits:
            return []
        turn.waits = waits
        told: list[bytes] = []
        required = []
        for call in event.calls:
            required.append(objects.required_action(self._found.agent, turn.question.id, call))
            if call.runner and call.id not in turn.calls:
                turn.held.pop(call.id, None)
                turn.calls.add(call.id)
                turn.clients.add(call.id)
                begun = turn.live.feed(ToolCalled(call.id, call.tool, call.arguments))
                told += self._changes_of(turn, begun, f"call_{call.id}")
        name = f"waits_{'_'.join(sorted(waits))}"
        return [*told, self._session_event(turn, "requires_action", name, required)]

    def _failed(self, turn: _Turn, error: ClientError, task: Task) -> list[bytes]:
        told = self._changes_of(turn, turn.live.close(), "end")
        turn.ended = True
        if error.code == "cancelled":
            return [*told, self._of_turn(turn, "cancelled", status="cancelled", task=task)]
        if error.code == "budget_reached":
            turn.rests = error.code
        failure = objects.failure(error.code, sentence(error))
        return [*told, self._of_turn(turn, "failed", status="failed", error=failure, task=task)]

    async def _after(self, turn: _Turn | None) -> tuple[list[bytes], bool]:
        """What is told where no task follows: the session is idle, what waited was cancelled; whether all is over."""
        try:
            self._view = view = await reading.view(self._agents, self._found, self._view)
        except NoSuchSession:
            return [], True
        if view.status == "failed":
            session = view.as_json()
            return [self._event("agent.session.failed", f"{view.session.id}_failed", session=session)], True
        if view.busy or turn is None:
            return [], False
        told: list[bytes] = []
        if not turn.ended:
            waiting = view.conversation.waiting
            if waiting is not None and waiting.turn_id == turn.question.id:
                return [], False
            if turn.question.id not in view.conversation.cancelled:
                return [], False
            turn.ended = True
            told.append(self._of_turn(turn, "cancelled", status="cancelled"))
        if view.status == "requires_action":
            return told, False
        return [*told, self._session_event(turn, turn.rests, turn.rests)], False

    async def _still_waits(self, turn: _Turn) -> bool:
        view = await reading.view(self._agents, self._found, self._view)
        waiting = view.conversation.waiting
        decided = waiting is not None and waiting.turn_id == turn.question.id
        return decided or any(each.turn == turn.question.id for each in view.conversation.recent)

    def _changes_of(
        self,
        turn: _Turn,
        changes: Iterable[Change],
        number: int | str,
        *,
        before_call: bool = False,
        final: bool = False,
    ) -> list[bytes]:
        """Changes of items as events; `final` are those at the end of the turn."""
        told: list[bytes] = []
        for change in changes:
            for name, fields in self._of_change(turn, change, before_call=before_call, final=final):
                where = {"output_index": change.index} if name != "item.added_output" else {}
                event_id = f"{number}_{len(told)}"
                told.append(self._turn_event(turn, name.removesuffix("_output"), event_id, **where, **fields))
        return told

    def _of_change(
        self, turn: _Turn, change: Change, *, before_call: bool, final: bool
    ) -> Iterable[tuple[str, Object]]:
        shown = change.item
        where = {"item_id": shown.id}
        match change:
            case Added():
                yield "item.added", {"item": self._item(turn, shown, whole=False)}
                if isinstance(shown, Message):
                    yield "content_part.added", {**where, "content_index": 0, "part": _part("output_text", "")}
                elif isinstance(shown, ReasoningItem):
                    yield (
                        "reasoning_summary_part.added",
                        {**where, "summary_index": 0, "part": _part("summary_text", "")},
                    )
            case Delta(Message(), _, text):
                yield "output_text.delta", {**where, "content_index": 0, "delta": text}
            case Delta(_, _, text):
                yield "reasoning_summary_text.delta", {**where, "summary_index": 0, "delta": text}
            case Completed():
                phase = ""
                if isinstance(shown, Message):
                    text = shown.text
                    yield "output_text.done", {**where, "content_index": 0, "text": text}
                    yield "content_part.done", {**where, "content_index": 0, "part": _part("output_text", text)}
                    phase = reading.phase_of(shown, before_call=before_call or not final)
                elif isinstance(shown, ReasoningItem):
                    text = shown.text
                    yield "reasoning_summary_text.done", {**where, "summary_index": 0, "text": text}
                    part = _part("summary_text", text)
                    yield "reasoning_summary_part.done", {**where, "summary_index": 0, "part": part}
                yield "item.done", {"item": self._item(turn, shown, whole=True, phase=phase)}
                if isinstance(shown, ToolCall) and shown.call_id in turn.clients:
                    yield "item.added_output", {"item": objects.output_of(shown, turn.question.id)}

    def _item(self, turn: _Turn, shown: Any, *, whole: bool, phase: str = "") -> Object:
        client = isinstance(shown, ToolCall) and shown.call_id in turn.clients
        return objects.item(shown, turn.question.id, self._found.agent, whole=whole, client=client, phase=phase)

    def _added(self, turn: _Turn, event_id: str, item: Object) -> bytes:
        return self._turn_event(turn, "item.added", event_id, item=item)

    def _of_turn(self, turn: _Turn, name: str, *, task: Task | None = None, **more: Any) -> bytes:
        """An event of the turn's life."""
        made = objects.turn(
            turn.question.id,
            self._found.session_id,
            self._found.agent,
            more.pop("status"),
            turn.created,
            completed=task.completed if task else 0,
            **more,
        )
        usage = {"usage": made["usage"]} if made["usage"] else {}
        return self._turn_event(turn, name, name, turn=made, **usage)

    def _turn_event(self, of: _Turn, name: str, event_id: str, **fields: Any) -> bytes:
        turn_id = of.question.id
        common = {"session_id": self._found.session_id, "turn_id": turn_id}
        return self._event(f"{_TURN}{name}", f"{turn_id}_{event_id}", **common, **fields)

    def _session_event(
        self, turn: _Turn, name: str, event_id: str, required: list[Object] | None = None, status: str = ""
    ) -> bytes:
        session = self._view.as_json(status or name, required)
        return self._event(f"agent.session.{name}", f"{turn.question.id}_{event_id}", session=session)

    def _event(self, kind: str, event_id: str, **fields: Any) -> bytes:
        return sse.event({"type": kind, "event_id": f"evt_{event_id}", **fields})


def _part(kind: str, text: str) -> Object:
    return {"type": kind, "text": text}


async def subscribe(agents: Agents, changes: Changes, found: Found) -> Feed:
    """The events from now on, and those of the turn that runs or waits, from its beginning.

    What comes after this call is told, also before the events are read. Raises `ClientError`.
    """
    view = await reading.view(agents, found)
    first = view.tasks + 1
    if view.status in ("in_progress", "requires_action"):
        first = await in_thread(partial(_first, agents.connection, view))
    return Feed(agents, changes, view, first)


def _first(connection: Connection, view: View) -> int:
    """The number of the task that began the turn which runs or waits."""
    with translate_errors(view.session.id):
        tasks = connection.frontend.tasks(view.session.id)
    waiting = view.conversation.waiting
    opened = [task for task in tasks if not task.state.terminal]
    turn_id = turn_of(opened[0]) if opened else waiting.turn_id if waiting else ""
    return next((int(task.id) for task in tasks if turn_of(task) == turn_id), len(tasks) + 1)
