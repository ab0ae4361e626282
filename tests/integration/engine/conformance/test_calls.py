"""Every call is answered as Flame 0.6.0 answered it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.engine.conformance.calls import SEEN, answer, calls

if TYPE_CHECKING:
    from tests.integration.engine.client import Client

SEEN_ANSWERS: dict[str, Any] = json.loads(SEEN.read_text())

#: Where localflame answers otherwise, on purpose: in Flame the handler of the call panics.
PANICS = {
    "nowhere": ["INVALID_ARGUMENT", "unknown specification: nowhere"],
    "one column": ["FlightInternalError", "Invalid data column"],
}


def comparable(content: Any) -> Any:
    """The content, but what a parser of JSON or a validator says in its own words."""
    if isinstance(content, list) and len(content) == 2 and " schema: " in str(content[1]):
        return [content[0], content[1].partition(" schema: ")[0]]
    return content


@pytest.fixture(scope="module")
def answers(flame: Client) -> dict[str, Any]:
    """What this engine answers, by the call: all are made, since later ones stand on earlier ones."""
    return {name: json.loads(json.dumps(answer(flame, call))) for name, call in calls()}


@pytest.mark.parametrize(
    "name", [pytest.param(name, id=f"{number} {name[:60]}") for number, (name, _) in enumerate(calls(), 1)]
)
def test_a_call_is_answered_as_flame_answers_it(answers: dict[str, Any], name: str) -> None:
    ours, flames = answers[name], SEEN_ANSWERS[name]
    panic = next((PANICS[words] for words in PANICS if words in name and "removed" in str(flames)), None)
    if panic is not None and "FLAME_ENDPOINT" not in os.environ:
        assert ours[0] == panic[0]
        assert panic[1] in ours[1]
    else:
        assert comparable(ours) == comparable(flames)


def test_every_call_that_was_seen_is_made() -> None:
    assert {name for name, _ in calls()} == set(SEEN_ANSWERS)
