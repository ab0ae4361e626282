"""Comparisons of turns: what is the same, which turns are meant, and a page that obeys nobody."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any, cast

import pytest

from flameagent.client.errors import UsageError
from flameagent.client.replay import Again, MadeCall, RecordedTurn, made_calls
from flameagent.conversation import Turn, Usage
from flameagent.trying.comparison import Compared, Comparison, How, chosen_turns
from flameagent.trying.page import page

HOSTILE = '</pre><script>alert(1)</script><img src="http://a.test/x.png" onerror=alert(1)>\u202e\x1b[31m'


def recorded(number: int, question: str = "q", answer: str = "a", *calls: tuple[str, str]) -> RecordedTurn:
    items: list[dict[str, Any]] = []
    for place, (tool, arguments) in enumerate(calls):
        items.append({"type": "function_call", "call_id": f"c{place}", "name": tool, "arguments": arguments})
        items.append({"type": "function_call_output", "call_id": f"c{place}", "output": HOSTILE})
    return RecordedTurn(Turn(number, f"t{number}", question, {"answer": answer}, Usage(), "m", 0, {}), items)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_shows_what_others_wrote_and_obeys_nothing() -> None:
    turn = recorded(1, HOSTILE, f"[x](javascript:alert(1)) ![y](http://a.test/y.png) {HOSTILE}", (HOSTILE, HOSTILE))
    again = Again(
        "answered", "s", answer=HOSTILE, calls=[MadeCall(HOSTILE, HOSTILE, HOSTILE, "not_run")], note=HOSTILE
    )
    failed = Again("failed", "s", error=HOSTILE)
    found = Comparison(HOSTILE, HOSTILE, How(HOSTILE), [Compared(turn, again), Compared(turn, failed)])
    made = page(found)
    reader = _Reader()
    reader.feed(made)
    assert not {tag for tag, _ in reader.tags} & {"script", "img", "iframe", "link", "object", "form", "svg"}
    for _, attributes in reader.tags:
        assert not any(name.startswith("on") or name in ("src", "style") for name in attributes)
        assert not str(attributes.get("href", "")).startswith("javascript")
    assert not re.search("[\u202e\x1b]", made)
    assert made.count("alert(1)") > 5


@pytest.mark.parametrize(
    ("wanted", "numbers"), [(None, [3, 4, 5]), ("4", [4]), ("3-4", [3, 4]), ("4-", [4, 5]), (" 5 ", [5])]
)
def test_turns_are_named_by_number(wanted: str | None, numbers: list[int]) -> None:
    recording = cast("Any", type("R", (), {"turns": [recorded(number) for number in (3, 4, 5)]}))
    assert [each.turn.number for each in chosen_turns(recording, wanted)] == numbers


@pytest.mark.parametrize("wanted", ["1", "6", "3-6", "4-3", "x", "", "-3", "3-4-5", "0", "٣"])
def test_other_turns_are_refused(wanted: str) -> None:
    recording = cast("Any", type("R", (), {"turns": [recorded(number) for number in (3, 4, 5)]}))
    with pytest.raises(UsageError):
        chosen_turns(recording, wanted)


def test_calls_are_the_same_with_equal_arguments_in_the_same_order() -> None:
    turn = recorded(1, "q", "a b", ("x", '{"a": 1, "b": 2}'), ("y", "{}"))

    def compared(answer: str, *calls: tuple[str, str]) -> Compared:
        made = [MadeCall(tool, arguments, "", "recorded") for tool, arguments in calls]
        return Compared(turn, Again("answered", "s", answer=answer, calls=made))

    same = compared("a\n b", ("x", '{"b":2,"a":1}'), ("y", ""))
    assert same.same_answer and same.same_calls
    assert not compared("a c", ("y", ""), ("x", '{"b":2,"a":1}')).same_calls
    assert not compared("a c").same_answer


@pytest.mark.parametrize(
    "item",
    [
        {"type": "mcp_call", "id": "m1", "name": "erase", "server_label": "x", "arguments": "{}", "output": "y"},
        {"type": "custom_tool_call", "call_id": "c1", "name": "erase", "input": "{}"},
    ],
)
def test_a_call_that_is_no_functions_has_the_name_of_its_tool(item: dict[str, Any]) -> None:
    [call] = made_calls([item], None, run_tools=True)
    assert (call.tool, call.arguments) == ("erase", "{}")
