"""The times of a turn stay with it: in its record, in copies, and for programs that do not know of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from flameagent.client.timings import TurnTimes, turn_times
from flameagent.conversation import Block, Turn, TurnBody, Usage
from flameagent.conversation.codec import decode
from flameagent.conversation.records import make, read_body
from flameagent.conversation.timing import Timing
from flameagent.transcript import wording

TIMED = Timing(waited=5, ran=1200, model=1000, tools={"c1": 40}, failed=["c1"])
ITEMS: list[dict[str, Any]] = [
    {"role": "user", "content": "hi"},
    {"type": "function_call", "call_id": "c1", "name": "pump", "arguments": "{}"},
    {"role": "assistant", "content": "ho"},
]


def turn(timing: Timing, at: int = 10_000) -> Turn:
    return Turn(1, "t", "hi", {"answer": "ho"}, Usage(), "m", at, {}, timing=timing)


def test_a_record_has_them_and_needs_no_newer_program() -> None:
    record = make(TurnBody("t", "hi", ITEMS, {"answer": "ho"}, timing=TIMED), seq=0, prev="")
    body = read_body(record.data, record.envelope.v)
    assert isinstance(body, TurnBody) and body.timing == TIMED
    plain = make(TurnBody("t", "hi", ITEMS, {"answer": "ho"}), seq=0, prev="")
    assert plain.envelope.v == record.envelope.v
    assert len(record.data) - len(plain.data) < 90


@pytest.mark.parametrize(
    ("timing", "written"),
    [
        (Timing(ran=1532, model=912), b'"ms":[1532,912]'),
        (Timing(waited=0), b'"ms":[0,0,0]'),
        (Timing(began=7), b'"ms":[0,0,null,{},7]'),
        (Timing(ran=1, failed=["c1"]), b'"ms":[1,0,null,{},0,["c1"]]'),
    ],
)
def test_what_is_empty_at_their_end_is_not_written_and_comes_back(timing: Timing, written: bytes) -> None:
    record = make(TurnBody("t", "hi", ITEMS, {"answer": "ho", "turn_id": "t"}, timing=timing), seq=0, prev="")
    assert written in record.data
    body = read_body(record.data, record.envelope.v)
    assert isinstance(body, TurnBody) and body.timing == timing


def test_an_older_program_takes_no_notice() -> None:
    class OldTurn(msgspec.Struct, tag_field="kind", tag="turn"):
        turn: str
        items: list[Any]

    record = make(TurnBody("t", "hi", ITEMS, {"answer": "ho"}, timing=TIMED), seq=0, prev="")
    assert decode(record.data, OldTurn).items == ITEMS


def test_a_copy_has_them() -> None:
    block = Block(ITEMS, turn(TIMED))
    assert decode(msgspec.json.encode(block), Block) == block


def test_moments_follow() -> None:
    found = turn_times(turn(TIMED), ITEMS)
    assert (found.asked, found.began, found.ended, found.total) == (8795, 8800, 10_000, 1205)
    assert [(each.tool, each.took, each.failed) for each in found.tools] == [("pump", 40, True)]


def test_of_an_older_turn_flame_knows_when_it_was_asked() -> None:
    found = turn_times(turn(Timing()), ITEMS, {"t": 4000})
    assert (found.asked, found.total, found.ran) == (4000, 6000, None)
    assert turn_times(turn(Timing()), ITEMS, {"t": 11_000}).total is None


def test_they_are_told_in_a_line_or_two() -> None:
    line, tools = wording.times(turn_times(turn(TIMED), ITEMS))
    assert line.endswith("waited 5 ms · ran 1.2 s · models 1.0 s")
    assert tools == "tools: pump 40 ms (failed)"
    assert wording.times(turn_times(turn(Timing()), ITEMS, {"t": 4000}))[0].endswith("answered after 6.0 s")
    assert wording.times(TurnTimes(1)) == ["not known: an older program has answered"]
