"""Turns of a replay: calls get the outputs that the record has, and no tool runs by itself, whatever kind it is.

Through a real instance, before a model's server that refuses what OpenAI refuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flameagent.apis import Answer, Decision, Question
from flameagent.conversation import EditBody, RecordedCall, Replay, records
from flameagent.conversation.replayed import NOT_RUN
from flameagent.flame.cache import ObjectCache
from localflame import Engine
from tests.integration.service.talk import Talk, environment
from tests.support.model_server import Call, ModelServer, Step, echo
from tests.support.shim import Shim

_SERVER = """
from pathlib import Path
from mcp.server import MCPServer

server = MCPServer("notes")

@server.tool()
def note(text: str) -> str:
    "Note a text."
    Path("effects").joinpath(f"note-{text}").touch()
    return f"noted {text}"

server.run("stdio")
"""

_AGENT = """
import sys, threading
from pathlib import Path
from agents import Agent, FunctionTool, LocalShellTool, Runner, function_tool
from agents.mcp import MCPServerStdio
from flameagent.apis import Answer, Question
from flameagent.service import FlameInstance, memory

def effect(name):
    Path("effects").joinpath(name).touch()
    return f"did {name}"

@function_tool(strict_mode=False)
def write(name: str, options: dict[str, int] | None = None) -> str:
    return effect(name)

@function_tool(needs_approval=True)
def pay(euros: int, to: str = "Ada") -> str:
    return effect(f"pay-{euros}")

async def dear(context, arguments, call_id):
    return arguments["euros"] > 10

@function_tool(needs_approval=dear)
def spend(euros: int, note: str = "") -> str:
    return effect(f"spent-{euros}")

@function_tool
def inner(name: str) -> str:
    return effect(f"inner-{name}")

async def by_hand(context, arguments):
    return effect("by-hand")

schema = {"type": "object", "properties": {}, "additionalProperties": False}
raw = FunctionTool("raw", "By hand.", schema, by_hand, strict_json_schema=False)
expert = Agent(name="expert", tools=[inner])
other = Agent(name="other", tools=[write])
server = MCPServerStdio(params={"command": sys.executable, "args": ["server.py"]}, name="notes")
agent = Agent(
    name="tester",
    tools=[write, pay, spend, raw, expert.as_tool("ask_expert", "Ask an expert."), *memory.tools()],
    mcp_servers=[server],
    handoffs=[other],
)
instance = FlameInstance()

def choosy():
    class Choosy(Agent):
        async def get_all_tools(self, context):
            return list(self.tools)
    return Choosy
Before = choosy()

@instance.entrypoint
async def ask(question: Question) -> Answer:
    if question.question == "in a thread":
        found = []
        def run():
            import asyncio
            import os
            from agents import OpenAIChatCompletionsModel
            from openai import AsyncOpenAI
            model = OpenAIChatCompletionsModel(
                "scripted", AsyncOpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key="none")
            )
            alone = Agent(name="alone", tools=[write], model=model)
            try:
                found.append(asyncio.run(Runner.run(alone, "write")).final_output)
            except Exception as error:
                found.append(repr(error))
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return Answer(found[0])
    if question.question.startswith("approved by itself"):
        from agents import OpenAIChatCompletionsModel
        from openai import AsyncOpenAI
        import os
        made = Before if question.question.endswith("before") else choosy()
        model = OpenAIChatCompletionsModel(
            "scripted", AsyncOpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key="none")
        )
        alone = made(name="alone", tools=[pay], model=model)
        if question.question.endswith("beside"):
            class Beside:
                async def get_all_tools(self, context):
                    return list(self.tools)
            class Both(Beside, Agent):
                pass
            alone = Both(name="alone", tools=[pay], model=model)
        if question.question.endswith("object"):
            async def own(context):
                return list(alone.tools)
            alone = Agent(name="alone", tools=[pay], model=model)
            alone.get_all_tools = own
        result = await Runner.run(alone, "pay")
        while result.interruptions:
            state = result.to_state()
            for each in result.interruptions:
                state.approve(each)
            result = await Runner.run(alone, state)
        return Answer(result.final_output)
    if question.question == "with a shell":
        shell = LocalShellTool(lambda request: effect("shell"))
        return await instance.answer(agent.clone(tools=[*agent.tools, shell]), question)
    return await instance.answer(agent, question)
