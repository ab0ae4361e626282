"""A project whose tools leave files, and a model that calls a tool where a question says so: for replays."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.program import Program
from tests.chaos.storm import checkout
from tests.support.model_server import Call, ModelServer, Step, echo

AGENT = """
from pathlib import Path
from agents import Agent, function_tool
from flameagent.apis import Answer, Question
from flameagent.service import FlameInstance, memory

@function_tool
def write(name: str, text: str = "") -> str:
    Path("effects").joinpath(name).write_text(text)
    return f"wrote {name}"

@function_tool(needs_approval=True)
def pay(euros: int) -> str:
    Path("effects").joinpath(f"paid-{euros}").touch()
    return f"paid {euros}"

agent = Agent(name="clerk", tools=[write, pay, *memory.tools()])
instance = FlameInstance()

@instance.entrypoint
async def ask(question: Question) -> Answer:
    return await instance.answer(agent, question)
"""


class Clerk:
    """A project whose tools leave files, and a model that calls a tool where a question says so."""

    def __init__(self, program: Program, model: ModelServer) -> None:
        self.program, self.model = program, model

    def effects(self) -> set[str]:
        return {file.name for file in (self.program.folder / "effects").iterdir()}

    def forget(self) -> None:
        for file in (self.program.folder / "effects").iterdir():
            file.unlink()

    def begin(self, *questions: str) -> str:
        """A conversation with these questions; its session."""
        session = ""
        for question in questions:
            more = ["-s", session] if session else []
            done = self.program("-m", question, *more, "--json", code=3 if question.startswith("pay") else 0)
            session = str(done.json["session_id"])
        return session

    def sessions(self) -> set[str]:
        return {each["session_id"] for each in self.program("sessions", "--json").json}


def calling(request: dict[str, Any]) -> Step:
    """`write NAME` and `pay N` are calls, of a model that is called `other` with other arguments and words."""
    messages = request["messages"]
    asked = next(each["content"] for each in reversed(messages) if each["role"] == "user")
    other = request["model"] == "other"
    if messages[-1]["role"] == "tool":
        return Step(text=f"{'Well, it' if other else 'It'} says: {messages[-1]['content']}")
    if found := re.fullmatch(r"write (\w+)", str(asked)):
        arguments = {"name": found[1], "text": "x"}
        return Step(calls=(Call("write", json.dumps(arguments, indent=2 if other else None), "call_w"),))
    if found := re.fullmatch(r"change (\w+)", str(asked)):
        return Step(calls=(Call("write", json.dumps({"name": f"{found[1]}-{request['model']}"}), "call_c"),))
    if found := re.fullmatch(r"pay (\d+)", str(asked)):
        return Step(calls=(Call("pay", json.dumps({"euros": int(found[1]) + 10 * other}), "call_p"),))
    if found := re.fullmatch(r"remember (\w+)", str(asked)):
        return Step(calls=(Call("remember", json.dumps({"key": "word", "value": found[1]}), "call_r"),))
    return echo(request)


@contextmanager
def a_clerk(folder: Path) -> Iterator[Clerk]:
    """The project with an engine of its own."""
    with ModelServer(script=calling) as model:
        program = checkout(folder, AGENT, model, AGENT_MODEL="scripted")
        yield Clerk(program, model)
        program("engine", "stop")
