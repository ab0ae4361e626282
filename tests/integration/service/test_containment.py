"""What the agent's code raises that is no `Exception`: told like any failure, and the worker lives on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flameagent.apis import Answer, MyContext, Question
from flameagent.conversation import context
from localflame import Engine
from tests.integration.service.talk import Talk, fresh
from tests.integration.service.test_instance import wait_until
from tests.support.model_server import Call, ModelServer, Step
from tests.support.shim import Shim

# Each place where the SDK calls the agent's code asks `at` what it is to do there.
AGENT = """
import asyncio, os, sys
from agents import Agent, GuardrailFunctionOutput, RunHooks, function_tool, input_guardrail, output_guardrail
from flameagent.apis import Answer, Question
from flameagent.service import FlameInstance

class Ours(BaseException): pass

DO = {
    "exit": lambda: sys.exit(2),
    "message": lambda: sys.exit("no more"),
    "interrupt": lambda: exec("raise KeyboardInterrupt"),
    "generator": lambda: exec("raise GeneratorExit"),
    "ours": lambda: exec("raise Ours('of our own')", {"Ours": Ours}),
    "cancelled": lambda: exec("raise asyncio.CancelledError", {"asyncio": asyncio}),
    "group": lambda: exec("raise BaseExceptionGroup('two', [SystemExit(1), ValueError()])"),
    "next": lambda: next(iter([])),
    "stop": lambda: asyncio.get_running_loop().stop(),
}
where = what = ""

def at(place):
    if place == where:
        DO[what]()

@function_tool
def thread(how: str) -> str:
    "In a thread."
    open("ran", "a").write(how + " ")
    DO[how]()
    return "done"

@function_tool
async def loop(how: str) -> str:
    "In the loop."
    open("ran", "a").write(how + " ")
    DO[how]()
    return "done"

@function_tool(timeout=30)
async def timed(how: str) -> str:
    "In a task of its own."
    open("ran", "a").write(how + " ")
    DO[how]()
    return "done"

@function_tool
async def inner(how: str) -> str:
    "In a task that it makes."
    open("ran", "a").write(how + " ")
    async def fail():
        DO[how]()
    task = asyncio.create_task(fail())
    if how == "cancelled":
        task.cancel()
    await task
    return "done"

@function_tool
async def background(how: str) -> str:
    "In a task that nobody waits for."
    open("ran", "a").write(how + " ")
    async def fail():
        DO[how]()
    task = asyncio.create_task(fail())
    await asyncio.sleep(0.05)
    return "done"

def enabled(context, agent):
    at("is_enabled")
    return True

async def approval(context, parameters, call_id):
    at("needs_approval")
    return False

@function_tool(is_enabled=enabled, needs_approval=approval)
def plain() -> str:
    "Does nothing."
    return "plain"

def instructions(context, agent):
    at("instructions")
    return "instructions"

@input_guardrail
async def on_question(context, agent, question):
    at("input guardrail")
    return GuardrailFunctionOutput(None, False)

@output_guardrail
async def on_answer(context, agent, answer):
    at("output guardrail")
    return GuardrailFunctionOutput(None, False)

class Hooks(RunHooks):
    async def on_agent_start(self, context, agent): at("on_agent_start")
    async def on_llm_start(self, *_): at("on_llm_start")
    async def on_tool_start(self, *_): at("on_tool_start")
    async def on_tool_end(self, *_): at("on_tool_end")
    async def on_agent_end(self, *_): at("on_agent_end")

agent = Agent(
    name="tester", instructions=instructions, tools=[thread, loop, timed, inner, background, plain],
    input_guardrails=[on_question], output_guardrails=[on_answer],
)
nested = Agent(name="nested", tools=[thread, loop])
agent.tools.append(nested.as_tool("ask_nested", "Ask the other."))
instance = FlameInstance()

@instance.entrypoint
async def ask(question: Question) -> Answer:
    global where, what
    where, _, what = question.question.partition(": ")
    at("entrypoint")
    answer = await instance.answer(agent, question, hooks=Hooks())
    answer.note = str(os.getpid())
    return answer
