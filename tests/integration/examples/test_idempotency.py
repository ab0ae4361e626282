"""`idempotency_key`: the same when a turn runs again after a crash, another for each call of a turn."""

from __future__ import annotations

from pathlib import Path

from flameagent.apis import Answer, Decision, Question
from flameagent.flame.cache import ObjectCache
from localflame import Engine
from tests.integration.service.talk import Talk, fresh
from tests.support.model_server import Call, ModelServer, Step
from tests.support.shim import Shim

PAYS = """
import os
from pathlib import Path
from agents import Agent, function_tool
from agents.tool_context import ToolContext
from flameagent.apis import Answer, Question
from flameagent.service import FlameInstance
from flameagent.service.turn import idempotency_key

def note(context):
    with open("keys", "a") as file:
        file.write(idempotency_key(context) + " ")

@function_tool
def pay(context: ToolContext, euros: int) -> str:
    note(context)
    if euros == 13 and not Path("died").exists():
        Path("died").touch()
        os._exit(9)
    return "paid"

@function_tool(needs_approval=True)
def pay_back(context: ToolContext, euros: int) -> str:
    note(context)
    if Path("die").exists():
        Path("die").unlink()
        os._exit(9)
    return "paid back"

agent = Agent(name="cashier", tools=[pay, pay_back])
instance = FlameInstance()

@instance.entrypoint
async def ask(question: Question) -> Answer:
    return await instance.answer(agent, question)
"""


def pays(*euros: int, tool: str = "pay") -> Step:
    return Step(calls=tuple(Call(tool, f'{{"euros": {much}}}', f"p-{at}") for at, much in enumerate(euros)))


def keys(folder: Path) -> list[str]:
    return (folder / "keys").read_text().split()


def test_a_turn_that_dies_and_runs_again_gives_the_same_key(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk
) -> None:
    model.steps.extend([pays(13), pays(13), Step(text="done")])
    with fresh(tmp_path, PAYS, engine, model) as shim:
        assert shim.enter(talk.id, talk.ref.encode()).invoke(Question("pay")).answer == "done"
    first, again = keys(tmp_path)
    assert first == again


def test_each_call_of_a_conversation_has_a_key_of_its_own(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk, cache: ObjectCache
) -> None:
    with fresh(tmp_path, PAYS, engine, model) as shim:
        shim.enter(talk.id, talk.ref.encode())
        for turn in "1", "2":
            # Twice the same at once, and once more after their outputs; and another sum.
            model.steps.extend([pays(5, 5, 6), pays(5), Step(text="done")])
            assert shim.invoke(Question("pay", id=f"{talk.id}-{turn}"), turn).answer == "done"
    assert len(keys(tmp_path)) == len({*keys(tmp_path)}) == 8


def test_a_key_is_the_same_when_a_decision_is_carried_out_again(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk
) -> None:
    with fresh(tmp_path, PAYS, engine, model) as shim:
        shim.enter(talk.id, talk.ref.encode())
        model.steps.append(pays(5, 5, tool="pay_back"))
        waiting: Answer = shim.invoke(Question("pay back", id="t"), "1")
        waiting = decide(shim, waiting, "p-0", "2")
        (tmp_path / "die").touch()
        waiting = decide(shim, waiting, "p-1", "3")
        assert "may have run" in waiting.note
        model.steps.append(Step(text="done"))
        assert decide(shim, waiting, "p-1", "4").answer == "done"
    first, second, again = keys(tmp_path)
    assert first != second == again


def decide(shim: Shim, waiting: Answer, call: str, task: str) -> Answer:
    decision = Decision(f"d-{task}", waiting.on, approve=(call,))
    answer: Answer = shim.invoke(Question("pay back", id="t", decision=decision), task)
    return answer
