"""A replay asks the questions of a conversation again: what the record of that has for the calls of tools.

Promises that a call gets a recorded output only where it is of the same tool with the same arguments, as JSON values,
and that each output is given once, in the order of the record.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Any

from flameagent.conversation.records import Item, RecordedCall

NOT_RUN = (
    "This call was not carried out: an earlier conversation is asked again, and its record has no output for a call "
    "with these arguments."
)
"""What the model is told of a call that the record has no output of."""


def arguments_value(arguments: object) -> str:
    """The arguments of a call in one form: equal for equal JSON values, however they are written.

    What is no JSON is compared as text.
    """
    text = str(arguments or "")
    try:
        return json.dumps(_plain(json.loads(text or "{}")), sort_keys=True)
    except (ValueError, RecursionError):
        return text


def tool_of(item: Item) -> str:
    """The name of the tool that an item calls, with its namespace, where it has one."""
    name, namespace = str(item.get("name", "")), str(item.get("namespace") or "")
    return f"{namespace}.{name}" if namespace and namespace != name else name


def recorded_calls(items: Iterable[Item]) -> list[RecordedCall]:
    """The calls among the items that have an output, in their order."""
    items = list(items)
    outputs: defaultdict[str, deque[Any]] = defaultdict(deque)  # old records have IDs twice
    for item in items:
        if item.get("type") == "function_call_output":
            outputs[str(item.get("call_id"))].append(item.get("output"))
    made = []
    for item in items:
        if item.get("type") == "function_call" and (of_this := outputs[str(item.get("call_id"))]):
            made.append(RecordedCall(tool_of(item), str(item.get("arguments") or ""), of_this.popleft()))
    return made


class RecordedOutputs:
    """The outputs that a record has, each to be given once."""

    def __init__(self, calls: Iterable[RecordedCall]) -> None:
        self._left: defaultdict[tuple[str, str], deque[RecordedCall]] = defaultdict(deque)
        for call in calls:
            self._left[call.tool, arguments_value(call.arguments)].append(call)

    def take(self, tool: str, arguments: object) -> RecordedCall | None:
        """The recorded call with the next output for a call of that tool; None where there is none left."""
        left = self._left.get((tool, arguments_value(arguments)))
        return left.popleft() if left else None

    def left(self) -> list[RecordedCall]:
        """Those that were not given."""
        return [call for calls in self._left.values() for call in calls]


def _plain(value: Any) -> Any:
    """JSON in which equal numbers are written alike, and no number is `true`."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
