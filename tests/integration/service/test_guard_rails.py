"""What goes wrong in a turn is a sentence to the user, or to the model; and the next turn's replay is accepted.

Through a real instance, before a model's server that refuses what OpenAI refuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from flameagent.apis import Answer, Question
from flameagent.flame.cache import ObjectCache
from localflame import Engine
from tests.integration.service.talk import AGENT, Talk, fresh
from tests.support.model_server import Call, ModelServer, Step, echo, said
from tests.support.shim import Shim

GUARDED = AGENT.replace(
    "agent = Agent(",
    """
from agents import GuardrailFunctionOutput, input_guardrail, output_guardrail

@function_tool
def divide(number: int, by: list[int], note: str | None = None) -> float:
    "Divide a number."
    for one in by:
        number /= one
    return number

@function_tool
def silent() -> str:
    raise RuntimeError

@function_tool
def leaks() -> str:
    raise RuntimeError("the server says: bad key sk-secret-0123456789")

@input_guardrail(run_in_parallel=False)
async def no_secrets(context, agent, asked):
    last = asked if isinstance(asked, str) else asked[-1]["content"]
    return GuardrailFunctionOutput(None, tripwire_triggered="secret" in last)

@output_guardrail
async def no_oaths(context, agent, output):
    return GuardrailFunctionOutput(None, tripwire_triggered="damn" in output)

