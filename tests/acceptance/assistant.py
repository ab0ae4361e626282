"""A model that remembers as a real one does: it calls tools, reads their outputs and then answers.

What it says follows from the messages and tools that it is sent, and from nothing else.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.support.model_server import Call, Step, echo


def assistant(request: dict[str, Any]) -> Step:
    """The next message of a conversation about a name and a city; anything else is echoed."""
    asked, outputs = _since_the_question(request["messages"])
    calls = _calls(asked)
    if not calls:
        return echo(request)
    if outputs:
        return Step(text=_answer(calls[0][0], outputs))
    offered = {tool["function"]["name"] for tool in request.get("tools", [])}
    if missing := [tool for tool, _ in calls if tool not in offered]:
        return Step(text=f"I have no tool {missing[0]}.")
    first = sum(len(message.get("tool_calls") or []) for message in request["messages"]) + 1
    return Step(
        text="Let me see. ",
        calls=tuple(
            Call(tool, json.dumps(arguments), f"call_{number}")
            for number, (tool, arguments) in enumerate(calls, first)
        ),
    )


def _calls(asked: str) -> list[tuple[str, dict[str, str]]]:
    if found := re.fullmatch(r"My name is (\w+) and I live in (\w+)", asked):
        return [
            ("remember", {"key": "name", "value": found[1]}),
            ("remember", {"key": "city", "value": found[2]}),
        ]
    if found := re.fullmatch(r"What's my (\w+)\?", asked):
        return [("recall", {"key": found[1]})]
    if found := re.fullmatch(r"forget my (\w+)(?: and my (\w+))?", asked):
        return [("forget", {"key": key}) for key in found.groups() if key]
    return []


def _answer(tool: str, outputs: list[str]) -> str:
    if tool == "remember":
        return "Nice to meet you. I will remember that."
    if tool == "recall":
        found = re.fullmatch(r"(\w+): (.*)", outputs[0])
        return f"Your {found[1]} is {found[2]}." if found else f"I do not know. {outputs[0]}"
    return " ".join(outputs)


def _since_the_question(messages: list[dict[str, Any]]) -> tuple[str, list[str]]:
    """The last question of the user, and what tools have said since."""
    last = max(index for index, message in enumerate(messages) if message["role"] == "user")
    return messages[last]["content"], [message["content"] for message in messages[last:] if message["role"] == "tool"]
