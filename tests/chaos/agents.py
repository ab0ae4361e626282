"""The agents and the model that are talked to while things are killed.

Both agents do the same: a question that begins with `pay` calls a tool, one that begins with `refund` a tool that
needs an approval, any other none; one that begins with `look` brings an image, and `slow` is a `pay` whose model
takes its time. What the tools do is done once per idempotency key: a file of that name. A message that begins with
`also` may be put into a turn that runs.
The window is small, so that summaries are made; the agents' own code makes them.
`LIGHT` is made without the Agents SDK, whose import takes most of the time in which a worker is started again.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from typing import Any

from tests.support.model_server import Call, Step

_COMMON = """
import os
from pathlib import Path
from flameagent.apis import Answer, Question
from flameagent.conversation import ConversationLog
from flameagent.service import FlameInstance
from flameagent.service.turn import idempotency_key, running

# Short segments, so that the conversation goes on in another object every few turns.
ConversationLog.__init__.__kwdefaults__["segment_records"] = 6

async def summarize(before, said):
    return f"{before} {len(said)}"

instance = FlameInstance(summarize=summarize)

def effect(context):
    try:
        with (Path("effects") / idempotency_key(context)).open("x") as file:
            file.write(running.get().staged.question)
    except FileExistsError:
        pass
    return "done"
"""

SDK = (
    _COMMON
    + """
from agents import Agent, function_tool
from agents.tool_context import ToolContext

@function_tool
def pay(context: ToolContext, euros: int) -> str:
    return effect(context)

@function_tool(needs_approval=True)
def refund(context: ToolContext, euros: int) -> str:
    return effect(context)

agent = Agent(name="cashier", tools=[pay, refund])

@instance.entrypoint
async def ask(question: Question) -> Answer:
    return await instance.answer(agent, question)
"""
)

LIGHT = (
    _COMMON
    + """
import asyncio, json, urllib.request
from types import SimpleNamespace
from flameagent.conversation import Call, DecisionBody

def message(item):
    if "output" in item:
        return {"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]}
    if "name" in item:
        called = {"name": item["name"], "arguments": item["arguments"]}
        return {"role": "assistant", "tool_calls": [{"id": item["call_id"], "type": "function", "function": called}]}
    if isinstance(item["content"], list):
        return {**item, "content": item["content"][0]["text"]}
    return item

def model(items):
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions",
        json.dumps({"messages": [message(item) for item in items]}).encode(),
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)["choices"][0]["message"]

@instance.entrypoint
async def ask(question: Question) -> Answer:
    session, turn = instance.session, running.get().staged
    if turn.resumed is None:
        given = await instance.input(question)
        await session.add_items(given if isinstance(given, list) else [{"role": "user", "content": given}])
        said = await asyncio.to_thread(model, turn.items)
        if not said.get("tool_calls"):
            await session.add_items([{"role": "assistant", "content": said["content"]}])
            return Answer(said["content"])
        call, = said["tool_calls"]
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        item = {"type": "function_call", "call_id": call["id"], "name": name, "arguments": arguments}
        await session.add_items([item])
        if name == "refund":
            turn.calls, turn.state = [Call(call["id"], name, arguments)], {"light": True}
            return Answer("", code="waiting", pending=[{"id": call["id"], "tool": name, "arguments": arguments}])
    else:
        decision, item = question.decision, turn.items[-1]
        await session.decide(DecisionBody(decision.id, decision.on, approved=list(decision.approve)))
    called = SimpleNamespace(
        tool_name=item["name"], tool_arguments=item["arguments"], tool_call_id=item["call_id"]
    )
    output = effect(called)
    await session.add_items([{"type": "function_call_output", "call_id": item["call_id"], "output": output}])
    await session.add_items([{"role": "user", "content": text} for text in await instance.messages()])
    said = await asyncio.to_thread(model, turn.items)
    await session.add_items([{"role": "assistant", "content": said["content"]}])
    return Answer(said["content"])
"""
)


class Cashier:
    """The model: a script of `ModelServer` that counts how often each question was begun."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self._calls = itertools.count()
        self._lock = threading.Lock()

    def __call__(self, request: dict[str, Any]) -> Step:
        messages = request["messages"]
        last = max(index for index, message in enumerate(messages) if _asks(messages, index))
        question = messages[last]["content"]
        if isinstance(question, list):  # with an image
            question = question[0]["text"]
        if any(message["role"] == "tool" for message in messages[last:]):
            return Step(text=answer_to(question))
        with self._lock:
            self.begun[question] += 1
            number = next(self._calls)
        word = question.split()[0]
        if word in ("pay", "refund", "slow"):
            tool, delay = ("pay", 1.5) if word == "slow" else (word, 0.0)
            return Step(calls=(Call(tool, '{"euros": 5}', f"call_{number}"),), delay=delay)
        return Step(text=answer_to(question))


def _asks(messages: list[dict[str, Any]], index: int) -> bool:
    """Whether a message is a question, not one that was put into a turn, which stands behind what a tool said."""
    taken = str(messages[index].get("content")).startswith("also") and messages[index - 1]["role"] == "tool"
    return messages[index]["role"] == "user" and not taken


def answer_to(question: str) -> str:
    """What the model says to a question in the end."""
    return f"to {question}: yes"
