"""What goes with a question and comes with its answer: data and user, a typed output, the agent that answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flameagent.apis import Answer, Decision, Question
from flameagent.client.history import turn_as_json
from localflame import Engine
from tests.integration.service.talk import Talk, fresh
from tests.support.model_server import Call, ModelServer, Step
from tests.support.shim import Shim

AGENT = """
from pathlib import Path
from pydantic import BaseModel
from agents import Agent, RunContextWrapper, RunHooks, function_tool
from agents.tracing import get_current_trace
from flameagent import Answer, FlameInstance, Question
from flameagent.service import turn

class Weather(BaseModel):
    place: str
    degrees: int

@function_tool
def whose(context: RunContextWrapper) -> str:
    "Whose data these are."
    return f"{turn.user()}: {context.context}"

@function_tool(needs_approval=True)
def pay(context: RunContextWrapper) -> str:
    "Pay."
    return f"{turn.user()} pays: {context.context}"

class Hooks(RunHooks):
    async def on_agent_start(self, context, agent):
        Path("started").open("a").write(f"{agent.name} {get_current_trace().group_id}\\n")

second = Agent(name="second", instructions="second's own", tools=[whose, pay])
typed = Agent(name="typed", output_type=Weather)
agent = Agent(name="first", instructions="first's own", tools=[whose, pay], handoffs=[second, typed])
second.handoffs.append(agent)
instance = FlameInstance()

@instance.entrypoint
async def ask(question: Question) -> Answer:
    own = {"context": {"of": "the author", **question.context}} if (question.context or {}).get("own") else {}
    return await instance.answer(agent, question, sticky=True, hooks=Hooks(), **own)
