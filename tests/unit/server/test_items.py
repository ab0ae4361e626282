"""The items of a turn: the same while it runs and in the conversation."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flameagent.client.events import ApprovalNeeded, AttemptBegan, Event, TextDelta, ToolCalled, ToolOutput
from flameagent.server.items import (
    Added,
    Change,
    Completed,
    Delta,
    LiveItems,
    Message,
    ToolCall,
    of_question,
    of_turn,
)

STEPS = st.lists(st.one_of(st.text(min_size=1), st.integers(0, 9)), max_size=8)


def as_items(steps: list[str | int]) -> list[dict[str, Any]]:
    """A text is a message, a number a call with its output."""
    items: list[dict[str, Any]] = []
    for number, step in enumerate(steps):
        if isinstance(step, str):
            items.append({"role": "assistant", "content": [{"type": "output_text", "text": step}]})
        else:
            items.append({"type": "function_call", "call_id": f"c{number}", "name": "tool", "arguments": "{}"})
            items.append({"type": "function_call_output", "call_id": f"c{number}", "output": str(step)})
    return items


def as_events(steps: list[str | int]) -> list[Event]:
    events: list[Event] = []
    for number, step in enumerate(steps):
        if isinstance(step, str):
            events += [TextDelta(letter) for letter in step]
        else:
            events += [ToolCalled(f"c{number}", "tool", "{}"), ToolOutput(f"c{number}", str(step))]
    return events


def alternating(steps: list[str | int]) -> list[str | int]:
    """Without two messages one after the other: nothing in the events tells where the first ends."""
    said = [isinstance(step, str) for step in steps]
    return [step for at, step in enumerate(steps) if not (at and said[at] and said[at - 1])]


@given(STEPS, st.integers(0, 40))
def test_a_turn_that_is_watched_comes_to_the_items_of_its_record(steps: list[str | int], lost: int) -> None:
    steps = alternating(steps)
    live, changes = LiveItems("t1"), list[Change]()
    events = as_events(steps)
    for event in [*events[:lost], AttemptBegan(), *events]:
        changes = [] if isinstance(event, AttemptBegan) else changes
        changes += live.feed(event)
    changes += live.finish(as_items(steps))
    whole = sorted(
        ((each.index, each.item) for each in changes if isinstance(each, Completed)), key=lambda each: each[0]
    )
    assert [item for _, item in whole] == of_turn("t1", as_items(steps))
    assert [each.index for each in changes if isinstance(each, Added)] == list(range(len(whole)))


@given(STEPS)
def test_nothing_that_was_missed_is_left_out_at_the_end(steps: list[str | int]) -> None:
    changes = list(LiveItems("t1").finish(as_items(steps)))
    assert [c.item for c in changes if isinstance(c, Completed)] == of_turn("t1", as_items(steps))


def test_deltas_tell_the_text_so_far() -> None:
    live = LiveItems("t1")
    changes = [change for text in ("He", "llo") for change in live.feed(TextDelta(text))]
    assert [(c.text, c.item.text) for c in changes if isinstance(c, Delta)] == [("He", "He"), ("llo", "Hello")]
    assert list(live.finish([{"role": "assistant", "content": "Hello!"}])) == [
        Completed(Message("msg_t1_1", "Hello!"), 0)
    ]


def test_a_call_has_its_output_and_an_id_of_its_own() -> None:
    items = as_items([7])
    assert of_turn("t1", items) == [ToolCall("mcp_t1_c0", "c0", "tool", "{}", "7")]
    assert of_question("t1", "What?").id == "msg_t1_0"


def test_a_turn_that_begins_again_behind_an_approval_keeps_what_was_told_before_it() -> None:
    live = LiveItems("t1")
    events: list[Event] = [TextDelta("one"), ToolCalled("c1", "tool", "{}"), ApprovalNeeded(())]
    events += [
        ToolOutput("c1", "lost"),
        TextDelta("lost"),
        AttemptBegan(),
        ToolOutput("c1", "said"),
        TextDelta("two"),
    ]
    changes = [change for event in events for change in live.feed(event)]
    changes = changes[changes.index(Completed(ToolCall("mcp_t1_c1", "c1", "tool", "{}", "said"), 1)) :]
    assert [(c.item.id, c.index) for c in changes if isinstance(c, Added)] == [("msg_t1_2", 2)]