"""

SAID = {
    "exit": "SystemExit: 2",
    "message": "SystemExit: no more",
    "interrupt": "KeyboardInterrupt",
    "generator": "GeneratorExit",
    "ours": "Ours: of our own",
    "cancelled": "CancelledError",
    "group": "BaseExceptionGroup: two (2 sub-exceptions)",
    "next": "StopIteration",
}


TOOLS = ("thread", "loop", "timed", "inner")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("contained")


@pytest.fixture(scope="module")
def shim(folder: Path, engine: Engine, model_server: ModelServer) -> Iterator[Shim]:
    with fresh(folder, AGENT, engine, model_server, AGENT_TIMEOUT="30") as shim:
        yield shim


@pytest.fixture
def contained(shim: Shim, talk: Talk, model: ModelServer) -> Shim:
    wait_until(lambda: bool(shim.descendants()), "a worker")
    return shim.enter(talk.id, talk.ref.encode())


def calls(tool: str, how: str) -> list[Step]:
    return [Step(calls=(Call(tool, json.dumps({"how": how})),)), Step(text="I see.")]


def streamed(talk: Talk, on: bool) -> str:
    return talk.cache.put(f"app/{talk.id}", context.write(MyContext())).key if on else ""


@pytest.mark.parametrize(
    ("tool", "how", "stream"),
    [
        *((tool, how, False) for tool in TOOLS for how in SAID if (tool, how) != ("inner", "generator")),
        *((tool, how, True) for tool in TOOLS for how in ("exit", "cancelled")),
    ],
)
def test_a_tool_is_told_of_like_any_failure_and_runs_once(
    contained: Shim, folder: Path, talk: Talk, model: ModelServer, tool: str, how: str, stream: bool
) -> None:
    (folder / "ran").unlink(missing_ok=True)
    worker = contained.descendants()
    model.steps.extend(calls(tool, how))
    answer: Answer = contained.invoke(Question("go on", stream=streamed(talk, stream)))
    assert (answer.answer, answer.error) == ("I see.", "")
    (output,) = (item["output"] for item in talk.items() if item.get("type") == "function_call_output")
    said = SAID[how]
    if how == "next" and tool != "thread":
        said = "RuntimeError: coroutine raised StopIteration"  # what Python makes of it
    assert output == f"The tool {tool} failed: {said}"
    assert (folder / "ran").read_text().split() == [how]
    assert contained.descendants() == worker


def test_a_task_that_ends_with_a_generator_exit_closes_who_waits_for_it(contained: Shim, model: ModelServer) -> None:
    """Python throws it into all that waits, as when a coroutine is closed: then the turn fails, not the worker."""
    worker = contained.descendants()
    model.steps.extend(calls("inner", "generator"))
    assert contained.invoke(Question("go on")).error == "GeneratorExit"
    assert contained.descendants() == worker


@pytest.mark.parametrize("how", ["exit", "interrupt", "ours", "stop"])
def test_a_task_that_nobody_waits_for_ends_alone(contained: Shim, talk: Talk, model: ModelServer, how: str) -> None:
    worker = contained.descendants()
    model.steps.extend(calls("background", how))
    assert contained.invoke(Question("go on")).answer == "I see."
    assert "= done" in talk.kinds()
    assert contained.descendants() == worker


@pytest.mark.parametrize(
    ("how", "stream"), [("exit", False), ("generator", False), ("ours", True), ("cancelled", True)]
)
@pytest.mark.parametrize(
    "where",
    [
        "entrypoint",
        "instructions",
        "is_enabled",
        "needs_approval",
        "input guardrail",
        "output guardrail",
        "on_agent_start",
        "on_llm_start",
        "on_tool_start",
        "on_tool_end",
        "on_agent_end",
    ],
)
def test_elsewhere_the_turn_fails_with_a_sentence_and_nothing_is_added(
    contained: Shim, talk: Talk, model: ModelServer, where: str, how: str, stream: bool
) -> None:
    worker = contained.descendants()
    model.steps.extend([Step(calls=(Call("plain"),)), Step(text="I see.")])
    answer: Answer = contained.invoke(Question(f"{where}: {how}", stream=streamed(talk, stream)))
    assert (answer.error, answer.code) == (SAID[how], "failed")
    assert answer.answer == ""
    assert talk.items() == []
    model.steps.clear()
    assert contained.invoke(Question("and now?"), "2").answer.endswith("and now?")
    assert contained.descendants() == worker


def test_an_agent_that_is_used_as_a_tool_hears_of_its_own_tools(
    contained: Shim, talk: Talk, model: ModelServer
) -> None:
    model.steps.extend(
        [
            Step(calls=(Call("ask_nested", '{"input": "go on"}'),)),
            *calls("loop", "exit"),
            Step(text="I see, too."),
        ]
    )
    assert contained.invoke(Question("go on")).answer == "I see, too."
    assert "The tool loop failed: SystemExit: 2" in json.dumps(model.bodies[2])