"""

HANDS_OVER = Step(calls=(Call("transfer_to_second", "{}", "t-1"),))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, engine: Engine, model_server: ModelServer) -> Iterator[Shim]:
    with fresh(tmp_path_factory.mktemp("data"), AGENT, engine, model_server, AGENT_TRACING="1") as shim:
        yield shim


@pytest.fixture
def instance(desk: Shim, talk: Talk, model: ModelServer) -> Shim:
    return desk.enter(talk.id, talk.ref.encode())


def output_of_the_call(model: ModelServer) -> str:
    return str([message["content"] for message in model.bodies[-1]["messages"] if message["role"] == "tool"][-1])


def instructions(model: ModelServer) -> str:
    return str(model.bodies[-1]["messages"][0]["content"])


def test_tools_see_who_asks_and_the_data_of_the_question(instance: Shim, talk: Talk, model: ModelServer) -> None:
    model.steps.extend([Step(calls=(Call("whose"),)), Step(text="Yours.")])
    answer: Answer = instance.invoke(Question("whose?", "t1", user="ada", context={"tenant": 7, "tags": ["a"]}))
    assert answer.answer == "Yours."
    assert output_of_the_call(model) == "ada: {'tenant': 7, 'tags': ['a']}"
    ((turn, _),) = talk.conversation.turns()
    assert (turn.user, turn.context) == ("ada", {"tenant": 7, "tags": ["a"]})
    assert turn_as_json(turn, [])["context"] == {"tenant": 7, "tags": ["a"]}


def test_data_are_of_one_question(instance: Shim, talk: Talk, model: ModelServer) -> None:
    for number, (context, seen) in enumerate([({"a": 1}, "{'a': 1}"), (None, "{}")]):
        model.steps.extend([Step(calls=(Call("whose", id=f"c{number}"),)), Step(text="Yours.")])
        instance.invoke(Question("whose?", f"t{number}", context=context), str(number + 1))
        assert output_of_the_call(model) == f": {seen}"


def test_the_author_may_make_a_context_of_the_data(instance: Shim, model: ModelServer) -> None:
    model.steps.extend([Step(calls=(Call("whose"),)), Step(text="Yours.")])
    instance.invoke(Question("whose?", "t1", context={"own": True}))
    assert output_of_the_call(model) == ": {'of': 'the author', 'own': True}"


def test_a_turn_that_waited_has_its_data_when_it_goes_on(instance: Shim, talk: Talk, model: ModelServer) -> None:
    model.steps.extend([Step(calls=(Call("pay"),)), Step(text="Paid.")])
    waits: Answer = instance.invoke(Question("pay", "t1", user="ada", context={"order": 3}))
    (call,) = waits.pending or []
    decision = Decision("d1", waits.on, approve=(call["id"],), by="bob")
    done: Answer = instance.invoke(Question("pay", "t1", decision=decision, user="bob", context={"order": 4}), "2")
    assert done.answer == "Paid."
    assert output_of_the_call(model) == "ada pays: {'order': 3}"
    ((turn, _),) = talk.conversation.turns()
    assert (turn.user, turn.context, turn.decisions[0].by) == ("ada", {"order": 3}, "bob")


def test_a_typed_output_is_a_value_and_is_kept_once(instance: Shim, talk: Talk, model: ModelServer) -> None:
    said = '{"place": "Lisbon", "degrees": 21}'
    model.steps.extend([Step(calls=(Call("transfer_to_typed", "{}", "t-1"),)), Step(text=said)])
    question = Question("weather?", "t1")
    answer: Answer = instance.invoke(question)
    assert (answer.output, answer.output_type, answer.agent) == (json.loads(said), "Weather", "typed")
    ((turn, _),) = talk.conversation.turns()
    assert "output" not in turn.answer and turn.answer["output_type"] == "Weather"
    assert turn_as_json(turn, [])["output"] == json.loads(said)
    again: Answer = instance.invoke(question, "2")
    assert (again.output, again.turn) == (answer.output, 1)


def test_a_handoff_sticks_until_another(instance: Shim, talk: Talk, model: ModelServer) -> None:
    model.steps.extend([HANDS_OVER, Step(text="Second here."), Step(text="Still second.")])
    assert instance.invoke(Question("over", "t1")).agent == "second"
    still: Answer = instance.invoke(Question("still?", "t2"), "2")
    assert (still.agent, instructions(model)) == ("second", "second's own")
    model.steps.extend([Step(calls=(Call("transfer_to_first", "{}", "t-2"),)), Step(text="First."), Step(text="On.")])
    assert instance.invoke(Question("back", "t3"), "3").agent == "first"
    assert instance.invoke(Question("and now?", "t4"), "4").agent == "first"
    assert instructions(model) == "first's own"
    assert talk.conversation.agent == "first"


def test_a_rewind_takes_the_handoff_back(instance: Shim, talk: Talk, model: ModelServer) -> None:
    model.steps.extend([HANDS_OVER, Step(text="Second here.")])
    instance.invoke(Question("over", "t1"))
    log = talk.log()
    log.append(log.load(0).rewind_edit(0))
    model.steps.extend([Step(text="First here.")])
    assert instance.invoke(Question("who?", "t2"), "2").agent == "first"


def test_an_approval_of_the_agent_that_goes_on_is_carried_out(instance: Shim, talk: Talk, model: ModelServer) -> None:
    model.steps.extend([HANDS_OVER, Step(text="Second."), Step(calls=(Call("pay"),)), Step(text="Paid.")])
    instance.invoke(Question("over", "t1"))
    waits: Answer = instance.invoke(Question("pay", "t2"), "2")
    (call,) = waits.pending or []
    assert call["agent"] == "second"
    decided = Question("pay", "t2", decision=Decision("d1", waits.on, approve=(call["id"],)))
    done: Answer = instance.invoke(decided, "3")
    assert (done.answer, done.agent, done.error) == ("Paid.", "second", "")


def test_hooks_run_and_traces_are_of_the_session(instance: Shim, talk: Talk, model: ModelServer) -> None:
    model.steps.extend([HANDS_OVER, Step(text="Second here.")])
    (started := instance.log.parent / "started").unlink(missing_ok=True)
    instance.invoke(Question("over", "t1"))
    assert started.read_text().splitlines() == [f"first {talk.id}", f"second {talk.id}"]


def test_the_usage_of_each_request_is_recorded(instance: Shim, talk: Talk, model: ModelServer) -> None:
    model.steps.extend([HANDS_OVER, Step(text="Second here.")])
    answer: Answer = instance.invoke(Question("over", "t1"))
    assert answer.usage and answer.request_usage and len(answer.request_usage) == 2
    for name in ("requests", "input_tokens", "output_tokens", "reasoning_tokens", "cache_write_tokens"):
        assert answer.usage[name] == sum(each[name] for each in answer.request_usage)
    ((turn, _),) = talk.conversation.turns()
    assert turn.answer["request_usage"] == answer.request_usage
    model.steps.append(Step(text="One request."))
    assert instance.invoke(Question("still?", "t2"), "2").request_usage is None


@pytest.mark.parametrize(
    ("setting", "error"), [("1", "Max turns (1) exceeded"), ("none", "AGENT_MAX_TURNS is a number")]
)
def test_a_turn_asks_the_model_as_often_as_the_setting_says(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk, setting: str, error: str
) -> None:
    model.steps.extend([Step(calls=(Call("whose"),)), Step(text="Too late.")])
    with fresh(tmp_path, AGENT, engine, model, AGENT_MAX_TURNS=setting, AGENT_TRACING="1") as shim:
        answer: Answer = shim.enter(talk.id, talk.ref.encode()).invoke(Question("whose?", "t1"))
    assert error in answer.error
    assert talk.turns() == []
