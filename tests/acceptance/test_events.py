"""Turns as events: followed, attached to by others, steered and interrupted, and named by who asks."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flameagent.client import connect, connect_async
from flameagent.client.client import Client
from flameagent.client.errors import ConflictError, TurnFailed, UsageError, WaitingError
from flameagent.client.events import (
    ApprovalNeeded,
    Done,
    Event,
    MessageTaken,
    Progress,
    TextDelta,
    ToolCalled,
    ToolOutput,
)
from flameagent.client.reply import Reply
from flameagent.client.turn import Turn
from tests.acceptance.conftest import Warm
from tests.acceptance.program import PATIENCE, Program, ended, eventually
from tests.support.model_server import Call, ModelServer, Step, echo, error, said

MESSAGE = "and in Celsius"


@pytest.fixture
def client(embedded: Program) -> Iterator[Client]:
    with connect(environ=embedded.environment) as client:
        yield client


@pytest.fixture
def other(embedded: Program) -> Iterator[Client]:
    """Somebody else's client of the same engine."""
    with connect(environ=embedded.environment) as client:
        yield client


class Working:
    """A model that is asked, works once it is let, and calls a tool until it hears `until`, or once without."""

    def __init__(self, model: ModelServer, until: str = "") -> None:
        self.asked, self.let = threading.Event(), threading.Event()
        self._until = until
        model.script = self._answer

    def _answer(self, request: dict[str, Any]) -> Step:
        texts = [text for _, text in said(request)]
        since = texts[len(texts) - texts[::-1].index("work") :] if "work" in texts else ["another question"]
        if (self._until in since) if self._until else since:
            return echo(request)
        self.asked.set()
        self.let.wait(PATIENCE)
        number = len(request["messages"])
        return Step(text="Let me see. ", calls=(Call("recall", '{"key": "name"}', f"call_{number}"),), delay=0.7)


def told(events: list[Event]) -> list[Event]:
    """The events that the agent has told: those with numbers, but for progress."""
    return [event for event in events if event.number and not isinstance(event, Progress)]


