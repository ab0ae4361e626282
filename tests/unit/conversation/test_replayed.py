"""What a record has for calls: which are equal, and in which order their outputs are given."""

from __future__ import annotations

from typing import Any

import pytest

from flameagent.conversation.replayed import RecordedOutputs, arguments_value, recorded_calls


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ('{"a": 1, "b": [1, 2]}', '{ "b":[1,2],"a":1 }', True),
        ('{"a": 1}', '{"a": 1.0}', True),
        ('{"a": 1}', '{"a": 1e0}', True),
        ('{"a": 1}', '{"a": true}', False),
        ('{"a": 1}', '{"a": "1"}', False),
        ('{"a": [1, 2]}', '{"a": [2, 1]}', False),
        ('{"a": "\\u00e9"}', '{"a": "é"}', True),
        ('{"a": null}', "{}", False),
        ("", "{}", True),
        ("not JSON", "not JSON", True),
        ("not JSON", "not  JSON", False),
    ],
)
def test_arguments_are_compared_as_values(one: str, other: str, equal: bool) -> None:
    assert (arguments_value(one) == arguments_value(other)) == equal


def _call(call_id: str, arguments: str = "{}", **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": "t", "arguments": arguments, **more}


def _output(call_id: str, output: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def test_equal_calls_have_their_outputs_in_the_order_of_the_calls() -> None:
    items = [_call("a"), _call("b"), _output("b", "second"), _output("a", "first"), _call("c", '{"x": 1}')]
    outputs = RecordedOutputs(recorded_calls(items))
    found = [outputs.take("t", "{ }") for _ in range(3)]
    assert [each.output if each else None for each in found] == ["first", "second", None]
    assert outputs.take("t", '{"x": 1}') is None  # it never had one
    assert outputs.take("other", "{}") is None


def test_ids_that_are_there_twice_belong_to_one_call_each() -> None:
    items = [_call("a"), _output("a", "one"), _call("a"), _output("a", "two")]
    assert [call.output for call in recorded_calls(items)] == ["one", "two"]


def test_a_namespace_is_part_of_the_tool() -> None:
    [call] = recorded_calls([_call("a", namespace="files"), _output("a", "x")])
    assert call.tool == "files.t"
