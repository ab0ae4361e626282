"""Turns: all or nothing, and in the conversation once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrail,
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    OutputGuardrail,
    OutputGuardrailTripwireTriggered,
    Runner,
    UserError,
    function_tool,
)
from agents.testing import ScriptedModel, function_call
from agents.testing import assistant_message as said
from msgspec.structs import replace

from flameagent.apis import Answer
from flameagent.conversation import (
    Call,
    CancelledError,
    ConflictError,
    ConversationError,
    DecisionBody,
    EditBody,
    FlameSession,
    Usage,
)
from tests.support.conversations import (
    added,
    answered,
    ask,
    cold,
    cold_from_the_first,
    everything,
    message,
    open_session,
    turn,
    waiting,
)
from tests.support.memory_cache import MemoryCache


async def test_a_turn_is_one_record_and_its_answer_is_what_was_stored(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    answer = await ask(session, "t1", "how are you?")
    assert answer == answered("fine", 1, "t1")
    assert len(cache.objects[key].patches) == 1
    other = open_session(cache, key)
    assert await other.get_items() == [message("how are you?"), message("fine", "assistant")]
    assert await other.stored("t1", "how are you?") == answer
    assert other.model == "a-model"
    assert other.prompt == "Be kind."


async def test_inside_a_turn_its_items_are_seen_and_nothing_is_stored(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    await session.add_items([message("before")])
    async with session.turn("t1", "?"):
        await session.add_items([message("?"), message("wrong")])
        assert await session.pop_item() == message("wrong")
        assert await session.get_items() == [message("before"), message("?")]
        assert await session.get_items(1) == [message("?")]
        assert session.history()[-1] == '{"role": "user", "content": "?"}'
        assert await open_session(cache, key).get_items() == [message("before")]
        await session.clear_session()
        assert await session.get_items() == [message("before")]
        with pytest.raises(ConversationError, match="only items of that turn"):
            await session.pop_item()
    assert await session.get_items() == [message("before")]


class Refusal(Exception):
    pass


async def _model_fails(session: FlameSession) -> None:
    model = ScriptedModel([[function_call("look", {}, call_id="c1")], Refusal("the model's server is away")])
    await Runner.run(Agent(name="a", model=model, tools=[_look]), "?", session=session)


async def _tool_fails(session: FlameSession) -> None:
    @function_tool(failure_error_function=None)
    def burn() -> str:
        raise Refusal("no")

    model = ScriptedModel([[function_call("burn", {}, call_id="c1")], [said("never")]])
    await Runner.run(Agent(name="a", model=model, tools=[burn]), "?", session=session)


async def _too_many_calls(session: FlameSession) -> None:
    model = ScriptedModel([[function_call("look", {}, call_id=f"c{number}")] for number in range(3)])
    await Runner.run(Agent(name="a", model=model, tools=[_look]), "?", session=session, max_turns=2)


async def _input_guardrail(session: FlameSession) -> None:
    guardrail: InputGuardrail[Any] = InputGuardrail(lambda *_: GuardrailFunctionOutput(None, True))
    agent = Agent(name="a", model=ScriptedModel([[said("never")]]), input_guardrails=[guardrail])
    await Runner.run(agent, "?", session=session)


async def _output_guardrail(session: FlameSession) -> None:
    guardrail: OutputGuardrail[Any] = OutputGuardrail(lambda *_: GuardrailFunctionOutput(None, True))
    agent = Agent(name="a", model=ScriptedModel([[said("never")]]), output_guardrails=[guardrail])
    await Runner.run(agent, "?", session=session)


async def _stream_is_left(session: FlameSession) -> None:
    agent = Agent(name="a", model=ScriptedModel([[said("never")]]))
    result = Runner.run_streamed(agent, "?", session=session)
    async for _ in result.stream_events():
        raise Refusal("the reader has gone")


async def _is_cancelled(session: FlameSession) -> None:
    await session.add_items([message("?")])
    raise asyncio.CancelledError


@function_tool(name_override="look")
def _look() -> str:
    """Look."""
    return "seen"


@pytest.mark.parametrize(
    ("fails", "error"),
    [
        (_model_fails, Refusal),
        (_tool_fails, UserError),
        (_too_many_calls, MaxTurnsExceeded),
        (_input_guardrail, InputGuardrailTripwireTriggered),
        (_output_guardrail, OutputGuardrailTripwireTriggered),
        (_stream_is_left, Refusal),
        (_is_cancelled, asyncio.CancelledError),
    ],
)
async def test_a_turn_that_fails_leaves_no_trace_and_the_next_one_works(
    cache: MemoryCache, key: str, fails: Any, error: type[BaseException]
) -> None:
    session = open_session(cache, key)
    await ask(session, "t1", "first")
    before = everything(cold(cache, key)), len(cache.writes)
    with pytest.raises(error):
        async with session.turn("t2", "?"):
            await fails(session)
    assert (everything(cold(cache, key)), len(cache.writes)) == before
    assert len(await session.get_items()) == 2
    answer = await ask(session, "t2", "?")
    assert answer is not None
    assert answer.turn == 2


async def test_what_a_turn_leaves_behind_cannot_add_to_the_conversation(cache: MemoryCache, key: str) -> None:
    session, go_on = open_session(cache, key), asyncio.Event()

    async def late() -> None:
        await go_on.wait()
        with pytest.raises(ConversationError, match="has ended"):
            await session.get_items()
        with pytest.raises(ConversationError, match="has ended"):
            await session.pop_item()
        with pytest.raises(ConversationError, match="has ended"):
            await session.clear_session()
        with pytest.raises(ConversationError, match="has ended"):
            session.learn("name", "Ada")
        await session.add_items([message("late")])

    async with session.turn("t1", "?"):
        left_behind = asyncio.ensure_future(late())
    async with session.turn("t2", "?") as staged:
        go_on.set()
        with pytest.raises(ConversationError, match="has ended"):
            await left_behind
        assert staged.items == []
        await session.add_items([message("in time")])
    await session.add_items([message("after it")])
    assert await session.get_items() == [message("in time"), message("after it")]


@pytest.mark.parametrize("by", ["turn", "add", "clear"])
async def test_a_turn_conflicts_with_what_others_added_while_it_ran(cache: MemoryCache, key: str, by: str) -> None:
    session, other = open_session(cache, key), cold(cache, key)
    bodies = {
        "turn": turn("theirs"),
        "add": added("theirs"),
        "clear": EditBody("clear"),
    }
    with pytest.raises(ConflictError, match="nothing was added"):
        async with session.turn("mine", "?"):
            await session.add_items([message("?")])
            other.append(bodies[by])
    assert everything(cold(cache, key)) == everything(other)
    assert await ask(session, "mine", "?") is not None


async def test_a_roll_over_by_someone_else_is_no_conflict(cache: MemoryCache, key: str) -> None:
    session, other = open_session(cache, key), cold(cache, key, segment_records=1)
    await ask(session, "t1", "?")
    async with session.turn("t2", "?"):
        other.refresh()
        other._roll_over(other._require_segment())
        await session.add_items([message("after the roll-over")])
    assert session._log.conversation.segments == 1
    assert (await open_session(cache, key).get_items())[-1] == message("after the roll-over")


async def test_a_cancelled_turn_cannot_be_added_any_more(cache: MemoryCache, key: str) -> None:
    session, other = open_session(cache, key), cold(cache, key, segment_records=4)
    with pytest.raises(CancelledError, match="nothing was added"):
        async with session.turn("t1", "?"):
            await session.add_items([message("?")])
            other.append(EditBody("cancel", turn="t1"))
    for number in range(10):
        other.append(added(f"later {number}"))
    with pytest.raises(CancelledError):
        await ask(open_session(cache, key, window=2), "t1", "?")
    assert everything(other)["turn_count"] == 0


async def test_someone_who_cancels_is_heard_while_the_turn_runs(cache: MemoryCache, key: str) -> None:
    log, other = cold(cache, key), cold(cache, key, segment_records=4)
    log.refresh()
    assert not log.is_cancelled("t1")
    other.append(added("x"))
    other.append(EditBody("cancel", turn="t2"))
    assert not log.is_cancelled("t1")
    other.append(EditBody("cancel", turn="t1"))
    assert log.is_cancelled("t1")
    for number in range(10):
        other.append(added(f"{number}"))
    other.append(EditBody("cancel", turn="t3"))  # two segments later
    assert log.is_cancelled("t3")
    assert not log.is_cancelled("t4")


async def test_two_turns_cannot_run_in_one_session_object(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    results = await asyncio.gather(*(ask(session, f"t{n}", "?") for n in range(3)), return_exceptions=True)
    assert sum(isinstance(result, Answer) for result in results) == 1
    assert sum(isinstance(result, ConversationError) for result in results) == 2


async def test_a_turn_without_an_answer_is_an_empty_one(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    async with session.turn("t1", "?") as staged:
        pass
    assert staged.answer == Answer("", turn=1, turn_id="t1")
    assert await open_session(cache, key).stored("t1", "?") == staged.answer


async def test_usage_and_model_add_up_over_segments(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    for number in range(11):
        await ask(session, f"t{number}", "?")
    for log in (cold(cache, key, 4), cold_from_the_first(cache, key)):
        conversation = log.refresh()
        assert conversation.usage == Usage(requests=11, input_tokens=55)
        assert conversation.model == "a-model"


async def test_a_turn_with_the_sdk_is_one_record(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    model = ScriptedModel([[function_call("look", {}, call_id="c1")], [said("seen it")], [said("again")]])
    agent = Agent(name="a", model=model, tools=[_look])
    async with session.turn("t1", "look!") as staged:
        result = await Runner.run(agent, "look!", session=session)
        staged.answer = Answer(result.final_output)
    assert len(cache.objects[key].patches) == 1
    async with session.turn("t2", "again!"):
        await Runner.run(agent, "again!", session=session)
    assert len(model.calls[-1].input) == 5
    ((_, items), _) = everything(cold(cache, key))["turns"]
    assert [item.get("type", item.get("role")) for item in items] == [
        "user",
        "function_call",
        "function_call_output",
        "message",
    ]


def test_a_decision_says_how_far_the_turn_had_come_and_what_waited_on(cache: MemoryCache, key: str) -> None:
    log, both = cold(cache, key), [Call("a", "forget", "{}"), Call("b", "forget", "{}")]
    stopped = replace(waiting("t1"), calls=both, items=[message("?"), message("so far")], usage=Usage(requests=2))
    log.append(stopped)
    on = log.conversation.waiting
    assert on is not None
    log.append(DecisionBody("d1", on.record_id, approved=["a"]))
    interrupted = log.conversation.waiting
    assert interrupted is not None
    log.append(DecisionBody("d2", interrupted.record_id, approved=["a"], rejected=["b"]))
    log.append(turn("t1"))
    ((found, _),) = cold(cache, key).refresh().turns()
    first, second = found.decisions
    assert (first.item_count, first.usage.requests, first.calls, first.left) == (2, 2, both[:1], both[1:])
    assert (first.again, second.again, second.left) == (False, True, [])
