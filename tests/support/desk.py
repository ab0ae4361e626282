"""A desk whose agents ask each other and need approvals, and a model that begins its IDs anew in each request."""

from __future__ import annotations

import json
from typing import Any

from tests.support.model_server import Call, Step

AGENTS = """
import os
from agents import Agent, OpenAIProvider, OpenAIChatCompletionsModel, RunConfig, function_tool
from openai import AsyncOpenAI
from flameagent.apis import Answer, Question
from flameagent.service import FlameInstance

instance = FlameInstance()

def effect(what):
    with open("effects", "a") as file:
        file.write(what + "\\n")
    if what == os.environ.get("CRASH") and open("effects").read().split("\\n").count(what) == 1:
        os._exit(9)
    return "done: " + what

@function_tool(needs_approval=True)
def refund(order: int) -> str:
    return effect(f"refund {order}")

@function_tool(needs_approval=True)
def void(order: int) -> str:
    return effect(f"void {order}")

@function_tool(name_override="refund", needs_approval=True)
def other_refund(order: int) -> str:
    return effect(f"other refund {order}")

def theirs():
    client = AsyncOpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key="none")
    return OpenAIChatCompletionsModel("theirs", client)

def asks(name, agent, tools=(), **more):
    return Agent(name=name, instructions=name, tools=[*tools, agent.as_tool(f"ask_{agent.name}", "asks", **more)])

provider = OpenAIProvider(base_url=os.environ["OPENAI_BASE_URL"], api_key="none", use_responses=False)
clerk = Agent(name="clerk", instructions="clerk", tools=[refund, void])
twin = Agent(name="clerk", instructions="twin", tools=[refund])
other = Agent(name="other", instructions="other", tools=[other_refund])
agents = {
    "": asks("desk", clerk, [refund, other.as_tool("ask_other", "asks")]),
    "their-own": asks("desk", clerk.clone(model=theirs()), [refund]),
    "their-run": asks("desk", clerk, [refund], run_config=RunConfig(model="theirs", model_provider=provider)),
    "deep": asks("desk", asks("office", clerk)),
    "twins": asks("desk", clerk, [twin.as_tool("ask_twin", "asks")]),
    "deeper": asks("desk", asks("office", asks("branch", clerk))),
    "handoff": Agent(name="desk", instructions="desk", handoffs=[clerk]),
    "alone": Agent(name="desk", instructions="desk", tools=[refund, void], model=theirs()),
    "other-desk": Agent(name="other", instructions="other", tools=[other_refund]),
}

@instance.entrypoint
async def ask(question: Question) -> Answer:
    which, _, _ = question.question.rpartition("@")
    return await instance.answer(agents[which], question)
"""


def desk(request: dict[str, Any]) -> Step:
    """A model that begins its numbers anew in each request, and does what it is asked in words.

    `ask_clerk: refund 7, void 8; ask_clerk: refund 8` asks the clerk twice at once; `&` is a `;` further inside.
    """
    messages = request["messages"]
    last = max(index for index, message in enumerate(messages) if message["role"] == "user")
    offered = {tool["function"]["name"] for tool in request["tools"]}
    outputs = [m["content"] for m in messages[last:] if m["role"] == "tool"]
    if outputs and "transfer_to_clerk" not in {c["function"]["name"] for c in messages[-2].get("tool_calls", [])}:
        return Step(text="; ".join(outputs))
    if "transfer_to_clerk" in offered:
        return Step(calls=(Call("transfer_to_clerk", "{}", "functions.refund:0"),))
    calls = []
    for part in messages[last]["content"].rpartition("@")[2].split(";"):
        tool, is_question, question = part.strip().partition(": ")
        if is_question:
            calls.append(Call(tool, json.dumps({"input": question.replace("&", ";")}), "functions.refund:0"))
            continue
        for tool, order in (each.split() for each in part.split(",")):
            calls.append(Call(tool, json.dumps({"order": int(order)}), "functions.refund:0"))
    return Step(calls=tuple(calls))
