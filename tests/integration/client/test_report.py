"""A report of an agent says what its conversations and its failures have, whoever makes it and in whatever way."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest

from flameagent.client import fork
from flameagent.client.prices import Prices
from flameagent.client.report import NESTED, Percentiles, Report, make_report
from flameagent.conversation import ConversationLog, EditBody, Price, TurnBody, Usage, records
from flameagent.conversation.failures import Failure, FailureLog
from flameagent.conversation.timing import Timing
from flameagent.transcript import report as under_test
from tests.integration.client.conftest import Sessions
from tests.support.schema import check

DAY = 86_400_000
NOW = int(datetime(2026, 3, 11, 12).timestamp() * 1000)
PRICES = Prices({"dear": Price(1e6, 0, 2e6)})


def call(call_id: str, tool: str) -> list[dict[str, Any]]:
    return [
        {"type": "function_call", "call_id": call_id, "name": tool, "arguments": "{}"},
        {"type": "function_call_output", "call_id": call_id, "output": "x"},
    ]


def add(log: ConversationLog, name: str, at: int, monkeypatch: pytest.MonkeyPatch, *items: Any, **more: Any) -> None:
    said = [{"role": "user", "content": name}, *items, {"role": "assistant", "content": "yes"}]
    with monkeypatch.context() as patch:
        patch.setattr(records.time, "time", lambda: at / 1000)
        log.append(TurnBody(name, name, said, {"answer": "yes"}, **more))


def report(sessions: Sessions, since: int = 0, until: int = NOW, prices: Prices = PRICES) -> Report:
    found = make_report(sessions.client._connection, since, until, prices)
    check("report", found.as_json())
    return found


def test_what_was_asked_is_summed(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, bob = sessions.make("a", "ada"), sessions.make("b", "bob")
    sessions.make("empty")
    timed = Timing(waited=100, ran=900, model=700, tools={"c1": 50, "c2": 70, "n1": 10}, failed=["c2"])
    used = Usage(2, 1000, 200, 50)
    calls = [*call("c1", "pump"), *call("c2", "pump")]
    add(ada, "t1", NOW - 3 * DAY, monkeypatch, *calls, usage=used, model="dear", timing=timed, user="ada")
    add(ada, "t2", NOW - DAY, monkeypatch, usage=used, model="cheap", timing=Timing(ran=3000, model=2500))
    add(bob, "t3", NOW, monkeypatch, {"type": "web_search_call", "id": "w1"}, usage=used, model="dear")
    log = FailureLog(sessions.cache, sessions.name, f"{sessions.name}-b")
    for number in range(3):
        failure = Failure(
            f"f{number}", NOW - number, "model", "ill", task=str(number), model="dear", usage=Usage(1, 10)
        )
        log.add(failure)
    log.add(Failure("t3", NOW - 9, "failed", "in vain", task="9", model="dear", usage=Usage(1, 5)))  # answered later

    found = report(sessions)
    assert (found.turns, found.failures, found.sessions, found.users) == (3, 3, 2, 2)
    assert found.codes == {"model": 3}
    assert [(each.reason, each.count, each.newest) for each in found.reasons] == [("ill", 3, NOW)]
    assert found.waited == Percentiles(1, 100, 100)
    assert found.ran == Percentiles(2, 900, 3000)
    assert found.latency == Percentiles(2, 1000, 3000)
    assert [(each.model, each.turns, each.failed) for each in found.models] == [("dear", 2, 4), ("cheap", 1, 0)]
    dear = found.models[0]
    assert dear.usage == Usage(8, 2035, 400, 100)
    assert dear.cost == pytest.approx(1635 + 200)
    assert found.cost == dear.cost
    assert found.unpriced == ["cheap"]
    assert [(each.tool, each.calls, each.failed, each.took) for each in found.tools] == [
        ("pump", 2, 1, Percentiles(2, 50, 70)),
        (NESTED, 1, 0, Percentiles(1, 10, 10)),
        ("web_search", 1, 0, Percentiles(0, None, None)),
    ]
    assert found.step == "day"
    assert [(span.turns, span.failures) for span in found.spans] == [(1, 0), (0, 0), (1, 0), (1, 3)]
    assert sum(span.tokens for span in found.spans) == sum(
        each.usage.input_tokens + each.usage.output_tokens for each in found.models
    )
    assert found.unread == []


def test_a_time_has_two_ends(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    log = sessions.make("a", segment_records=4)
    for number in range(20):
        add(log, f"t{number}", NOW - (20 - number) * DAY, monkeypatch)
    assert report(sessions).turns == 20
    assert report(sessions, NOW - 5 * DAY).turns == 5
    assert report(sessions, NOW - 15 * DAY).turns == 15  # of several segments
    assert report(sessions, NOW - 15 * DAY, NOW - 5 * DAY).turns == 11
    nothing = report(sessions, NOW)
    assert (nothing.turns, nothing.spans[0].turns) == (0, 0)


def test_a_turn_counts_once_also_one_that_was_taken_back(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    log = sessions.make("a")
    add(log, "t1", NOW - 2, monkeypatch)
    add(log, "t2", NOW - 1, monkeypatch)
    fork.fork(sessions.client._connection, sessions.frontend.session(f"{sessions.name}-a"))
    sessions.client.rewind(f"{sessions.name}-a", 1)
    found = report(sessions, until=int(time.time() * 1000))
    assert (found.turns, found.sessions) == (2, 1)


def test_damage_is_told_and_hides_nothing_else(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        add(sessions.make(name), f"t-{name}", NOW - 1, monkeypatch)
    sessions.cache.patch(sessions.key("a"), b"no record")
    sessions.cache.delete(f"{sessions.name}/{sessions.name}-b")
    sessions.make("c").append(EditBody("title", title="no turns"))
    found = report(sessions)
    assert found.turns == 1
    assert sorted(found.unread) == [f"{sessions.name}-a", f"{sessions.name}-b"]
    assert "2 sessions could not be read as a whole" in "\n".join(under_test.lines(found))


@pytest.mark.parametrize(("days", "step", "count"), [(1, "hour", 25), (30, "day", 31), (365, "week", 53)])
def test_a_long_time_is_told_in_long_steps(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch, days: int, step: str, count: int
) -> None:
    log = sessions.make("a")
    add(log, "t1", NOW - days * DAY, monkeypatch)
    add(log, "t2", NOW, monkeypatch)
    found = report(sessions)
    assert (found.step, found.turns) == (step, 2)
    assert count <= len(found.spans) <= count + 1
    assert (found.spans[0].turns, found.spans[-1].turns) == (1, 1)
    assert [span.start for span in found.spans] == sorted({span.start for span in found.spans})


def test_without_prices_nothing_costs(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    add(sessions.make("a"), "t1", NOW, monkeypatch, usage=Usage(1, 5), model="dear")
    found = report(sessions, prices=Prices({}))
    assert (found.cost, found.spans[-1].cost, found.models[0].cost) == (None, None, None)
    assert "Cost" not in under_test.page(found)


def test_replays_do_not_count(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    log = sessions.make("a")
    add(log, "t1", NOW - 2, monkeypatch)
    log.append(EditBody("replay", replay=records.Replay([], False)))
    assert report(sessions).turns == 0