"""


class Bench:
    """An instance whose tools leave files, and the sessions that it is given."""

    def __init__(self, folder: Path, cache: ObjectCache, shim: Shim, model: ModelServer) -> None:
        self.folder, self._cache, self._shim, self.model = folder, cache, shim, model

    def replay(self, calls: list[tuple[str, str, Any]] = (), *, run_tools: bool = False) -> Talk:  # type: ignore[assignment]
        """A session that is a replay, whose record has these calls."""
        talk = Talk(self._cache)
        kept = [RecordedCall(*call) for call in calls]
        talk.log().append(EditBody("copy", origin="talk-before", replay=Replay(kept, run_tools)))
        return talk

    def ask(self, talk: Talk, question: str = "go", **more: Any) -> Answer:
        answer: Answer = self._shim.enter(talk.id, talk.ref.encode()).invoke(Question(question, **more))
        return answer

    def effects(self) -> list[str]:
        found = sorted(file.name for file in (self.folder / "effects").iterdir())
        for name in found:
            (self.folder / "effects" / name).unlink()
        return found

    def outputs(self) -> list[str]:
        """What the model was told of its calls, in its last request."""
        told = [message["content"] for message in self.model.bodies[-1]["messages"] if message["role"] == "tool"]
        return [each if isinstance(each, str) else each[0]["text"] for each in told]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, engine: Engine, model_server: ModelServer) -> Iterator[Shim]:
    folder = tmp_path_factory.mktemp("replaying")
    (folder / "agent.py").write_text(_AGENT)
    (folder / "server.py").write_text(_SERVER)
    (folder / "effects").mkdir()
    with Shim(folder, **environment(engine, model_server)) as shim:
        shim.folder = folder  # type: ignore[attr-defined]
        yield shim


@pytest.fixture
def bench(running: Shim, cache: ObjectCache, model: ModelServer) -> Bench:
    made = Bench(running.folder, cache, running, model)  # type: ignore[attr-defined]
    made.effects()  # those of a test that has failed
    return made


def calls(*made: tuple[str, str]) -> list[Step]:
    """The model makes these calls at once, and then answers."""
    called = tuple(Call(name, arguments, f"call_{number}") for number, (name, arguments) in enumerate(made))
    return [Step(calls=called), Step(text="done")]


_OTHER_KINDS = {
    "a function": ("write", '{"name": "a"}'),
    "made by hand": ("raw", "{}"),
    "of an MCP server": ("note", '{"text": "b"}'),
    "an agent as a tool": ("ask_expert", '{"input": "c"}'),
    "memory": ("remember", '{"key": "k", "value": "v"}'),
}


@pytest.mark.parametrize("kind", _OTHER_KINDS)
def test_a_tool_does_not_run_and_the_model_is_told(bench: Bench, kind: str) -> None:
    bench.model.steps.extend(calls(_OTHER_KINDS[kind]))
    talk = bench.replay()
    answer = bench.ask(talk)
    assert (answer.error, answer.answer) == ("", "done")
    assert bench.outputs() == [NOT_RUN]
    assert bench.effects() == []
    assert not talk.conversation.facts


@pytest.mark.parametrize("kind", _OTHER_KINDS)
def test_an_equal_call_has_the_output_of_the_record(bench: Bench, kind: str) -> None:
    tool, arguments = _OTHER_KINDS[kind]
    bench.model.steps.extend(calls((tool, arguments)))
    answer = bench.ask(bench.replay([(tool, arguments, f"as it was {kind}")]))
    assert (answer.error, answer.answer) == ("", "done")
    assert bench.outputs() == [f"as it was {kind}"]
    assert bench.effects() == []


def test_arguments_are_compared_as_json_and_equal_calls_have_their_outputs_in_order(bench: Bench) -> None:
    written = '{"options": {"b": 2, "a": 1.0}, "name": "\\u00e9"}'
    recorded = [
        ("write", '{"name":"é","options":{"a":1,"b":2}}', "first"),
        ("write", '{ "name": "é", "options": {"b": 2, "a": 1} }', "second"),
        ("write", '{"name": "é", "options": {"a": true, "b": 2}}', "never"),
    ]
    bench.model.steps.extend(calls(*[("write", written)] * 3))
    bench.ask(bench.replay(recorded))
    assert bench.outputs() == ["first", "second", NOT_RUN]
    assert bench.effects() == []


def test_with_run_tools_only_what_the_record_does_not_have_runs(bench: Bench) -> None:
    bench.model.steps.extend(
        calls(("write", '{"name": "known"}'), ("write", '{"name": "new"}'), ("note", '{"text": "x"}'))
    )
    bench.ask(bench.replay([("write", '{"name": "known"}', "as it was")], run_tools=True))
    assert bench.outputs() == ["as it was", "did new", "noted x"]
    assert bench.effects() == ["new", "note-x"]


def test_inner_calls_of_a_nested_agent_are_stood_in_for_too(bench: Bench) -> None:
    nested = [
        Step(calls=(Call("ask_expert", '{"input": "x"}', "outer"),)),
        Step(calls=(Call("inner", '{"name": "y"}', "one"), Call("inner", '{"name": "z"}', "two"))),
        Step(text="the expert has spoken"),
        Step(text="done"),
    ]
    bench.model.steps.extend(nested)
    bench.ask(bench.replay([("inner", '{"name": "y"}', "as it was")], run_tools=True))
    assert bench.outputs() == ["the expert has spoken"]
    assert bench.effects() == ["inner-z"]


def test_who_takes_over_has_stand_ins_too(bench: Bench) -> None:
    bench.model.steps.extend(
        [Step(calls=(Call("transfer_to_other", "{}", "over"),)), *calls(("write", '{"name": "w"}'))]
    )
    answer = bench.ask(bench.replay())
    assert (answer.agent, answer.answer) == ("other", "done")
    assert bench.outputs()[-1] == NOT_RUN
    assert bench.effects() == []


def test_a_call_that_was_decided_on_does_not_wait_and_another_one_does(bench: Bench) -> None:
    rejected = "A human rejected this call. Too much."
    bench.model.steps.extend(calls(("pay", '{"euros": 5}'), ("pay", '{"euros": 7}')))
    recorded = [("pay", '{"euros": 5}', "did pay-5"), ("pay", '{"euros": 7}', rejected)]
    assert bench.ask(bench.replay(recorded)).answer == "done"
    assert bench.outputs() == ["did pay-5", rejected]
    bench.model.steps.extend(calls(("pay", '{"euros": 5}'), ("pay", '{"euros": 9}')))
    talk = bench.replay(recorded)
    answer = bench.ask(talk)
    assert answer.code == "waiting"
    assert [call["arguments"] for call in answer.pending or []] == ['{"euros": 9}']
    bench.model.steps.clear()
    [call] = answer.pending or []
    decided = bench.ask(talk, id=answer.turn_id, decision=Decision("d1", answer.on, approve=(call["id"],)))
    assert decided.error == "This session is a replay: nobody decides on what waits in it."
    assert bench.effects() == []


def test_a_rule_of_the_agents_own_decides_what_would_wait(bench: Bench) -> None:
    cheap, dear = '{"euros": 5, "note": ""}', '{"euros": 50, "note": ""}'
    bench.model.steps.extend(calls(("spend", cheap)))
    assert bench.ask(bench.replay(run_tools=True)).answer == "done"
    assert bench.effects() == ["spent-5"]
    bench.model.steps.extend(calls(("spend", dear)))
    assert bench.ask(bench.replay(run_tools=True)).code == "waiting"
    bench.model.steps.clear()
    bench.model.steps.extend(calls(("spend", '{"note": "", "euros": 50}')))
    assert bench.ask(bench.replay([("spend", dear, "spent then")], run_tools=True)).answer == "done"
    assert bench.outputs() == ["spent then"]
    assert bench.effects() == []


def test_a_clients_tool_has_the_output_of_the_record_or_would_wait(bench: Bench, cache: ObjectCache) -> None:
    def talk() -> Talk:
        made = Talk(cache, tools=['{"name": "look", "description": "Look.", "parameters": {"type": "object"}}'])
        kept = [RecordedCall("look", '{"at": "sky"}', "it is blue")]
        made.log().append(EditBody("copy", origin="talk-before", replay=Replay(kept)))
        return made

    bench.model.steps.extend(calls(("look", '{"at": "sky"}')))
    assert bench.ask(talk()).answer == "done"
    assert bench.outputs() == ["it is blue"]
    bench.model.steps.extend(calls(("look", '{"at": "sea"}')))
    assert bench.ask(talk()).code == "waiting"
    bench.model.steps.clear()


def test_outputs_of_several_parts_come_as_they_were(bench: Bench) -> None:
    parts = [
        {"type": "input_text", "text": "a picture"},
        {"type": "input_image", "image_url": "https://a.test/b.png"},
    ]
    bench.model.steps.extend(calls(("write", '{"name": "p"}')))
    talk = bench.replay([("write", '{"name": "p"}', parts)])
    assert bench.ask(talk).answer == "done"
    [output] = [item["output"] for item in talk.items() if item.get("type") == "function_call_output"]
    assert isinstance(output, list)
    assert [(part["type"], part.get("text") or part.get("image_url")) for part in output] == [
        ("input_text", "a picture"),
        ("input_image", "https://a.test/b.png"),
    ]


def test_tools_that_nothing_can_stand_in_for_are_not_offered(bench: Bench) -> None:
    answer = bench.ask(bench.replay(), "with a shell")
    assert (
        answer.note == "The tool local_shell was not offered to the model: no record can stand in for it in a replay."
    )


def test_runs_in_threads_of_the_agents_own_have_stand_ins(bench: Bench) -> None:
    bench.model.steps.extend(calls(("write", '{"name": "thread"}')))
    answer = bench.ask(bench.replay(), "in a thread")
    assert (answer.error, answer.answer) == ("", "done")
    assert bench.outputs() == [NOT_RUN]
    assert bench.effects() == []


@pytest.mark.parametrize("own", ["a class before", "a class in the turn", "a class beside", "an object"])
def test_a_nested_run_that_approves_by_itself_has_stand_ins_also_where_it_finds_its_tools_by_itself(
    bench: Bench, own: str
) -> None:
    call = Step(calls=(Call("pay", '{"euros": 3}', "call_own"),))
    bench.model.steps.extend([call, Step(text="done")])
    bench.ask(bench.replay(), f"approved by itself, {own}")
    assert bench.effects() == []
    assert bench.outputs() == [NOT_RUN]


def test_after_a_replay_tools_run_again_in_other_sessions(bench: Bench, cache: ObjectCache) -> None:
    bench.ask(bench.replay())
    bench.model.steps.extend(calls(("write", '{"name": "real"}')))
    bench.ask(Talk(cache))
    assert bench.effects() == ["real"]


def test_a_worker_that_does_not_know_replays_refuses_them(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from flameagent.conversation import ConversationLog, DamagedError, fold

    talk = bench.replay()
    assert records.VERSION == 8
    monkeypatch.setattr(fold, "VERSION", 7)
    conversation = ConversationLog(talk.cache, talk.ref.key).load(0)
    assert isinstance(conversation.damage, DamagedError)
    assert "newer" in str(conversation.damage)


def test_nothing_is_remembered_and_nothing_recalled(bench: Bench, cache: ObjectCache) -> None:
    from flameagent.apis import MyContext
    from flameagent.conversation import context
    from flameagent.memory import place
    from flameagent.memory.person import PersonMemory

    key = cache.put(place.prefix("app", "zoe-replayed"), context.write(MyContext(user="zoe-replayed"))).key
    before = PersonMemory(cache, key).turns()
    talk = Talk(cache, user="zoe-replayed")
    talk.log().append(EditBody("copy", origin="talk-before", replay=Replay()))
    bench.model.script = echo
    answer = bench.ask(talk, "I live in Lisbon", user="zoe-replayed", memory=key)
    assert not answer.error
    assert PersonMemory(cache, key).turns() == before == []
