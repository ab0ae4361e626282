"""The Responses dialect without a server: IDs, inputs, and events that the official client understands."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai._models import construct_type
from openai._types import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent

from flameagent.client.errors import TurnFailed
from flameagent.client.events import (
    AgentChanged,
    ApprovalNeeded,
    AttemptBegan,
    Event,
    ReasoningDelta,
    TextDelta,
    ToolCalled,
    ToolOutput,
)
from flameagent.conversation import Call, TurnDecision, Usage
from flameagent.server.dialects.responses import input as inputs
from flameagent.server.dialects.responses.events import ResponseEvents
from flameagent.server.dialects.responses.ids import ResponseId
from flameagent.server.dialects.responses.passes import Passes, Standing, Stop
from flameagent.server.errors import NotFoundError, RequestError

NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_KINDS = [
    "message",
    "mcp_approval_response",
    "function_call",
    "function_call_output",
    "mcp_call",
    "reasoning",
    "input_text",
    "output_text",
    "input_image",
    "input_file",
    "refusal",
    "other",
]
_FIELDS = [
    "role",
    "content",
    "text",
    "image_url",
    "file_data",
    "file_id",
    "filename",
    "call_id",
    "name",
    "arguments",
    "output",
    "id",
    "approve",
    "approval_request_id",
    "reason",
]
VALUES = JSON | st.sampled_from(
    ["user", "assistant", "x", "data:text/plain;base64,YQ==", "data:image/png;base64,%", True]
)
PART = st.builds(
    lambda kind, fields: {"type": kind, **fields},
    st.sampled_from(_KINDS),
    st.dictionaries(st.sampled_from(_FIELDS), VALUES, max_size=5),
)
ITEM = st.builds(lambda part, parts: {**part, "content": parts} if parts else part, PART, st.lists(PART, max_size=3))


@given(NAMES, NAMES, st.integers(0, 10**6))
def test_the_id_of_a_response_is_read_back(session: str, turn: str, number: int) -> None:
    made = ResponseId(session, turn, number)
    assert ResponseId.read(str(made)) == made and str(made).isascii() and "/" not in str(made)


@given(st.text(max_size=60) | st.text("abcdefABCDEF0123_-=", max_size=60).map(lambda text: f"resp_{text}"))
def test_what_is_no_id_is_not_found(text: str) -> None:
    with contextlib.suppress(NotFoundError):
        assert str(ResponseId.read(text)) == text


@given(st.lists(PART | ITEM, max_size=4))
@settings(max_examples=400)
def test_whatever_comes_as_input_is_read_or_refused(given_items: list[dict[str, Any]]) -> None:
    for read in (inputs.read, inputs.items):
        try:
            read(given_items)
        except RequestError as refused:
            assert refused.status == 400 and str(refused)


def test_the_last_message_is_the_question_and_what_is_before_it_begins() -> None:
    user, said = {"role": "user", "content": "one"}, {"role": "assistant", "content": "well"}
    found = inputs.read([user, said, user, {"role": "user", "content": "two"}])
    assert [each.text for each in found.asked] == ["one", "two"] and len(found.before) == 3
    with pytest.raises(RequestError, match="ends with a message of the user"):
        inputs.read([user, said])


def _turn(steps: list[str | int]) -> tuple[list[Event], list[dict[str, Any]]]:
    """A text is a message, a number a call: with its output, or for an odd one an approval before that."""
    events: list[Event] = []
    items: list[dict[str, Any]] = [{"role": "user", "content": "?"}]
    for number, step in enumerate(steps):
        if isinstance(step, str):
            kind = ReasoningDelta if step.startswith("r") else TextDelta
            events += [kind(letter) for letter in step]
            text = [{"type": "summary_text" if kind is ReasoningDelta else "output_text", "text": step}]
            reasoning = {"type": "reasoning", "summary": text}
            items.append(reasoning if kind is ReasoningDelta else {"role": "assistant", "content": text})
            events.append(AgentChanged("next"))
            continue
        events.append(ToolCalled(f"c{number}", "tool", "{}"))
        items.append({"type": "function_call", "call_id": f"c{number}", "name": "tool", "arguments": "{}"})
        if step % 2:
            events.append(ApprovalNeeded((Call(f"c{number}", "tool", "{}"),)))
        events.append(ToolOutput(f"c{number}", str(step)))
        items.append({"type": "function_call_output", "call_id": f"c{number}", "output": str(step)})
    return events, items


def _passes(steps: list[str | int], items: list[dict[str, Any]]) -> Passes:
    stops = []
    for number, step in enumerate(steps):
        if isinstance(step, int) and step % 2:
            place = next(place for place, item in enumerate(items) if item.get("call_id") == f"c{number}") + 1
            call = Call(f"c{number}", "tool", "{}")
            stops.append(Stop(place, Usage(), [call], [TurnDecision(1, approved=[call.id], calls=[call])]))
    return Passes("t1", "?", items, stops, Usage(requests=1), 1, answered=True)


def _standing(passes: Passes, number: int) -> Standing:
    response, output = ResponseId("s", "t1", number), passes.output(number)
    return Standing(response, "agent", "completed", 1.0, output=output, requested=passes.requested)


def _told(events: list[Event], standing: Standing, after: int = -1) -> list[dict[str, Any]]:
    begun = Standing(standing.id, "agent", "in_progress", 1.0)
    made = ResponseEvents(begun, after)
    told = list(made.begin())
    for event in events:
        if not made.ended:
            told += made.feed(event)
    return [*told, *made.end(standing)]


STEPS = st.lists(st.one_of(st.text("rabc", min_size=1, max_size=5), st.integers(0, 9)), min_size=1, max_size=7)


@given(STEPS, st.data())
@settings(max_examples=300, deadline=None)
def test_the_official_client_understands_every_pass_of_a_turn_that_begins_again(
    steps: list[str | int], data: st.DataObject
) -> None:
    events, items = _turn(steps)
    passes = _passes(steps, items)
    told_again: list[Event] = []  # what was told since the last stop is lost once, at some place
    since: list[Event] = []
    for event in events:
        told_again.append(event)
        since.append(event)
        if isinstance(event, ApprovalNeeded):
            since = []
        elif data.draw(st.integers(0, 4)) == 0:
            told_again += [AttemptBegan(), *since]
    for number in range(passes.last + 1):
        standing = _standing(passes, number)
        told = _told(told_again, standing)
        assert [each["sequence_number"] for each in told] == list(range(len(told)))
        state: Any = ResponseStreamState(input_tools=omit, text_format=omit)
        for each in told:
            state.handle_event(construct_type(value=json.loads(json.dumps(each)), type_=ResponseStreamEvent))
        final = state._completed_response
        assert [item.id for item in final.output] == [each.id for each in standing.output]
        assert [each["item"]["id"] for each in told if each["type"] == "response.output_item.done"]
        texts: dict[str, str] = {}
        for each in told:
            if each["type"].endswith("text.delta"):
                texts[each["item_id"]] = texts.get(each["item_id"], "") + each["delta"]
        shown = {each.id: each.text for each in standing.output if hasattr(each, "text")}
        assert shown == texts
        for after in range(len(told)):
            assert _told(told_again, standing, after)[:-1] == told[after + 1 : -1]
            assert _told(told_again, standing, after)[-1]["response"] == told[-1]["response"]


@given(STEPS, st.integers(0, 60))
def test_who_was_told_more_than_is_left_is_told_the_end(steps: list[str | int], after: int) -> None:
    _, items = _turn(steps)
    passes = _passes(steps, items)
    standing = _standing(passes, passes.last)
    told = _told([], standing, after)
    assert told[-1]["type"] == "response.completed" and told[0]["sequence_number"] > after
    failed = Standing(standing.id, "agent", "failed", 1.0, error=TurnFailed("no", code="model"))
    assert [each["type"] for each in _told([], failed, 1000)] == ["response.failed", "error"]
