"""Expectations of a conversation: the schema of the file says what is read, and what is compared how."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from flameagent.client.errors import UsageError
from flameagent.client.replay import Again, MadeCall
from flameagent.conversation.replayed import NOT_RUN
from flameagent.trying.evaluation import check
from flameagent.trying.expectations import Expectation, ExpectedCall, expectations, read

DOCS = Path(__file__).resolve().parents[2] / "docs"

RIGHT = [
    "turns: [{turn: 1, contains: x}]",
    "turns: [{turn: 2, calls: [a, {tool: b, arguments: {c: {d: 1}}}], not_calls: c}]",
    "turns: [{turn: 1, judge: [x, y]}, {turn: 2, json_schema: {}}]",
]
WRONG = [
    "{}",
    "turns: []",
    "turns: [{turn: 0, contains: x}]",
    "turns: [{turn: 1}]",
    "turns: [{turn: 1, contains: [1]}]",
    "turns: [{turn: 1, calls: [{arguments: {}}]}]",
    "turns: [{turn: 1, calls: [{tool: a, args: {}}]}]",
    "turns: [{turn: 1, contains: ''}]",
    "more: 1\nturns: [{turn: 1, contains: x}]",
]


@pytest.mark.parametrize("text", [*RIGHT, *WRONG])
def test_the_schema_says_what_is_read(tmp_path: Path, text: str) -> None:
    schema = json.loads((DOCS / "expectations-schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    (tmp_path / "a.expect.yaml").write_text(text)
    valid = Draft202012Validator(schema).is_valid(yaml.safe_load(text))
    assert valid == (text in RIGHT)
    if valid:
        assert read(tmp_path / "a.expect.yaml", [1, 2])
    else:
        with pytest.raises(UsageError, match=r"line [12]: "):
            read(tmp_path / "a.expect.yaml", [1, 2])


def test_the_example_of_the_page_is_read(tmp_path: Path) -> None:
    [example] = re.findall(r"```yaml\n(turns:.*?)```", (DOCS / "observability.md").read_text(), re.DOTALL)
    (tmp_path / "a.expect.yaml").write_text(example)
    found = read(tmp_path / "a.expect.yaml", [1, 2, 3])
    kinds = [each.kind for turn in found for each in expectations(turn)]
    assert kinds == ["contains", "calls", "not_calls", "json_schema", "judge"]


def test_values_are_those_of_json(tmp_path: Path) -> None:
    arguments = "{b: no, c: 2026-01-31, d: 1.5, e: true, f: null, g: 0x10}"
    text = f"turns: [{{turn: 1, calls: [{{tool: a, arguments: {arguments}}}]}}]"
    (tmp_path / "a.expect.yaml").write_text(text)
    [turn] = read(tmp_path / "a.expect.yaml", [1])
    [expected] = expectations(turn)
    assert expected.what.arguments == {"b": "no", "c": "2026-01-31", "d": 1.5, "e": True, "f": None, "g": "0x10"}


@pytest.mark.parametrize("value", ["!!int abc", "!!int 0x10", "!!float zz", "!!float ''"])
def test_what_is_said_to_be_a_number_and_is_none_is_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / "a.expect.yaml").write_text(f"turns:\n- {{turn: 1, calls: [{{tool: a, arguments: {{b: {value}}}}}]}}")
    with pytest.raises(UsageError, match=r"line 2: .* is no number"):
        read(tmp_path / "a.expect.yaml", [1])


@pytest.mark.parametrize("answer", ["NaN", '{"a": Infinity}', "[-Infinity]", "", "{"])
def test_an_answer_that_is_no_json_fits_no_schema(answer: str) -> None:
    found = check(Expectation("json_schema", {}), Again("answered", "s", answer=answer))
    assert found.outcome == "failed" and "is no JSON" in found.message


@pytest.mark.parametrize("kind", ["contains", "not_contains", "judge"])
def test_the_output_of_a_call_that_was_not_carried_out_is_no_answer(kind: str) -> None:
    again = Again("answered", "s", answer=NOT_RUN, calls=[MadeCall("t", "{}", NOT_RUN, "not_run")])
    found = check(Expectation(kind, "conversation"), again)
    assert found.outcome == "error" and "not carried out" in found.message
    assert check(Expectation("not_calls", "other"), again).outcome == "passed"


@pytest.mark.parametrize(
    ("made", "wanted", "holds"),
    [
        ('{"a": 1, "b": 2}', {"a": 1}, True),
        ('{"a": 1.0}', {"a": 1}, True),
        ('{"a": true}', {"a": 1}, False),
        ('{"a": {"b": 1, "c": 2}}', {"a": {"c": 2}}, True),
        ('{"a": [1, 2]}', {"a": [1]}, False),
        ('{"a": [{"b": 1, "c": 2}]}', {"a": [{"b": 1}]}, True),
        ('{"a": null}', {"a": None}, True),
        ("{}", {"a": None}, False),
        ("no JSON", {}, True),
        ("no JSON", {"a": 1}, False),
    ],
)
def test_arguments_are_among_those_of_the_call(made: str, wanted: dict[str, object], holds: bool) -> None:
    again = Again("answered", "s", calls=[MadeCall("t", made, "", "not_run")])
    found = check(Expectation("calls", ExpectedCall("t", wanted)), again)
    assert (found.outcome == "passed") == holds
