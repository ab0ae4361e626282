"""Turns: all or nothing, and in the conversation once."""

from __future__ import annotations

import asyncio
import threading
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

from apis import Answer
from flameagent.conversation import (
    CancelledError,
    ConflictError,
    ConversationError,
    DamagedError,
    EditBody,
    FlameSession,
    MissingError,
    UnclearError,
    Usage,
)
from flameagent.flame.errors import Mismatch, Unreachable
from tests.support.conversations import PREFIX, added, begin, cold, cold_from_the_first, everything, message, turn
from tests.support.memory_cache import MemoryCache


@pytest.fixture
def cache() -> MemoryCache:
    return MemoryCache()


@pytest.fixture
def key(cache: MemoryCache) -> str:
    return begin(cache)


def open_session(cache: MemoryCache, key: str, **options: Any) -> FlameSession:
    return FlameSession("s", cold(cache, key, segment_records=4), **options)


async def ask(session: FlameSession, turn_id: str, question: str, answer: str = "fine") -> Answer | None:
    async with session.turn(turn_id, question) as staged:
        await session.add_items([message(question)])
        await session.add_items([message(answer, "assistant")])
        staged.answer, staged.model, staged.usage = Answer(answer), "a-model", Usage(requests=1, input_tokens=5)
    return staged.answer


