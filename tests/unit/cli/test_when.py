"""Times that people type are understood, or refused in a sentence that says how they are written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from flameagent.cli import when
from flameagent.client.errors import UsageError

NOW = datetime(2026, 3, 31, 12, 30)
HOUR = 3_600_000


@pytest.fixture(autouse=True, params=["UTC", "Europe/Berlin", "America/New_York"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        now = NOW.timestamp()
        patch.setattr(when.time, "time", lambda: now)
        yield
    time.tzset()


def local(*moment: int) -> int:
    return int(datetime(*moment).timestamp() * 1000)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-29", (2026, 3, 29)),  # the day on which clocks of Berlin change
        ("today", (2026, 3, 31)),
        (" Yesterday ", (2026, 3, 30)),
        ("9:30", (2026, 3, 31, 9, 30)),
        ("09:30:05", (2026, 3, 31, 9, 30, 5)),
        ("2026-03-01 9:30", (2026, 3, 1, 9, 30)),
        ("2026-03-01T09:30", (2026, 3, 1, 9, 30)),
    ],
)
def test_a_moment_is_of_local_time(text: str, moment: tuple[int, ...]) -> None:
    assert when.moment(text, "--since") == local(*moment)


@pytest.mark.parametrize("text", ["2026-03-01T09:30Z", "2026-03-01T10:30+01:00", "2026-03-01 09:30+00:00"])
def test_a_zone_counts_where_it_is_named(text: str) -> None:
    assert when.moment(text, "--since") == 1772357400000


@pytest.mark.parametrize(("text", "hours"), [("2h", 2), ("3d", 72), ("90 min", 1.5), ("1W", 168), ("0s", 0)])
def test_an_age_counts_back_from_now(text: str, hours: float) -> None:
    assert when.moment(text, "--since") == local(2026, 3, 31, 12, 30) - hours * HOUR


def test_a_day_is_meant_to_its_end_where_that_is_asked_for() -> None:
    assert when.moment("2026-03-29", "--until", end=True) == local(2026, 3, 30) - 1
    assert when.moment("2026-03-29 10:00", "--until", end=True) == local(2026, 3, 29, 10)
    assert when.period("2026-03-29", "2026-03-29") == (local(2026, 3, 29), local(2026, 3, 30) - 1)
    assert when.period(None, None) == (0, None)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "2026-13-01", "2026-02-30", "25:00", "3 fortnights", "-2h", "2026", "99999999-01-01", "9:30 pm"],
)
def test_anything_else_is_refused_with_the_option(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--until is an age such as 2h or 3d, .* not ") as refused:
        when.moment(text, "--until")
    assert repr(text) in str(refused.value)


def test_a_period_is_of_times_that_were() -> None:
    assert when.period("1000000d", "2999-01-01") == (0, local(2026, 4, 1) - 1)


def test_a_period_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(UsageError, match="before --since"):
        when.period("1h", "2h")
    with pytest.raises(UsageError, match="in the future"):
        when.period("2026-04-01", None)
    with pytest.raises(UsageError, match="in the future"):
        when.period("2026-04-02", "2026-04-03")
