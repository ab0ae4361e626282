"""The logs of a session's instance, as the author of its agent reads them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.program import PATIENCE, ROOT, Program, interrupt
from tests.acceptance.terminal import Terminal
from tests.support.model_server import Call, ModelServer, Step

_AGENT = """
from agents import Agent, function_tool
from flameagent import Answer, FlameInstance, Question

@function_tool
def divide(number: int) -> float:
    print(f"dividing by {number}")
    return 1 / number

instance = FlameInstance()

@instance.entrypoint
async def ask(question: Question) -> Answer:
    return await instance.answer(Agent(name="divider", tools=[divide]), question)
"""


@pytest.fixture(scope="module")
def divider(embedded: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The client of an agent whose tool fails where it is asked for 0, on an engine of its own."""
    folder = tmp_path_factory.mktemp("divider")
    for part in ("flameagent", "flamewire", "localflame", "apis.py", "client.py"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    (folder / "agent.py").write_text(_AGENT)
    (folder / "openai-agent.yaml").write_text("metadata: {name: openai-agent}\nspec: {}\n")
    home = folder / "engine"
    program = Program(embedded.having(LOCALFLAME_HOME=str(home), HOME=str(folder)).environment, folder)
    yield program
    program("engine", "stop")


def _divides(request: dict[str, Any]) -> Step:
    last = request["messages"][-1]
    if last["role"] == "tool":
        return Step(text=f"It is {last['content']}.")
    return Step(calls=(Call("divide", json.dumps({"number": int(last["content"])})),))


def test_the_log_of_a_session_has_the_traceback_of_its_tool(divider: Program, model: ModelServer) -> None:
    model.script = _divides
    failed = divider("-m", "0", "--json").json["session_id"]
    other = divider("-m", "4", "--json").json["session_id"]
    log = divider("engine", "logs", "-s", failed).out
    assert f", of {failed}:\n" in log and other not in log
    assert "Traceback (most recent call last):" in log and "ZeroDivisionError: division by zero" in log
    assert "return 1 / number" in log and "dividing by 0" in log

    newest = divider("engine", "logs").out
    assert f", of {other}:\n" in newest and "engine.log:\n" in newest and failed not in newest

    divider("engine", "stop")
    assert divider("engine", "logs", "-s", failed.rpartition("-")[2]).out == log
    assert divider("engine", "logs", "-s", failed, "-n", "1").out.count("\n") == 2
    assert (
        "No session of openai-agent has 'nobody' in its ID." in divider("engine", "logs", "-s", "nobody", code=4).err
    )


def test_a_log_is_followed_into_the_next_instance_of_its_session(divider: Program, model: ModelServer) -> None:
    model.script = _divides
    session = divider("-m", "2", "--json").json["session_id"]
    terminal = Terminal(divider, "engine", "logs", "-f", "-s", session)
    terminal.shows("dividing by 2")
    divider("engine", "stop")
    divider("-s", session, "-m", "5", "-q")
    terminal.shows("dividing by 5")
    assert terminal.text.count(f", of {session}:") == 2
    interrupt(terminal.run)
    terminal.ended(130)


def test_who_follows_a_log_ends_when_nobody_reads_it(divider: Program, model: ModelServer) -> None:
    model.script = _divides
    divider("-m", "8", "-q")
    following = divider.start("engine", "logs", "-f", "-n", "1")
    assert following.stdout is not None
    assert following.stdout.readline()
    following.stdout.close()
    for number in (16, 32):
        divider("-m", str(number), "-q")
    assert following.wait(PATIENCE) == 0


def test_the_logs_of_a_cluster_are_said_to_be_on_its_nodes(divider: Program) -> None:
    elsewhere = divider.having(FLAME_ENDPOINT="http://127.0.0.1:9")
    said = elsewhere("engine", "logs", code=2).err
    assert said.startswith(
        "The Flame at http://127.0.0.1:9 (FLAME_ENDPOINT) keeps what an instance prints on the node"
    )
    assert elsewhere("engine", "logs", "-s", "x", "-f", code=2).err == said
