"""`FlameSession` used directly: what the SDK's own tests ask of every session (0.24.0, tests/memory)."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from agents import Agent, RunConfig, Runner, function_tool
from agents.memory import SessionSettings
from agents.testing import ScriptedModel, function_call
from agents.testing import assistant_message as said

from flameagent.conversation import ConversationLog, DamagedError, EditBody, FlameSession, Item
from flameagent.flame.errors import Unreachable
from tests.support.conversations import PREFIX, added, begin, cold, message
from tests.support.memory_cache import MemoryCache


@pytest.fixture
def session(cache: MemoryCache) -> FlameSession:
    return FlameSession("s", cold(cache, begin(cache), segment_records=4))


def again(cache: MemoryCache, session: FlameSession) -> FlameSession:
    """The same conversation as another process sees it."""
    key = next(iter(cache.objects))
    return FlameSession(session.session_id, cold(cache, key, segment_records=4))


async def run(method: str, agent: Agent[Any], asked: Any, **options: Any) -> Any:
    if method == "run":
        return await Runner.run(agent, asked, **options)
    if method == "run_sync":

        def in_a_thread() -> Any:
            asyncio.set_event_loop(asyncio.new_event_loop())
            try:
                return Runner.run_sync(agent, asked, **options)
            finally:
                asyncio.get_event_loop().close()

        return await asyncio.to_thread(in_a_thread)
    result = Runner.run_streamed(agent, asked, **options)
    async for _ in result.stream_events():
        pass
    return result


methods = pytest.mark.parametrize("method", ["run", "run_sync", "run_streamed"])


async def test_items_come_back_in_the_order_in_which_they_were_added(session: FlameSession) -> None:
    await session.add_items([message("1"), message("2", "assistant")])
    await session.add_items([message("3")])
    assert await session.get_items() == [message("1"), message("2", "assistant"), message("3")]


async def test_a_new_session_is_empty_but_for_its_context(cache: MemoryCache) -> None:
    assert await FlameSession("s", cold(cache, begin(cache))).get_items() == []
    key = begin(cache, ['{"role": "user", "content": "earlier"}'])
    assert await FlameSession("s", cold(cache, key)).get_items() == [message("earlier")]


async def test_adding_nothing_appends_nothing(session: FlameSession, cache: MemoryCache) -> None:
    await session.add_items([])
    assert all(not stored.patches for stored in cache.objects.values())


@pytest.mark.parametrize("limit", [0, 1, 3, 10, 11, 100])
async def test_a_limit_gives_the_newest_items_oldest_first(session: FlameSession, limit: int) -> None:
    items = [message(str(number)) for number in range(10)]
    for item in items:
        await session.add_items([item])
    assert await session.get_items(limit) == (items[-limit:] if limit else [])


async def test_the_limit_of_the_settings_counts_unless_another_is_given(cache: MemoryCache) -> None:
    session = FlameSession("s", cold(cache, begin(cache)), session_settings=SessionSettings(limit=2))
    items = [message(str(number)) for number in range(5)]
    await session.add_items(items)
    assert await session.get_items() == items[-2:]
    assert await session.get_items(4) == items[-4:]


async def test_pop_takes_the_newest_item_also_from_earlier_segments(
    session: FlameSession, cache: MemoryCache
) -> None:
    items = [message(str(number)) for number in range(12)]
    for item in items:
        await session.add_items([item])
    other = again(cache, session)
    for item in reversed(items):
        assert await other.pop_item() == item
    assert await other.pop_item() is None
    assert await session.get_items() == []


async def test_pop_on_an_empty_session_is_none_and_appends_nothing(session: FlameSession, cache: MemoryCache) -> None:
    assert await session.pop_item() is None
    assert all(not stored.patches for stored in cache.objects.values())


async def test_two_that_pop_at_once_get_different_items(session: FlameSession, cache: MemoryCache) -> None:
    await session.add_items([message(str(number)) for number in range(8)])
    other = again(cache, session)
    popped = await asyncio.gather(*(who.pop_item() for who in [session, other] * 4))
    assert sorted(item["content"] for item in popped if item) == [str(number) for number in range(8)]
    assert await session.get_items() == await other.get_items() == []


async def test_clear_removes_everything_and_the_session_goes_on(session: FlameSession, cache: MemoryCache) -> None:
    for number in range(9):
        await session.add_items([message(str(number))])
    await session.clear_session()
    assert await session.get_items() == []
    assert await again(cache, session).get_items() == []
    await session.add_items([message("after")])
    assert await again(cache, session).get_items() == [message("after")]
    await session.clear_session()
    assert await session.pop_item() is None


async def test_sessions_do_not_see_each_other(cache: MemoryCache) -> None:
    one = FlameSession("one", cold(cache, begin(cache, prefix="openai-agent/one")))
    two = FlameSession("two", cold(cache, begin(cache, prefix="openai-agent/two")))
    await one.add_items([message("1")])
    await two.add_items([message("2")])
    await two.clear_session()
    assert await one.get_items() == [message("1")]
    assert await two.pop_item() is None


SPECIAL: list[Item] = [
    {"role": "user", "content": "こんにちは 😊👍 Привет \u2028 \x00 \x7f \"'\\ </script> ; DROP TABLE sessions; --"},
    {"role": "assistant", "content": [{"type": "output_text", "text": "", "annotations": [], "logprobs": None}]},
    {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a": "\\ud800"}', "id": "__fake_id__"},
    {"type": "function_call_output", "call_id": "c1", "output": "[1, 2.5, -0.0, 1e22]"},
    {
        "type": "reasoning",
        "id": "r",
        "summary": [],
        "provider_data": {"n": [1.0, -0.0, 1e300, 2**80, True, None, {}]},
    },
    {"kind": "turn", "v": 2, "seq": 0, "prev": "", "id": "x", "hint": "openai-agent/s/o", "": [], "é": "\ufffd"},
]


@pytest.mark.parametrize("item", SPECIAL, ids=range(len(SPECIAL)))
async def test_items_come_back_exactly(session: FlameSession, cache: MemoryCache, item: Item) -> None:
    await session.add_items([item])
    for reader in (session, again(cache, session)):
        (got,) = await reader.get_items()
        assert repr(got) == repr(item)
        assert list(got) == list(item)


async def test_halves_of_characters_are_not_kept(session: FlameSession, cache: MemoryCache) -> None:
    await session.add_items(
        [message("half a pair: \ud83d, the other half first: \udc00\ud800, a pair: \ud83d\ude00")]
    )
    kept = message("half a pair: \ufffd, the other half first: \ufffd\ufffd, a pair: \U0001f600")
    for reader in (session, again(cache, session)):
        assert await reader.get_items() == [kept]


async def test_what_a_caller_does_to_its_items_stays_with_the_caller(session: FlameSession) -> None:
    mine: Item = {"role": "user", "content": [{"type": "input_text", "text": "as it was"}]}
    await session.add_items([mine])
    mine["content"][0]["text"] = "changed by its writer"
    (got,) = await session.get_items()
    got["content"][0]["text"] = "changed by a reader"
    assert (await session.get_items())[0]["content"][0]["text"] == "as it was"


@pytest.mark.parametrize("item", ["just text", 1, None, ["a"], {"role": object()}])
async def test_what_is_not_a_json_object_is_refused_and_leaves_the_session_sound(
    session: FlameSession, cache: MemoryCache, item: Any
) -> None:
    await session.add_items([message("before")])
    with pytest.raises((ValueError, TypeError)):
        await session.add_items([item])
    assert await again(cache, session).get_items() == [message("before")]


async def test_an_error_of_the_cache_reaches_the_caller_and_the_session_goes_on(
    session: FlameSession, cache: MemoryCache
) -> None:
    await session.add_items([message("before")])
    session._log._patience = 0.0
    cache.unreachable = 1
    with pytest.raises(Unreachable):
        await session.add_items([message("never")])
    await session.add_items([message("after")])
    assert await session.get_items() == [message("before"), message("after")]


async def test_damage_reaches_the_caller(session: FlameSession, cache: MemoryCache) -> None:
    for number in range(3):
        await session.add_items([message(str(number))])
    key = next(iter(cache.objects))
    cache.replace(key, 3, b"{}")
    with pytest.raises(DamagedError, match="Record 2 ") as raised:
        await again(cache, session).get_items()
    assert raised.value.record == 2


async def test_one_session_object_can_be_used_by_many_tasks_and_threads(session: FlameSession) -> None:
    await asyncio.gather(*(session.add_items([message(f"task {number}")]) for number in range(20)))

    def add(number: int) -> None:
        asyncio.run(session.add_items([message(f"thread {number}")]))

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(add, range(20)))
    contents = [item["content"] for item in await session.get_items()]
    assert sorted(contents) == sorted([f"task {n}" for n in range(20)] + [f"thread {n}" for n in range(20)])


@pytest.mark.parametrize("operation", ["add", "pop", "clear"])
async def test_a_change_that_is_cancelled_while_it_is_appended_is_waited_for(
    session: FlameSession, cache: MemoryCache, operation: str
) -> None:
    await session.add_items([message("first")])
    inside, go_on = threading.Event(), threading.Event()

    def hold(call: str) -> None:
        if call == "patch":
            inside.set()
            assert go_on.wait(10)

    cache.on_call = hold
    change = {
        "add": lambda: session.add_items([message("second")]),
        "pop": session.pop_item,
        "clear": session.clear_session,
    }[operation]
    task = asyncio.ensure_future(change())
    assert await asyncio.to_thread(inside.wait, 10)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0.01)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    expected = [message("first"), message("second")] if operation == "add" else []
    assert await again(cache, session).get_items() == expected


async def test_history_is_the_items_as_the_context_has_them(session: FlameSession, cache: MemoryCache) -> None:
    for item in SPECIAL:
        await session.add_items([item])
    key = begin(cache, session.history())
    assert repr(await FlameSession("copy", cold(cache, key)).get_items()) == repr(SPECIAL)


@methods
async def test_an_agent_remembers_over_runs_and_processes(
    method: str, session: FlameSession, cache: MemoryCache
) -> None:
    model = ScriptedModel([[said("San Francisco")], [said("California")]])
    agent = Agent(name="test", model=model)
    first = await run(method, agent, "What city is the Golden Gate Bridge in?", session=session)
    assert first.final_output == "San Francisco"
    other = again(cache, session)
    second = await run(method, agent, "What state is it in?", session=other)
    assert second.final_output == "California"
    asked = model.calls[-1].input
    assert [item["role"] for item in asked] == ["user", "assistant", "user"]
    assert asked[0]["content"] == "What city is the Golden Gate Bridge in?"
    assert len(await session.get_items()) == 4


@methods
async def test_calls_of_tools_and_their_outputs_are_kept(method: str, session: FlameSession) -> None:
    @function_tool
    def double(number: int) -> int:
        return 2 * number

    model = ScriptedModel([[function_call("double", {"number": 21}, call_id="c1")], [said("42")], [said("yes")]])
    agent = Agent(name="test", model=model, tools=[double])
    await run(method, agent, "twice 21?", session=session)
    kinds = [item.get("type", item.get("role")) for item in await session.get_items()]
    assert kinds == ["user", "function_call", "function_call_output", "message"]
    await run(method, agent, "sure?", session=session)
    assert len(model.calls[-1].input) == 5


@methods
async def test_a_list_of_items_can_be_the_input(method: str, session: FlameSession) -> None:
    earlier = [message("Earlier"), message("Reply", "assistant")]
    await session.add_items(earlier)
    model = ScriptedModel([[said("ok")]])
    await run(method, Agent(name="test", model=model), [message("Now")], session=session)
    assert model.calls[-1].input == [*earlier, message("Now")]


@methods
async def test_an_input_callback_chooses_what_the_model_sees_and_nothing_is_stored_twice(
    method: str, session: FlameSession
) -> None:
    def users_only_and_the_first_again(history: list[Any], new: list[Any]) -> list[Any]:
        users = [item for item in history if item["role"] == "user"]
        return users[:1] + users + new

    model = ScriptedModel([[said(f"assistant {number}")] for number in range(3)])
    agent = Agent(name="test", model=model)
    config = RunConfig(session_input_callback=users_only_and_the_first_again)
    for number in range(3):
        await run(method, agent, f"user {number}", session=session, run_config=config)
    assert [item["content"] for item in model.calls[-1].input] == ["user 0", "user 0", "user 1", "user 2"]
    stored = await session.get_items()
    assert [item["content"] for item in stored if item["role"] == "user"] == ["user 0", "user 1", "user 2"]
    assert len(stored) == 6


@methods
async def test_the_limit_of_a_run_decides_what_the_model_sees(method: str, cache: MemoryCache) -> None:
    session = FlameSession("s", cold(cache, begin(cache)), session_settings=SessionSettings(limit=100))
    model = ScriptedModel([[said(f"Reply {number}")] for number in range(4)])
    agent = Agent(name="test", model=model)
    for number in range(3):
        await run(method, agent, f"Message {number}", session=session)
    assert len(model.calls[-1].input) == 5
    config = RunConfig(session_settings=SessionSettings(limit=2))
    await run(method, agent, "Message 3", session=session, run_config=config)
    asked = model.calls[-1].input
    assert len(asked) == 3
    assert asked[0]["content"] == "Message 2"
    assert asked[2]["content"] == "Message 3"


async def test_a_log_that_others_write_to_is_read_on_each_call(cache: MemoryCache) -> None:
    key = begin(cache)
    session, other = FlameSession("s", cold(cache, key)), ConversationLog(cache, key)
    await session.add_items([message("mine")])
    other.append(added("theirs"))
    other.append(EditBody("pop"))
    other.append(added("kept"))
    assert [item["content"] for item in await session.get_items()] == ["mine", "<kept> 0"]
    assert key.startswith(PREFIX)