agent = Agent(""",
).replace(
    "tools=[double,",
    "input_guardrails=[no_secrets], output_guardrails=[no_oaths], tools=[double, divide, silent, leaks,",
)


@pytest.fixture(scope="module")
def guarded_instance(
    tmp_path_factory: pytest.TempPathFactory, engine: Engine, model_server: ModelServer
) -> Iterator[Shim]:
    with fresh(tmp_path_factory.mktemp("agent"), GUARDED, engine, model_server) as shim:
        yield shim


@pytest.fixture
def guarded(guarded_instance: Shim, talk: Talk, model: ModelServer) -> Shim:
    return guarded_instance.enter(talk.id, talk.ref.encode())


def goes_on(instance: Shim, talk: Talk, turns: int) -> None:
    """The conversation holds so many turns, and the strict server accepts them and another."""
    assert len(talk.turns()) == turns
    answer: Answer = instance.invoke(Question("and now?", id="next"), "99")
    assert (answer.error, answer.answer) == ("", f"answer {turns + 1}: and now?")
    assert len(talk.turns()) == turns + 1


def told_to_the_model(model: ModelServer) -> list[str]:
    return [message["content"] for message in model.bodies[-1]["messages"] if message["role"] == "tool"]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            Call("divide", '{"number": 1, "by": [0]}'),
            "The tool divide failed: ZeroDivisionError: division by zero",
        ),
        (Call("silent"), "The tool silent failed: RuntimeError"),
        (Call("leaks"), "The tool leaks failed: RuntimeError: the server says: bad key [key]"),
        (Call("divide", '{"number": 1, "by": [2'), "The arguments of divide are wrong: they are no JSON"),
        (Call("divide", '{"number": "one", "by": [2]}'), "number: 'one' is not of type 'integer'"),
        (Call("divide", '{"number": 1, "by": [2, "x"]}'), "by.1: 'x' is not of type 'integer'"),
        (Call("divide", '{"number": 1}'), "'by' is a required property"),
        (Call("divide", "[1, 2]"), "the object: [1, 2] is not of type 'object'"),
        (Call("subtract", '{"a": 1}'), "Tool 'subtract' not found."),
    ],
)
def test_a_call_that_goes_wrong_is_told_to_the_model_which_repairs_it(
    guarded: Shim, talk: Talk, model: ModelServer, call: Call, sentence: str
) -> None:
    right = Call("divide", '{"number": 6, "by": [3]}', "call_2")
    model.steps.extend([Step(calls=(call,)), Step(calls=(right,)), Step(text="2")])
    answer: Answer = guarded.invoke(Question("divide"), "1")
    assert (answer.error, answer.answer) == ("", "2")
    wrong, good = told_to_the_model(model)
    assert sentence in wrong
    assert good == "2.0"
    goes_on(guarded, talk, 1)


def test_the_traceback_of_a_tool_is_in_the_log_and_its_key_is_not_in_the_conversation(
    guarded: Shim, talk: Talk, model: ModelServer
) -> None:
    model.steps.extend([Step(calls=(Call("leaks"),)), Step(text="sorry")])
    guarded.invoke(Question("leak"), "1")
    assert "RuntimeError: the server says: bad key [key]" in guarded.log.read_text()
    assert "sk-secret" not in str(talk.items())


@pytest.mark.parametrize("name", ["double", "subtract"])
def test_a_model_that_calls_for_ever_is_stopped_and_nothing_is_added(
    guarded: Shim, talk: Talk, model: ModelServer, name: str
) -> None:
    model.script = lambda _: Step(calls=(Call(name, '{"number": 1}'),))
    answer: Answer = guarded.invoke(Question("for ever"), "1")
    assert (answer.answer, answer.code) == ("", "model")
    assert answer.error == "The agent did not come to an answer: Max turns (10) exceeded. Ask for less at once."
    assert len(model.bodies) == 10
    assert talk.items() == []
    model.script = echo
    goes_on(guarded, talk, 0)


@pytest.mark.parametrize(
    ("question", "step", "sentence"),
    [
        ("a secret", Step(text="never asked"), r"The question was stopped by the guardrail no_secrets\."),
        ("swear", Step(text="damn"), r"The answer was stopped by the guardrail no_oaths\."),
        ("no", Step(refusal="I will not."), r"The model refused to answer: I will not\."),
        ("long", Step(text="and so on and", finish="length"), "cut off at its length limit"),
        ("bad", Step(text="some", finish="content_filter"), "content filter withheld"),
        ("nothing", Step(text=""), "answered with nothing"),
    ],
)
@pytest.mark.parametrize("after_a_tool", [False, True])
def test_an_answer_that_is_stopped_is_a_sentence_and_nothing_is_added(
    guarded: Shim, talk: Talk, model: ModelServer, question: str, step: Step, sentence: str, after_a_tool: bool
) -> None:
    assert guarded.invoke(Question("hello"), "1").answer == "answer 1: hello"
    if after_a_tool:
        model.steps.append(Step(calls=(Call("double", '{"number": 1}'),)))
    model.steps.append(step)
    answer: Answer = guarded.invoke(Question(question), "2")
    assert (answer.answer, answer.code) == ("", "model")
    assert re.search(sentence, answer.error), answer.error
    model.steps.clear()
    goes_on(guarded, talk, 1)


def test_call_ids_are_unique_in_the_whole_conversation(
    tmp_path_factory: pytest.TempPathFactory, cache: ObjectCache, engine: Engine, model: ModelServer
) -> None:
    """A server that gives every call the same ID, and a window that has forgotten when it did so first."""
    talk = Talk(cache)
    with fresh(
        tmp_path_factory.mktemp("small"), AGENT, engine, model, AGENT_HISTORY="8", AGENT_SUMMARY="off"
    ) as small:
        small.enter(talk.id, talk.ref.encode())
        for number in range(1, 7):
            model.steps.extend([Step(calls=(Call("double", '{"number": 1}', "call_0"),)), Step(text="2")])
            assert small.invoke(Question(f"q{number}"), str(number)).answer == "2"
    assert ("user", "q1") not in said(model.bodies[-1])  # the first calls are out of sight
    ids = [item["call_id"] for item in talk.items() if item.get("type") == "function_call"]
    assert ids[0] == "call_0"
    assert len(ids) == len({*ids}) == 6
    with fresh(tmp_path_factory.mktemp("all"), AGENT, engine, model, AGENT_HISTORY="all") as whole:
        goes_on(whole.enter(talk.id, talk.ref.encode()), talk, 6)


def test_a_conversation_goes_on_on_the_other_api(
    tmp_path_factory: pytest.TempPathFactory, cache: ObjectCache, engine: Engine, model: ModelServer
) -> None:
    talk = Talk(cache)
    apis = ["chat", "responses", "chat"]
    for turn, api in enumerate(apis, 1):
        folder = tmp_path_factory.mktemp(api)
        with fresh(folder, AGENT, engine, model, AGENT_API=api) as shim:
            shim.enter(talk.id, talk.ref.encode())
            call = Call("double", '{"number": 21}', f"c{turn}")
            model.steps.extend([Step(calls=(call,), reasoning="doubling"), Step(text=f"42 by {api}")])
            assert shim.invoke(Question(f"double {turn}"), str(turn)).answer == f"42 by {api}"
    # A strict server that gave reasoning refuses to take it back, and is asked again without.
    taken = [request for request in model.requests if "reasoning_content" not in str(request.json)]
    assert [request.path.rpartition("/")[2] for request in taken] == [
        path for api in apis for path in ["completions" if api == "chat" else "responses"] * 2
    ]
    assert [text for role, text in said(model.bodies[-1]) if role == "assistant" and text] == [
        f"42 by {api}" for api in apis[:2]
    ]


def test_an_agent_that_takes_over_keeps_the_model_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, cache: ObjectCache, engine: Engine, model: ModelServer
) -> None:
    talk = Talk(cache)
    source = AGENT.replace(
        "agent = Agent(", 'expert = Agent(name="expert", model="wise")\nagent = Agent(handoffs=[expert],'
    )
    hands_over = Step(calls=(Call("transfer_to_expert"),))
    with fresh(tmp_path_factory.mktemp("team"), source, engine, model) as shim:
        shim.enter(talk.id, talk.ref.encode())
        model.steps.extend([hands_over, Step(text="wisely")])
        assert shim.invoke(Question("ask the expert"), "1").answer == "wisely"
        model.steps.extend([hands_over, Step(text="as asked")])
        assert shim.invoke(Question("and again", model="asked"), "2").answer == "as asked"
    assert [body["model"] for body in model.bodies] == ["scripted", "wise", "asked", "asked"]


def test_an_mcp_server_that_does_not_start_is_a_sentence_every_time(
    tmp_path_factory: pytest.TempPathFactory, cache: ObjectCache, engine: Engine, model: ModelServer
) -> None:
    talk = Talk(cache)
    source = "from agents.mcp import MCPServerStdio\n" + AGENT.replace(
        "agent = Agent(", 'agent = Agent(mcp_servers=[MCPServerStdio({"command": "no-such-command"}, name="files")],'
    )
    with fresh(tmp_path_factory.mktemp("mcp"), source, engine, model) as shim:
        shim.enter(talk.id, talk.ref.encode())
        for task in "1", "2":
            answer: Answer = shim.invoke(Question("hello"), task)
            assert "The agent is not set up right: the MCP server files does not start" in answer.error
            assert "no-such-command" in answer.error
    assert talk.items() == []
