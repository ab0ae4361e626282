"""What becomes of turns is counted once, whoever is told of it."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from flameagent.apis import Decision, Question
from flameagent.client.errors import TimedOut, TurnFailed
from flameagent.client.events import Progress, TextDelta
from flameagent.client.prices import Prices
from flameagent.client.reply import Reply
from flameagent.conversation import Price
from flameagent.server.errors import budget_reached
from flameagent.server.turn_metrics import TurnMetrics

USED = {"requests": 1, "input_tokens": 10, "cached_tokens": 4, "output_tokens": 2}


class Watched:
    """The metrics of one agent's turns."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = TurnMetrics(self.registry, Prices({"priced": Price(1e6, 0.0, 1e6)}))
        self.watch = self.metrics.of("desk")

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"flame_agent_{name}", {"agent": "desk", **labels}) or 0.0


@pytest.fixture
def watched() -> Watched:
    return Watched()


def reply(turn_id: str = "t", **more: Any) -> Reply:
    return Reply("s", 1, turn_id, "Yes.", **{"model": "priced", "usage": USED, **more})


def test_a_turn_counts_once_however_many_follow_it(watched: Watched) -> None:
    asked = Question("?", "t")
    watched.watch.asked("s", asked)
    for _ in range(2):
        watched.watch.told("s", asked, Progress("thinking"))
        assert watched.value("turn_first_event_seconds_count") == 0
    for _ in range(2):
        watched.watch.told("s", asked, TextDelta("Yes."))
        watched.watch.ended("s", asked, reply())
    assert watched.value("turns_ended_total", outcome="answered") == 1
    assert watched.value("turn_seconds_count") == watched.value("turn_first_event_seconds_count") == 1
    assert watched.value("tokens_total", model="priced", kind="input") == 10
    assert watched.value("tokens_total", model="priced", kind="cached") == 4
    assert watched.value("cost_total", model="priced") == 8


def test_what_was_not_asked_here_is_not_counted(watched: Watched) -> None:
    watched.watch.told("s", Question("?", "t"), TextDelta("Yes."))
    watched.watch.ended("s", Question("?", "t"), reply())
    assert watched.value("turns_ended_total", outcome="answered") == 0


def test_a_message_that_another_turn_has_taken_is_none_of_its_own(watched: Watched) -> None:
    running, message = Question("?", "t"), Question("And?", "m", steer="t")
    watched.watch.asked("s", running)
    watched.watch.asked("s", message)
    watched.watch.ended("s", message, reply("t"))
    watched.watch.ended("s", running, reply("t"))
    assert watched.value("turns_ended_total", outcome="answered") == 1
    assert watched.value("tokens_total", model="priced", kind="input") == 10


def test_a_turn_and_what_goes_on_behind_a_decision_are_two(watched: Watched) -> None:
    asked, decided = Question("?", "t"), Question("?", "t", decision=Decision("d", "record"))
    for question, error in ((asked, TurnFailed("No.", code="tool")), (decided, TimedOut("Late."))):
        watched.watch.asked("s", question)
        watched.watch.ended("s", question, error)
    assert watched.value("turns_ended_total", outcome="tool") == 1
    assert watched.value("turns_ended_total", outcome="timeout") == 1


def test_there_is_no_end_of_models(watched: Watched) -> None:
    for number in range(70):
        watched.watch.asked("s", Question("?", f"t{number}"))
        watched.watch.ended("s", Question("?", f"t{number}"), reply(f"t{number}", model=f"m{number}"))
    assert watched.value("tokens_total", model="m49", kind="input") == 10
    assert watched.value("tokens_total", model="m50", kind="input") == 0
    assert watched.value("tokens_total", model="other", kind="input") == 200


def test_only_a_budget_of_a_day_is_there_again_tomorrow() -> None:
    assert int(budget_reached("You have used your 5 tokens of today (UTC).").headers["retry-after"]) > 0
    assert "retry-after" not in budget_reached("This turn may use 5 tokens (AGENT_TOKENS_A_TURN).").headers
