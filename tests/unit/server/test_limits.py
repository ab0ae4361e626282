"""Limits as the settings have them, the rate of requests, and prices."""

from __future__ import annotations

import pytest

from flameagent.client.environment import Environment
from flameagent.client.errors import UsageError
from flameagent.client.prices import Prices
from flameagent.conversation import Usage
from flameagent.server import limits
from flameagent.server.errors import RequestError
from flameagent.server.limits import Limits, Rate

USAGE = Usage(requests=2, input_tokens=3_000_000, cached_tokens=1_000_000, output_tokens=500_000)


def prices(text: str) -> Prices:
    return Prices.of(Environment({"FLAME_AGENT_PRICES": text}))


def test_without_settings_there_is_no_limit() -> None:
    assert Limits.of({}) == Limits()
    for _ in range(1000):
        Rate(0).take("ada")


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "²", "1" * 16])
def test_a_number_that_makes_no_sense_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="FLAME_AGENT_TOKENS_A_DAY is a whole number above 0"):
        Limits.of({"FLAME_AGENT_TOKENS_A_DAY": text})


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "much"])
def test_money_that_makes_no_sense_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="FLAME_AGENT_MONEY_A_DAY is a number above 0"):
        Limits.of({"FLAME_AGENT_MONEY_A_DAY": text})


def test_requests_of_a_minute_come_back_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(limits.time, "monotonic", lambda: now)
    rate = Rate(3)
    for user in ("ada", "ada", "bob", "ada"):
        rate.take(user)
    with pytest.raises(RequestError, match="3 requests a minute") as refused:
        rate.take("ada")
    assert (refused.value.status, refused.value.headers["retry-after"], refused.value.retry) == (429, "20", True)
    rate.take("bob")
    now = 121.0
    rate.take("ada")
    with pytest.raises(RequestError):
        rate.take("ada")


def test_a_price_is_of_a_million_tokens() -> None:
    known = prices('{"a": {"input": 2, "cached": 0.5, "output": 10}, "b": {"input": 2, "output": 10}}')
    assert known.cost("a", USAGE) == 2 * 2 + 0.5 + 5
    assert known.cost("b", USAGE) == 3 * 2 + 5
    assert known.cost("c", USAGE) is None
    assert not prices("") and known


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "[]",
        '{"a": 1}',
        '{"a": {"input": 1}}',
        '{"a": {"input": "1", "output": 1}}',
        '{"a": {"input": -1, "output": 1}}',
        '{"a": {"input": true, "output": 1}}',
        '{"a": {"input": 1, "output": 1, "other": 1}}',
        '{"a": {"input": Infinity, "output": 1}}',
    ],
)
def test_a_table_that_makes_no_sense_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="FLAME_AGENT_PRICES"):
        prices(text)
