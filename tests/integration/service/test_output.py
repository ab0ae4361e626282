"""An answer of another type than text is JSON that the output type reads back."""

from __future__ import annotations

import datetime as dt
import enum
import json
import uuid
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
from agents import (
    Agent,
    AgentOutputSchema,
    AgentOutputSchemaBase,
    ModelBehaviorError,
    RunContextWrapper,
    Runner,
    RunResult,
)
from agents.testing import ScriptedModel, assistant_message, function_call
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, computed_field
from typing_extensions import TypedDict

from flameagent.service import output


class City(BaseModel):
    name: str
    people: int


@dataclass
class Trip:
    to: City
    on: dt.date
    stops: list[City]


class Sky(enum.Enum):
    CLEAR = "clear"
    CLOUDY = "cloudy"


class Place(TypedDict):
    name: str
    at: tuple[float, float]


class Point(NamedTuple):
    x: int
    y: int


class Aliased(BaseModel):
    kind: str = Field(alias="kindOf")


class OneWay(BaseModel):
    kind: str = Field(serialization_alias="written", validation_alias="read")


class Counted(BaseModel, extra="forbid"):
    words: list[str]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def count(self) -> int:
        return len(self.words)


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


CITY = {"name": "Lisboa ☀", "people": 545_796}
KINDS: list[tuple[Any, Any]] = [
    (City, CITY),
    (list[City], [CITY, CITY]),
    (Trip, {"to": CITY, "on": "2026-11-25", "stops": [CITY]}),
    (list[Trip], [{"to": CITY, "on": "2026-11-25", "stops": []}]),
    (Sky, "cloudy"),
    (dict[str, Sky], {"today": "clear"}),
    (City | Sky, "clear"),
    (City | Sky, CITY),
    (int | str, "7"),
    (City | None, None),
    (list[City] | str, "none"),
    (Literal["yes", "no"], "yes"),
    (Place, {"name": "x", "at": [1.5, 2.0]}),
    (Point, [1, 2]),
    (tuple[City, Sky], [CITY, "clear"]),
    (set[int], [3]),
    (dt.datetime, "2026-11-25T20:00:00+01:00"),
    (dt.timedelta, "PT90S"),
    (Decimal, "1.10"),
    (uuid.UUID, "12345678-1234-5678-1234-567812345678"),
    (bytes, "bytes"),
    (bool, True),
    (float, 0.5),
    (Aliased, {"kindOf": "x"}),
    (OneWay, {"read": "x"}),
    (list[OneWay], [{"read": "ü"}]),
    (Counted, {"words": ["a", "b"]}),
    (Tree, {"name": "a", "children": [{"name": "b", "children": []}]}),
    (Any, {"a": [1, None]}),
]


def says(text: str) -> ScriptedModel:
    return ScriptedModel([[assistant_message(text)]])


async def answered(kind: Any, value: Any) -> tuple[str, Any]:
    schema = AgentOutputSchema(kind, strict_json_schema=False)
    said = json.dumps({"response": value} if schema._is_wrapped else value)
    agent = Agent("a", output_type=schema, model=says(said))
    result = await Runner.run(agent, "?")
    return output.text(result), result.final_output


@pytest.mark.parametrize(("kind", "value"), KINDS, ids=lambda value: str(value)[:40])
async def test_the_output_type_reads_the_answer_back(kind: Any, value: Any) -> None:
    text, final = await answered(kind, value)
    assert TypeAdapter(kind).validate_json(text) == final
    assert type(TypeAdapter(kind).validate_json(text)) is type(final)


@settings(deadline=None, max_examples=50)
@given(
    names=st.lists(st.text(), max_size=4),
    day=st.dates(),
    when=st.datetimes(timezones=st.just(dt.UTC)),
    sky=st.sampled_from(Sky),
    number=st.decimals(allow_nan=False, allow_infinity=False, places=3),
)
def test_whatever_is_in_it(names: list[str], day: dt.date, when: dt.datetime, sky: Sky, number: Decimal) -> None:
    kind = tuple[list[Trip], dt.datetime, dict[str, Sky], Decimal | None]
    value = (
        [Trip(City(name=name, people=1), day, [City(name=name, people=2)]) for name in names],
        when,
        dict.fromkeys(names, sky),
        number,
    )
    assert TypeAdapter(kind).validate_json(output.text(ended(kind, value))) == value


def ended(kind: Any, value: Any) -> RunResult:
    """A run that ended with a tool's output of that type, as `tool_use_behavior` has it."""
    return RunResult(
        input="?",
        new_items=[],
        raw_responses=[],
        final_output=value,
        input_guardrail_results=[],
        output_guardrail_results=[],
        tool_input_guardrail_results=[],
        tool_output_guardrail_results=[],
        context_wrapper=RunContextWrapper(None),
        _last_agent=Agent("a", output_type=kind),
    )


async def test_the_type_is_that_of_the_agent_that_answered() -> None:
    second = Agent("second", output_type=list[City], model=says(json.dumps({"response": [CITY]})))
    first = Agent(
        "first", model=ScriptedModel([[function_call("transfer_to_second", {}, call_id="c")]]), handoffs=[second]
    )
    result = await Runner.run(first, "?")
    assert TypeAdapter(list[City]).validate_json(output.text(result)) == result.final_output == [City(**CITY)]


class Lines(AgentOutputSchemaBase):
    """Reads a JSON list of words into a type that nothing writes."""

    class Words:
        def __init__(self, words: list[str]) -> None:
            self.words = words

    def is_plain_text(self) -> bool:
        return False

    def name(self) -> str:
        return "words"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "string"}}

    def is_strict_json_schema(self) -> bool:
        return False

    def validate_json(self, json_str: str) -> Any:
        try:
            return self.Words([str(word) for word in json.loads(json_str)])
        except ValueError as error:
            raise ModelBehaviorError(str(error)) from error


async def test_a_schema_of_its_own_reads_what_the_model_wrote() -> None:
    result = await Runner.run(Agent("a", output_type=Lines(), model=says('["one", "two"]')), "?")
    assert Lines().validate_json(output.text(result)).words == ["one", "two"]


async def test_text_is_text() -> None:
    for kind in (None, str, AgentOutputSchema(str)):
        result = await Runner.run(Agent("a", output_type=kind, model=says('["no JSON')), "?")
        assert output.text(result) == '["no JSON'


def test_what_is_no_json_is_said() -> None:
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        output.text(ended(Any, Path.open))
