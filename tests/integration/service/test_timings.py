"""A turn's record says for how long it waited and what took how long; through a real instance and a real cache."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from flameagent.apis import Answer, Decision, Question
from flameagent.client.timings import TurnTimes, turn_times
from flameagent.conversation.timing import Timing
from localflame import Engine
from tests.integration.service.talk import AGENT, Talk, fresh
from tests.support.model_server import Call, ModelServer, Step
from tests.support.shim import Shim

SLOW_TOOLS = AGENT.replace(
    "agent = Agent(",
    """
import asyncio

@function_tool
async def slow() -> str:
    await asyncio.sleep(0.3)
    return "at last"

@function_tool(needs_approval=True)
def breaks() -> str:
    raise RuntimeError("broken")

agent = Agent(""",
).replace("tools=[double,", "tools=[double, slow, breaks,")


def now() -> int:
    return int(time.time() * 1000)


def times(talk: Talk) -> list[TurnTimes]:
    return [turn_times(turn, items) for turn, items in talk.conversation.turns()]


def test_a_turn_says_what_took_how_long(instance: Shim, talk: Talk, model: ModelServer) -> None:
    model.steps.extend([Step(calls=(Call("double", '{"number": 1}'),), delay=0.2), Step(text="2", delay=0.2)])
    asked = now() - 5000
    instance.invoke(Question("double one", asked=asked), "1")
    (found,) = times(talk)
    assert found.waited is not None and found.began is not None and found.ran is not None and found.model is not None
    assert 5000 <= found.waited < 90_000
    assert abs((found.asked or 0) - asked) < 1000  # the record is made a moment after the work
    assert 400 <= found.model <= found.ran <= found.ended - found.began + 1
    assert found.total == found.waited + found.ran
    assert [(each.tool, each.failed) for each in found.tools] == [("double", False)]


@pytest.mark.parametrize("asked", [0, 2**60, -1])
def test_when_it_was_asked_is_not_believed_where_it_cannot_be(
    instance: Shim, talk: Talk, model: ModelServer, asked: int
) -> None:
    instance.invoke(Question("one", asked=asked), "1")
    (found,) = times(talk)
    assert (found.asked, found.waited, found.total) == (None, None, None)
    assert found.ran


def test_the_time_of_a_human_is_not_the_turns(tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk) -> None:
    with fresh(tmp_path, SLOW_TOOLS, engine, model) as asks:
        asks.enter(talk.id, talk.ref.encode())
        model.steps.append(Step(calls=(Call("slow", "{}", "c1"), Call("breaks", "{}", "c2"))))
        before = now()
        waits: Answer = asks.invoke(Question("go", id="a", asked=before), "1")
        assert waits.code == "waiting"
        time.sleep(2)
        model.steps.append(Step(text="done"))
        decision = Decision("d", waits.on, approve=((waits.pending or [{}])[0]["id"],))
        assert asks.invoke(Question("go", id="a", decision=decision, asked=now()), "2").answer == "done"
    (found,) = times(talk)
    assert found.began is not None and found.ran is not None and found.waited is not None
    assert before + found.waited == found.began
    assert 300 <= found.ran <= found.ended - found.began - 1900
    assert {(each.tool, each.failed) for each in found.tools} == {("slow", False), ("breaks", True)}
    assert {each.tool: each.took >= 300 for each in found.tools} == {"slow": True, "breaks": False}


def test_a_turn_without_times_is_as_it_was(instance: Shim, talk: Talk, model: ModelServer) -> None:
    from flameagent.conversation import TurnBody

    talk.log().append(TurnBody("old", "old?", [{"role": "user", "content": "old?"}], {"answer": "yes"}))
    instance.invoke(Question("new?"), "1")
    old, new = (turn.timing for turn, _ in talk.conversation.turns())
    assert old == Timing()
    assert b'"timing"' not in (talk.cache.get(talk.ref.key).patches[0][1] or b"")
    assert new.ran > 0
    row = talk.cache.get(talk.ref.key).patches[1][1] or b""
    assert b'"v":7' in row  # which older programs read