async def test_a_turn_is_one_record_and_its_answer_is_what_was_stored(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    answer = await ask(session, "t1", "how are you?")
    assert answer == Answer("fine", turn=1, turn_id="t1", model="a-model")
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


async def test_a_repeated_turn_is_answered_with_the_stored_answer(cache: MemoryCache, key: str) -> None:
    first = await ask(open_session(cache, key), "t1", "?", "the first answer")
    session = open_session(cache, key)
    assert await ask(session, "t1", "?", "another answer") == first
    assert [item["content"] for item in await session.get_items()] == ["?", "the first answer"]
    assert await session.stored("t1", "?") == first
    assert await session.stored("t2", "?") is None


async def test_a_repeated_turn_is_known_in_later_segments_too(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    for number in range(30):
        await ask(session, f"t{number}", "?", str(number))
    late = open_session(cache, key, window=4)  # which reads the newest segments only
    assert await ask(late, "t0", "?", "another") == Answer("0", turn=1, turn_id="t0", model="a-model")
    assert late._log.conversation.segments > 5
    assert late._log.conversation.unloaded_items > 40
    assert late._log.conversation.turn_count == 30


async def test_a_repeated_turn_is_answered_once_however_long_ago_it_was(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    for number in range(70):
        await ask(session, f"t{number}", "?", str(number))
    for late in open_session(cache, key, window=4), session:
        assert await late.stored("t2", "?") == Answer("2", turn=3, turn_id="t2", model="a-model")
        with pytest.raises(ConflictError, match="another question"):
            await ask(late, "t3", "??")
    assert await ask(open_session(cache, key, window=4), "t1", "?", "another") == Answer(
        "1", turn=2, turn_id="t1", model="a-model"
    )
    assert await open_session(cache, key, window=4).stored("t70", "?") is None
    assert everything(session._log)["turn_count"] == 70


async def test_a_turn_that_was_cancelled_long_ago_or_cleared_is_refused(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    await ask(session, "t0", "?")
    await session.clear_session()
    for number in range(40):
        session._log.append(EditBody("cancel", turn=f"c{number}"))
        await ask(session, f"t{number + 1}", "?")
    for old in "c0", "t0":
        with pytest.raises(ConflictError, match="nothing was added"):
            await ask(open_session(cache, key, window=2), old, "?")
    assert everything(session._log)["turn_count"] == 41


async def test_two_that_run_the_same_turn_at_once_get_one_answer(cache: MemoryCache, key: str) -> None:
    one, two = open_session(cache, key), open_session(cache, key)
    async with one.turn("t1", "?") as first:
        first.answer = Answer("one")
        await one.add_items([message("one")])
        assert await ask(two, "t1", "?", "two") == Answer("two", turn=1, turn_id="t1", model="a-model")
    assert first.answer == Answer("two", turn=1, turn_id="t1", model="a-model")
    assert everything(one._log)["turn_count"] == 1


async def test_a_turn_id_that_answered_another_question_conflicts(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    await ask(session, "t1", "?")
    with pytest.raises(ConflictError, match="another question"):
        await session.stored("t1", "!")
    with pytest.raises(ConflictError, match="another question"):
        await ask(session, "t1", "!")
    assert len(await session.get_items()) == 2


@pytest.mark.parametrize("by", ["turn", "add", "clear", "cancel"])
async def test_a_turn_conflicts_with_what_others_added_while_it_ran(cache: MemoryCache, key: str, by: str) -> None:
    session, other = open_session(cache, key), cold(cache, key)
    bodies = {
        "turn": turn("theirs"),
        "add": added("theirs"),
        "clear": EditBody("clear"),
        "cancel": EditBody("cancel", turn="x"),
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


async def test_an_append_that_stays_unclear_says_so_and_the_repeated_turn_finds_its_answer(
    cache: MemoryCache, key: str
) -> None:
    session = FlameSession("s", cold(cache, key))
    session._log._patience = 0.0
    cache.faults.append("answer lost")

    def away_after_the_patch(call: str) -> None:
        if call == "patch":
            cache.on_call = lambda _: setattr(cache, "unreachable", 1)

    cache.on_call = away_after_the_patch
    with pytest.raises(UnclearError, match="may have been added"):
        await ask(session, "t1", "?", "the first")
    cache.on_call = lambda call: None
    answer = await ask(session, "t1", "?", "the second")
    assert answer is not None
    assert answer.answer == "the first"


async def test_a_cache_that_is_away_fails_the_turn_before_anything_is_sent(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    session._log._patience = 0.0
    with pytest.raises(Unreachable):
        async with session.turn("t1", "?"):
            cache.unreachable = 1
    assert cache.objects[key].patches == []


async def test_a_cache_that_is_away_for_a_while_before_the_append_is_waited_for(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    async with session.turn("t1", "?") as staged:
        await session.add_items([message("?")])
        cache.unreachable = 2
    assert staged.answer is not None
    assert everything(session._log)["turn_count"] == 1


async def test_a_cache_that_is_away_when_a_turn_begins_is_waited_for(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    cache.unreachable = 2
    assert await session.stored("t1", "?") is None
    cache.unreachable = 2
    async with session.turn("t1", "?") as staged:
        pass
    assert staged.number == 1
    assert await open_session(cache, key).stored("t1", "?") == staged.answer


async def test_a_cache_that_is_away_for_good_ends_a_turn_before_it_begins(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    session._log._patience = 0.0
    cache.unreachable = 1
    with pytest.raises(Unreachable):
        await session.stored("t1", "?")


async def test_what_waiting_does_not_change_is_not_waited_for(cache: MemoryCache, key: str) -> None:
    def disagrees(call: str) -> None:
        raise Mismatch("The cache speaks TLS.")

    session = open_session(cache, key)
    cache.on_call = disagrees
    with pytest.raises(Mismatch):
        await session.stored("t1", "?")


async def test_a_deleted_conversation_is_missing_and_not_damaged(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    await ask(session, "t1", "?")
    cache.delete(PREFIX)
    with pytest.raises(MissingError, match="gone"):
        await ask(session, "t2", "?")
    with pytest.raises(MissingError):
        await open_session(cache, key).get_items()


async def test_a_turn_that_is_cancelled_inside_its_append_is_known_afterwards(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    inside, go_on = threading.Event(), threading.Event()

    def hold(call: str) -> None:
        if call == "patch":
            inside.set()
            assert go_on.wait(10)

    cache.on_call = hold
    task = asyncio.ensure_future(ask(session, "t1", "?"))
    assert await asyncio.to_thread(inside.wait, 10)
    task.cancel()
    await asyncio.sleep(0.01)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    cache.on_call = lambda call: None
    assert await session.stored("t1", "?") == Answer("fine", turn=1, turn_id="t1", model="a-model")


async def test_damage_stops_a_turn_before_it_runs(cache: MemoryCache, key: str) -> None:
    session = open_session(cache, key)
    await ask(session, "t1", "?")
    cache.objects[key].patches.append((3, b"\xff"))
    with pytest.raises(DamagedError) as raised:
        async with session.turn("t2", "?"):
            pytest.fail("it ran")
    assert raised.value.record == 2
    assert await open_session(cache, key).stored("t1", "?") is not None


@pytest.mark.parametrize("guarded", ["put", "patch"])
async def test_every_write_is_announced(cache: MemoryCache, key: str, guarded: str) -> None:
    depth = 0
    unannounced = []

    class Guard:
        def __enter__(self) -> None:
            nonlocal depth
            depth += 1

        def __exit__(self, *_: object) -> None:
            nonlocal depth
            depth -= 1

    log = cold(cache, key, segment_records=2)
    log._guard = Guard
    cache.on_call = lambda call: unannounced.append(call) if call == guarded and not depth else None
    for number in range(8):
        log.append(turn(f"t{number}"))
    assert not unannounced
