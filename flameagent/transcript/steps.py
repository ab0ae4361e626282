"""The steps of a conversation, as a reader sees them: who said what, which call gave what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from flameagent.client.history import History
from flameagent.conversation import Conversation, Item, item_text
from flameagent.transcript import wording


@dataclass(frozen=True)
class Step:
    """An item as a reader sees it: a message or something else under a `label`, or a call with its `output`."""

    label: str
    text: str
    output: str | None = None
    call_id: str = ""

    @property
    def is_call(self) -> bool:
        """True for a tool call; its label is then the tool, its text the arguments."""
        return bool(self.call_id)


def steps(added: list[Item]) -> Iterator[Step]:
    """Items as a reader sees them, each call together with its output."""
    outputs = {
        item.get("call_id"): item_text.describe_item(item)[1]
        for item in added
        if item.get("type") == "function_call_output"
    }
    called = {item.get("call_id") for item in added if item.get("type") == "function_call"}
    for item in added:
        call_id = item.get("call_id")
        if item.get("type") == "function_call" and isinstance(call_id, str):
            arguments = _indented(str(item.get("arguments") or ""))
            yield Step(str(item.get("name", "?")), arguments, outputs.get(call_id), call_id)
        elif not (item.get("type") == "function_call_output" and call_id in called):
            yield Step(*item_text.describe_item(item))


def heading(found: History) -> str:
    """The title of a conversation: the one it was given, or its first question."""
    conversation = found.conversation or Conversation()
    first = next((turn.question for turn, _ in conversation.turns()), "")
    return conversation.title or wording.title(first) or found.session_id


def _indented(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return arguments
