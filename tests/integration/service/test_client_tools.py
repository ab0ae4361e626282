"""Tools of a client: a call waits until its client says what came of it, once, whoever is killed meanwhile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flameagent.apis import Answer, Decision, Question
from flameagent.flame.cache import ObjectCache
from localflame import Engine
from tests.integration.service.talk import AGENT, Talk, fresh
from tests.support.model_server import Call, ModelServer, Step
from tests.support.shim import Shim

DOOR = {"name": "door", "description": "Open a door.", "parameters": {"type": "object", "properties": {}}}
DOUBLE = {**DOOR, "name": "double"}
OPENS = Step(calls=(Call("door", '{"number": 1}', "d-1"),))


@pytest.fixture
def talk(cache: ObjectCache) -> Talk:
    return Talk(cache, tools=[json.dumps(DOOR), json.dumps(DOUBLE)])


def waits(instance: Shim, model: ModelServer, *steps: Step) -> Answer:
    model.steps.extend(steps)
    answer: Answer = instance.invoke(Question("open", id="t"), "1")
    assert answer.code == "waiting", answer
    return answer


def gives(answer: Answer, name: str = "x", approve: tuple[str, ...] = (), **outputs: str) -> Question:
    given = {call.replace("_", "-"): output for call, output in outputs.items()}
    return Question("open", id="t", decision=Decision(name, answer.on, (*approve, *given), outputs=given or None))


def test_the_model_is_told_what_the_client_says(instance: Shim, talk: Talk, model: ModelServer) -> None:
    answer = waits(instance, model, OPENS)
    assert answer.pending == [
        {"id": "d-1", "tool": "door", "arguments": '{"number": 1}', "runner": "client"},
    ]
    offered = {tool["function"]["name"]: tool["function"] for tool in model.bodies[0]["tools"]}
    assert offered["door"]["description"] == "Open a door."
    assert "Open a door." not in offered["double"]["description"], "a tool of the agent is never hidden"
    model.steps.append(Step(text="It is open."))
    done = instance.invoke(gives(answer, d_1="opened"), "2")
    assert (done.answer, done.error) == ("It is open.", "")
    assert talk.kinds() == ["user", "door(1)", "= opened", "assistant"]
    assert [call.runner for turn, _ in talk.conversation.turns() for call in turn.decisions[0].calls] == ["client"]
    assert instance.invoke(gives(answer, d_1="opened"), "2").answer == "It is open.", "sent again"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"approve": ("d-1",)}, "only a client can give its result"),
        ({"d_1": "opened", "d_2": "opened"}, "The call d-2 does not wait"),
    ],
)
def test_nobody_else_answers_the_call(
    instance: Shim, talk: Talk, model: ModelServer, more: dict[str, object], why: str
) -> None:
    answer = waits(instance, model, OPENS)
    refused = instance.invoke(gives(answer, **more), "2")  # type: ignore[arg-type]
    assert refused.code == "conflict" and why in refused.error
    assert talk.conversation.waiting is not None and talk.conversation.waiting.decision is None


def test_a_human_can_reject_it(instance: Shim, talk: Talk, model: ModelServer) -> None:
    answer = waits(instance, model, OPENS)
    model.steps.append(Step(text="Then not."))
    rejected = Question("open", id="t", decision=Decision("x", answer.on, (), ("d-1",), "It is late."))
    assert instance.invoke(rejected, "2").answer == "Then not."
    assert talk.kinds()[2] == "= A human rejected this call. It is late."


def test_calls_at_once_are_answered_one_after_the_other(instance: Shim, talk: Talk, model: ModelServer) -> None:
    calls = tuple(Call("door", f'{{"number": {number}}}', f"d-{number}") for number in (1, 2))
    answer = waits(instance, model, Step(calls=calls))
    second = instance.invoke(gives(answer, d_2="two"), "2")
    assert [call["id"] for call in second.pending] == ["d-1"]
    model.steps.append(Step(text="Both."))
    assert instance.invoke(gives(second, "y", d_1="one"), "3").answer == "Both."
    assert sorted(talk.kinds()[1:5]) == ["= one", "= two", "door(1)", "door(2)"]


NEEDS = AGENT.replace("@function_tool\n", "@function_tool(needs_approval=True)\n")


def test_an_output_is_none_for_a_tool_of_the_agent(
    tmp_path: Path, talk: Talk, engine: Engine, model: ModelServer
) -> None:
    with fresh(tmp_path, NEEDS, engine, model) as instance:
        instance.enter(talk.id, talk.ref.encode())
        answer = waits(instance, model, Step(calls=(Call("double", '{"number": 4}', "a-1"), *OPENS.calls)))
        assert [call.get("runner", "") for call in answer.pending or []] == ["", "client"]
        refused = instance.invoke(gives(answer, a_1="9", d_1="opened"), "2")
        assert "The call a-1 is none of a client's tool" in refused.error
        model.steps.append(Step(text="Done."))
        assert instance.invoke(gives(answer, approve=("a-1",), d_1="opened"), "3").answer == "Done."
        assert {"= 8", "= opened"} <= set(talk.kinds())


@pytest.mark.parametrize("point", ["decision: recorded", "append: before", "append: after"])
def test_a_worker_that_is_killed_goes_on_with_what_the_client_said(
    tmp_path: Path, talk: Talk, engine: Engine, model: ModelServer, point: str
) -> None:
    points, agent = tmp_path / "points", tmp_path / "agent"
    points.mkdir()
    agent.mkdir()
    with fresh(agent, AGENT, engine, model, FAILPOINTS=str(points)) as instance:
        instance.enter(talk.id, talk.ref.encode())
        answer = waits(instance, model, OPENS)
        (points / point).write_text("")
        model.steps.extend([Step(text="It is open.")] * 2)
        assert instance.invoke(gives(answer, d_1="opened"), "2").answer == "It is open."
        assert not (points / point).exists()
    model.steps.clear()
    assert talk.kinds() == ["user", "door(1)", "= opened", "assistant"]
    assert len(talk.conversation.turns()[0][0].decisions) == 1


def test_the_session_chooses_the_model(instance: Shim, cache: ObjectCache, model: ModelServer) -> None:
    talk = Talk(cache, model="large")
    instance.enter(talk.id, talk.ref.encode())
    assert instance.invoke(Question("who?", id="a"), "1").model == "large"
    assert instance.invoke(Question("who?", id="b", model="small"), "2").model == "small"
    assert [body["model"] for body in model.bodies] == ["large", "small"]
