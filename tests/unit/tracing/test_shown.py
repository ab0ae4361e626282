"""The traces in the file as they are found and shown."""

from __future__ import annotations

import re
from typing import Any

import pytest

from flameagent.client import traces
from flameagent.client.errors import AmbiguousSession, NoSuchSession, UsageError
from flameagent.transcript import trace as shown
from tests.unit.tracing.conftest import Kept

SECOND = 1_000_000_000


def of(session: str, turn: str, **more: Any) -> dict[str, Any]:
    return {"session.id": session, "flame.turn.id": turn, **more}


@pytest.fixture
def two(kept: Kept) -> Kept:
    """Two turns of a session, and one of another whose caller put both into one trace."""
    for number, turn in enumerate(("aaaa-1", "bbbb-2"), start=1):
        start = number * 100 * SECOND
        about = of("desk-ONE", turn, **{"flame.turn.number": number, "flame.outcome": "answered"})
        kept.add("POST /v1/responses", f"h{number}", start=start, end=start + 9 * SECOND)
        kept.add(
            "ask", f"c{number}", f"h{number}", start + SECOND, start + 8 * SECOND, attributes=about, kind="client"
        )
        kept.add("part", f"p{number}", f"c{number}", start + 2 * SECOND, start + 3 * SECOND)
    kept.add("ask", "x", start=1, end=2, attributes=of("desk-TWO", "cccc-3", **{"flame.outcome": "failed"}))
    return kept


def names(found: traces.TurnTrace) -> list[str]:
    return [f"{len(lasts) - 1} {span['name']}" for span, lasts in found.tree()]


def test_a_turn_is_found_by_a_part_of_its_session_and_its_number(two: Kept) -> None:
    found, turns = traces.find("one", "1")
    assert (found.session_id, found.turn_id, found.number, found.outcome) == ("desk-ONE", "aaaa-1", 1, "answered")
    assert names(found) == ["0 POST /v1/responses", "1 ask", "2 part"]
    assert [turn.number for turn in turns] == [1, 2]


def test_without_a_turn_it_is_the_newest(two: Kept) -> None:
    assert traces.find("desk-ONE", None)[0].turn_id == "bbbb-2"


def test_a_part_of_a_turns_id_names_it(two: Kept) -> None:
    assert traces.find("ONE", "AAAA")[0].number == 1
    assert traces.find("two", "cccc")[0].number is None


@pytest.mark.parametrize(
    ("session", "turn", "error", "said"),
    [
        ("three", None, NoSuchSession, "no trace of a session with 'three'"),
        ("", None, NoSuchSession, "AGENT_TRACING=file"),
        ("desk", None, AmbiguousSession, "desk-ONE, desk-TWO"),
        ("one", "3", UsageError, "no trace of a turn 3 of desk-ONE; of these there is: 1, 2"),
        ("one", "-", UsageError, "2 turns have '-'"),
        ("one", "", UsageError, "no trace of a turn"),
    ],
)
def test_what_is_not_there_is_said(two: Kept, session: str, turn: str | None, error: type, said: str) -> None:
    with pytest.raises(error, match=re.escape(said)):
        traces.find(session, turn)


def test_without_a_file_it_is_said_how_to_get_one(kept: Kept) -> None:
    with pytest.raises(NoSuchSession, match="AGENT_TRACING=file"):
        traces.find("one", None)


def test_what_a_killed_worker_has_left_stands_where_it_was_lost(kept: Kept) -> None:
    about = of("desk-ONE", "t")
    kept.add("turn", "a", start=10, end=100, attributes=about)
    kept.add("lost attempt", "b", "a", 20, 50, attributes=about, error="It ended.")
    kept.add("chat gpt", "c", "gone", 30, 40, attributes=about)
    kept.add("from elsewhere", "d", "gone", 5, 6, attributes=about)
    found, _ = traces.find("one", None)
    assert names(found) == ["0 from elsewhere", "0 turn", "1 lost attempt", "2 chat gpt"]


def test_spans_that_are_parts_of_each_other_end(kept: Kept) -> None:
    about = of("desk-ONE", "t")
    kept.add("a", "a", "b", attributes=about)
    kept.add("b", "b", "a", attributes=about)
    kept.add("self", "c", "c", attributes=about)
    found, _ = traces.find("one", None)
    assert len(found.spans) == 3 and names(found) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": -1},
        {"end": 2**70},
        {"start": 5},
        {"kind": 3},
        {"attributes": []},
        {"resource": None},
        {"name": None},
    ],
)
def test_spans_that_are_none_are_passed_over(kept: Kept, wrong: dict[str, Any]) -> None:
    kept.add("turn", "a", attributes=of("desk-ONE", "t"))
    kept.add("wrong", "b", "a", **wrong) if "name" not in wrong else kept.add(None, "b", "a")  # type: ignore[arg-type]
    assert names(traces.find("one", None)[0]) == ["0 turn"]


def test_the_page_shows_what_others_wrote_and_runs_nothing(kept: Kept) -> None:
    evil = "</span><script>alert(1)</script>\u202e"
    about = of("desk-ONE", "t", **{evil: evil, "gen_ai.tool.call.result": evil})
    kept.add(evil, "a", attributes=about, error=evil, resource={"service.name": evil}, kind="client")
    page = shown.page(traces.find("one", None)[0])
    assert "<script" not in page and "\u202e" not in page and "&lt;script&gt;" in page
    assert "default-src 'none'" in page and not re.search(r"(src|href)\s*=", page)


def test_a_span_says_what_matters_of_it(kept: Kept) -> None:
    used = {
        "gen_ai.usage.input_tokens": 40,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 30,
    }
    chat = {"gen_ai.operation.name": "chat", "gen_ai.response.finish_reasons": ["stop"], **used}
    kept.add("chat gpt", "a", start=0, end=1_500_000_000, attributes=of("desk-ONE", "t", **chat), kind="client")
    kept.add("turn", "b", "a", 0, 2_500_000, attributes=of("desk-ONE", "t", **{"flame.attempt": 2}))
    kept.add("lost", "c", "a", 0, 120 * SECOND, attributes=of("desk-ONE", "t", **{"error.type": "model"}))
    lines = {line.name: line for line in shown.lines(traces.find("one", None)[0])}
    assert lines["chat gpt"].about == "40 tokens (30 cached) → 7, stop" and lines["chat gpt"].took == "1.50 s"
    assert lines["turn"].about == "attempt 2" and lines["turn"].took == "2.5 ms"
    assert lines["lost"].error == "model" and lines["lost"].took == "2.0 min"
