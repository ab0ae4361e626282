"""Every call is answered as Flame 0.6.0 answered it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from tests.integration.engine.conformance.calls import SEEN, answer, calls

if TYPE_CHECKING:
    from tests.integration.engine.client import Client

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


def test_calls_are_answered_as_flame_answers_them(flame: Client) -> None:
    seen = json.loads(SEEN.read_text())
    differences = []
    for name, call in calls():
        ours, flames = json.loads(json.dumps(answer(flame, call))), seen[name]
        panic = next((PANICS[words] for words in PANICS if words in name and "removed" in str(flames)), None)
        if panic is not None and "FLAME_ENDPOINT" not in os.environ:
            assert ours[0] == panic[0], name
            assert panic[1] in ours[1]
        elif comparable(ours) != comparable(flames):
            differences.append(f"{name}\n  Flame:  {flames}\n  {flame.endpoint}: {ours}")
    assert not differences, f"{len(differences)}\n" + "\n".join(differences)