def in_background(do: Callable[[], Any]) -> Callable[[], Any]:
    """Begin it in a thread; the result waits for what came of it, and raises what it raised."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(do())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def result() -> Any:
        thread.join(PATIENCE)
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    return result


def items(client: Client, session: str) -> list[str]:
    """The items of the newest turn in short."""
    conversation = client.history(session).conversation
    assert conversation is not None
    *_, (_, last) = conversation.turns()
    return [str(item["content"]) if item.get("role") == "user" else str(item["type"]) for item in last]


def test_everybody_sees_the_same_events_of_a_turn_from_any_number_on(
    client: Client, other: Client, embedded: Program, warm_here: Warm, model: ModelServer
) -> None:
    work = Working(model)
    turn = client.turn("work", warm_here.id)
    mine = in_background(lambda: list(turn))
    assert work.asked.wait(PATIENCE)
    theirs = in_background(lambda: list(other.attach(warm_here.id)))
    later = in_background(lambda: list(other.attach(warm_here.id, turn.turn_id, after=3)))
    shown = embedded.start("-s", warm_here.part)
    assert shown.stderr is not None and shown.stderr.readline() == "> work\n"
    work.let.set()
    events = mine()
    numbers = [event.number for event in events if event.number]
    assert numbers == list(range(1, len(numbers) + 1))
    assert [type(event) for event in told(events)][:3] == [TextDelta, ToolCalled, ToolOutput]
    assert isinstance(events[-1], Done) and events[-1].reply == turn.reply()
    called = next(event for event in events if isinstance(event, ToolCalled))
    assert (called.tool, called.arguments, called.agent) == ("recall", '{"key": "name"}', "weather-forecaster")

    def same(one: list[Event]) -> list[Event]:
        return [event for event in told(one) if not isinstance(event, Done)]

    assert same(theirs()) == same(events)
    assert same(later()) == [event for event in same(events) if event.number > 3]
    assert turn.reply().answer in ended(shown).out
    # It has ended: its events are there until the next turn, and then those of its record.
    assert same(list(other.attach(warm_here.id, turn.turn_id))) == same(events)
    client.ask("and now?", warm_here.id)
    kinds = [type(event) for event in other.attach(warm_here.id, turn.turn_id)]
    assert [kind for kind in kinds if kind is not Progress][-2:] == [TextDelta, Done]


def test_nothing_that_runs_cannot_be_attached_to(client: Client, embedded: Program, warm_here: Warm) -> None:
    said = embedded("-s", warm_here.id, code=2).err
    assert said.startswith(f"No turn runs in the session {warm_here.id}: there is nothing to watch.")
    with pytest.raises(UsageError, match="has no turn nonsense"):
        client.attach(warm_here.id, "nonsense")


def test_an_approval_is_an_event_and_the_decision_goes_on_with_the_numbers(
    client: Client, warm_here: Warm, model: ModelServer
) -> None:
    model.steps.extend([Step(calls=(Call("forget", '{"key": "city"}', "f-1"),)), Step(text="Forgotten.")])
    turn = client.turn("forget my city", warm_here.id)
    events = list(turn)
    approval, end = told(events)[-2:]
    assert isinstance(approval, ApprovalNeeded) and [call.tool for call in approval.calls] == ["forget"]
    assert isinstance(end, Done) and end.reply.pending is not None
    with pytest.raises(WaitingError):
        client.steer(warm_here.id, "hurry").reply()
    assert client.decide(warm_here.id, approve=end.reply.pending.chosen(()), on_text=lambda _: None).answer
    again = told(list(client.attach(warm_here.id, turn.turn_id)))
    assert told(events)[:-1] == again[: len(told(events)) - 1]
    assert [event.text for event in again if isinstance(event, TextDelta)] == ["Forgotten."]
    numbers = [event.number for event in again]
    assert numbers == sorted(numbers) and len(numbers) == len(set(numbers))


def test_only_what_was_told_while_a_turn_ran_may_be_wanted(client: Client, warm_here: Warm) -> None:
    turn = client.turn("work", warm_here.id, turn_id="told-live")
    whole = told(list(turn))
    assert told(list(client.attach(warm_here.id, "told-live", live=True))) == whole
    client.ask("and now?", warm_here.id)

    def is_gone() -> bool:
        return [type(each) for each in told(list(client.attach(warm_here.id, "told-live", live=True)))] == [Done]

    eventually(is_gone)


def test_items_are_added_once_and_a_copy_is_made_once(client: Client, warm_here: Warm, model: ModelServer) -> None:
    copy = client.fork(warm_here.id, session_id=f"copy-{uuid.uuid4().hex}")
    assert client.fork(warm_here.id, session_id=copy.session_id).session_id == copy.session_id
    item = {"role": "user", "content": "by the way"}
    first = client.add_items(copy.session_id, [item], edit_id="once")
    again = client.add_items(copy.session_id, [item], edit_id="once")
    assert first.items == again.items == [item] and first.place == again.place
    newest = client.conversation(copy.session_id)
    assert newest.items()[-1] == item and newest.items().count(item) == 1
    work = Working(model)
    running = client.turn("work", copy.session_id)
    assert work.asked.wait(PATIENCE)
    with pytest.raises(ConflictError, match="A turn runs"):
        client.add_items(copy.session_id, [item])
    work.let.set()
    assert running.reply().answer


@pytest.mark.parametrize("streamed", [True, False])
def test_a_message_goes_into_the_turn_that_runs_and_is_recorded_there(
    client: Client, other: Client, warm_here: Warm, model: ModelServer, streamed: bool
) -> None:
    work = Working(model, MESSAGE)
    name = f"message-{streamed}"
    ask = client.turn if streamed else client.ask
    asked = in_background(lambda: ask("work", warm_here.id))
    assert work.asked.wait(PATIENCE)
    first = other.steer(warm_here.id, MESSAGE, turn_id=name)
    again = other.steer(warm_here.id, MESSAGE, turn_id=name)  # the same message: it is given once
    work.let.set()
    told_first, reply = list(first), asked()
    reply = reply.reply() if isinstance(reply, Turn) else reply
    assert isinstance(reply, Reply) and reply.steered == [name]
    for steering in (first.reply(), again.reply()):
        assert (steering.turn_id, steering.answer) == (reply.turn_id, reply.answer)
        assert steering.note.endswith("The turn that ran has taken the message in.")
    if streamed:
        assert [event.text for event in told_first if isinstance(event, MessageTaken)] == [MESSAGE]
    recorded = items(client, warm_here.id)
    assert recorded.count(MESSAGE) == 1 and recorded[0] == "work"
    assert recorded[recorded.index(MESSAGE) - 1] == "function_call_output"
    assert items(client, warm_here.id) == recorded, "it is no turn of its own"


def test_a_message_for_a_turn_that_ends_without_it_is_a_question_of_its_own(
    client: Client, embedded: Program, warm_here: Warm, model: ModelServer
) -> None:
    held = threading.Event()

    def answer(request: dict[str, Any]) -> Step:
        held.wait(PATIENCE)
        return echo(request)

    model.script = answer
    turn = client.turn("quick", warm_here.id)
    steering = client.steer(warm_here.id, "too late")
    held.set()
    reply = steering.reply()
    assert reply.turn_id == steering.turn_id != turn.turn_id and "a question of its own" in reply.note
    assert items(client, warm_here.id)[0] == "too late"
    none = embedded("-s", warm_here.id, "--steer", "-q", "-m", "nobody runs")
    assert none.out.endswith(": nobody runs\n")


def test_a_turn_is_interrupted_by_a_question(
    client: Client, embedded: Program, warm_here: Warm, model: ModelServer
) -> None:
    work = Working(model)
    turn = client.turn("work", warm_here.id)
    assert work.asked.wait(PATIENCE)
    asked = in_background(lambda: embedded("-s", warm_here.id, "--interrupt", "-q", "-m", "never mind"))
    with pytest.raises(TurnFailed, match="cancelled"):
        turn.reply()
    work.let.set()
    assert asked().out.endswith(": never mind\n")
    assert items(client, warm_here.id)[0] == "never mind"


def test_a_question_that_waits_says_how_many_turns_come_before_it(
    client: Client, warm_here: Warm, model: ModelServer
) -> None:
    work = Working(model)
    first = client.turn("work", warm_here.id)
    assert work.asked.wait(PATIENCE)
    second = client.turn("second", warm_here.id)
    place = "waiting for a turn before this one"
    assert place in [event.doing for event in _until(second, place) if isinstance(event, Progress)]
    work.let.set()
    assert first.reply().turn < second.reply().turn


def _until(turn: Turn, doing: str) -> Iterator[Event]:
    for event in turn:
        yield event
        if isinstance(event, Progress) and event.doing == doing:
            return


def test_a_question_under_the_id_of_its_caller_is_answered_once(
    client: Client, other: Client, warm_here: Warm, model: ModelServer
) -> None:
    asked = [in_background(lambda c=each: c.ask("once", warm_here.id, turn_id="key-1")) for each in (client, other)]
    replies = [each() for each in asked]
    replies.append(client.ask("once", warm_here.id, turn_id="key-1"))
    assert {(reply.turn, reply.turn_id, reply.answer) for reply in replies} == {
        (replies[0].turn, "key-1", replies[0].answer)
    }
    with pytest.raises(ConflictError):
        client.ask("something else", warm_here.id, turn_id="key-1")
    model.steps.append(error(400))
    with pytest.raises(TurnFailed):
        client.ask("again", warm_here.id, turn_id="key-2")
    assert client.ask("again", warm_here.id, turn_id="key-2").turn == replies[0].turn + 1


async def test_many_turns_at_once_on_one_loop(embedded: Program, warm_here: Warm) -> None:
    async with connect_async(environ=embedded.environment) as client:
        asked = [client.turn(f"question {number}", warm_here.id) for number in range(10)]
        plain = [client.ask(f"question {number}", warm_here.id) for number in range(10, 20)]

        async def watch(number: int) -> str:
            texts = [event.text async for event in asked[number] if isinstance(event, TextDelta)]
            assert "".join(texts) == (await asked[number].reply()).answer
            return "".join(texts)

        answers = await asyncio.gather(*(watch(number) for number in range(10)))
        answers += [reply.answer for reply in await asyncio.gather(*plain)]
        assert [answer.rpartition(": ")[2] for answer in answers] == [f"question {number}" for number in range(20)]
