"""The agent is asked inside its own run: with the context that the entrypoint gives, which nobody stores."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from flameagent.apis import Answer, Decision, Question
from localflame import Engine
from tests.integration.service.talk import Talk, fresh
from tests.support.model_server import Call, ModelServer, Step

AGENT = """
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from pydantic import BaseModel, ConfigDict
from agents import Agent, RunContextWrapper, RunHooks, function_tool
from agents.mcp import MCPServerStdio
from flameagent.apis import Answer, Question
from flameagent.service import FlameInstance

@dataclass
class Data:
    since: datetime
    lock: object = field(default_factory=threading.Lock)

class Model(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    since: datetime
    open: object

def made(kind):
    since = datetime.now(UTC)
    return {
        "mapping": {"since": since, "lock": threading.Lock()},
        "dataclass": Data(since),
        "model": Model(since=since, open=open("agent.py")),
        "plain": type("Plain", (), {"since": since})(),
    }[kind]

def since(context):
    value = context.context
    return value["since"] if isinstance(value, dict) else value.since

def told(line):
    with open("told", "a") as file:
        file.write(line + "\\n")

def enabled(context, agent):
    return since(context) is not None

@function_tool(needs_approval=True, is_enabled=enabled)
def pay(context: RunContextWrapper) -> str:
    "Pay."
    return "paid since " + type(since(context)).__name__

def chosen(context, tool):
    told(f"filter {type(since(context.run_context)).__name__} {context.agent.name}")
    return True

class Hooks(RunHooks):
    async def on_tool_end(self, *_): told("hook")

server = MCPServerStdio({"command": PYTHON, "args": ["server.py"]}, tool_filter=chosen)
nested = Agent(name="nested", tools=[pay])
second = Agent(name="second", tools=[pay], mcp_servers=[server])
agent = Agent(
    name="first", tools=[pay, nested.as_tool("ask_nested", "Ask.")], handoffs=[second], mcp_servers=[server]
)
instance = FlameInstance()

@instance.entrypoint
async def ask(question: Question) -> Answer:
    kind = Path("kind").read_text()
    return await instance.answer(agent, question, context=made(kind), hooks=Hooks(), max_turns=4)
"""

SERVER = """
import os
from mcp.server import MCPServer

with open("started", "a") as file:
    file.write(f"{os.getpid()} ")
server = MCPServer("orders")

@server.tool()
def order() -> str:
    "An order."
    return "seven"

server.run()
"""

WAYS = {
    "itself": [Step(calls=(Call("pay"),))],
    "a handoff": [Step(calls=(Call("transfer_to_second"),)), Step(calls=(Call("pay"),))],
    "a tool": [Step(calls=(Call("ask_nested", '{"input": "pay"}'),)), Step(calls=(Call("pay", id="call_2"),))],
}


@pytest.mark.parametrize("way", WAYS)
def test_an_approval_waits_whatever_the_context_is(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk, way: str
) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    source = AGENT.replace("PYTHON", repr(sys.executable))
    turn = 0
    with fresh(tmp_path, source, engine, model) as one, fresh(tmp_path, source, engine, model) as other:
        for kind in ("mapping", "dataclass", "model", "plain"):
            (tmp_path / "kind").write_text(kind)
            (tmp_path / "told").write_text("")
            turn += 1
            model.steps.extend([*WAYS[way], Step(text="Paid."), Step(text="Paid.")])
            waits: Answer = one.enter(talk.id, talk.ref.encode()).invoke(Question("pay", id=f"t-{turn}"), f"{turn}")
            assert (waits.code, waits.error) == ("waiting", ""), kind
            waiting = talk.conversation.waiting
            assert waiting is not None
            assert "since" not in json.dumps(waiting.pending.state["context"])
            (call,) = waits.pending or []
            decided = Question("pay", id=f"t-{turn}", decision=Decision(f"d-{turn}", waits.on, approve=(call["id"],)))
            done: Answer = other.enter(talk.id, talk.ref.encode()).invoke(decided, f"{turn}-2")
            assert (done.error, done.answer) == ("", "Paid."), done.error
            model.steps.clear()
            sent = json.dumps(model.bodies)
            assert "paid since datetime" in sent
            said = (tmp_path / "told").read_text().split("\n")
            assert "hook" in said
            assert set(said) <= {"", "hook", "filter datetime first", "filter datetime second"}
    assert len((tmp_path / "started").read_text().split()) == 2  # once for each worker
