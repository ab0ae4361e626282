"""Failures of turns in a cache: the newest stay, whatever is killed and whatever cannot be read."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from flameagent.conversation import Usage
from flameagent.conversation import failures as under_test
from flameagent.conversation.failures import Failure, FailureLog, failure_keys, read_failures
from flameagent.flame.errors import CacheFull, FlameError, NotFound, Unclear, Unreachable
from tests.support.memory_cache import MemoryCache

APPLICATION, SESSION = "app", "s-1"
KEYS = failure_keys(APPLICATION, SESSION)


def failed(number: int, **more: object) -> Failure:
    return Failure(f"turn-{number}", 1000 + number, "model", f"reason {number}", task=str(number), **more)  # type: ignore[arg-type]


def read(cache: MemoryCache) -> list[Failure]:
    return read_failures(cache.get, KEYS)


@pytest.fixture
def cache() -> MemoryCache:
    return MemoryCache()


@pytest.fixture
def log(cache: MemoryCache) -> FailureLog:
    return FailureLog(cache, APPLICATION, SESSION)


def test_a_session_without_failures_has_no_object(cache: MemoryCache) -> None:
    assert read(cache) == []
    assert cache.objects == {}


def test_what_is_added_is_read_by_others(cache: MemoryCache, log: FailureLog) -> None:
    whole = failed(
        1,
        question="why?",
        attachments=["cat.png"],
        user="ada",
        began=900,
        decision=True,
        model="m",
        usage=Usage(1, 2),
    )
    log.add(whole)
    log.add(failed(2))
    assert read(cache) == [whole, failed(2)]


def test_half_a_character_is_kept(cache: MemoryCache, log: FailureLog) -> None:
    log.add(failed(1, question="\ud83d"))
    assert [each.question for each in read(cache)] == ["\ud83d"]


@pytest.mark.parametrize("count", [127, 128, 129, 255, 256, 257, 700])
def test_the_newest_stay(cache: MemoryCache, count: int) -> None:
    for number in range(count):  # each by a process of its own
        FailureLog(cache, APPLICATION, SESSION).add(failed(number))
    kept = [int(each.task) for each in read(cache)]
    assert kept == list(range(count))[-len(kept) :]
    assert min(count, 128) <= len(kept) <= 256
    assert set(cache.objects) <= set(KEYS)


def test_long_texts_are_cut(cache: MemoryCache, log: FailureLog) -> None:
    log.add(failed(1, question="x" * 10_000, attachments=["n" * 1000] * 100, user="u" * 1000))
    (kept,) = read(cache)
    assert (len(kept.question), kept.question[-1]) == (2000, "…")
    assert (len(kept.attachments), len(kept.attachments[0]), len(kept.user)) == (20, 200, 200)


def test_an_attempt_that_is_added_twice_is_one(cache: MemoryCache, log: FailureLog) -> None:
    cache.faults.append("answer lost")
    with pytest.raises(Unclear):
        log.add(failed(1))
    log.add(failed(1))
    log.add(Failure("turn-1", 5000, "model", "asked again under its ID", task="9"))
    assert [(each.task, each.reason) for each in read(cache)] == [
        ("1", "reason 1"),
        ("9", "asked again under its ID"),
    ]


def test_what_cannot_be_read_hides_nothing(cache: MemoryCache, log: FailureLog) -> None:
    for number in range(3):
        log.add(failed(number))
    cache.replace(KEYS[0], 2, None)
    cache.patch(KEYS[0], b"no JSON")
    log.add(failed(3))
    assert [each.task for each in read(cache)] == ["1", "2", "3"]


class Killed(Exception):
    """The process ends here."""


@pytest.mark.parametrize("before", [0, 1, 128, 255, 256])
@pytest.mark.parametrize("step", range(1, 7))
def test_who_is_killed_loses_no_other_failure(cache: MemoryCache, before: int, step: int) -> None:
    for number in range(before):
        FailureLog(cache, APPLICATION, SESSION).add(failed(number))
    calls = 0

    def kill(_: str) -> None:
        nonlocal calls
        calls += 1
        if calls == step:
            raise Killed

    cache.on_call = kill
    try:
        FailureLog(cache, APPLICATION, SESSION).add(failed(before))
    except Killed:
        cache.on_call = lambda _: None
        FailureLog(cache, APPLICATION, SESSION).add(failed(before + 1))
    cache.on_call = lambda _: None
    kept = [int(each.task) for each in read(cache)]
    assert set(range(before)[-128 + 2 :]) <= set(kept)
    assert kept[-1] >= before


@pytest.mark.parametrize("away", [1, 2, 3, 4])
def test_a_cache_that_is_away_is_told(cache: MemoryCache, log: FailureLog, away: int) -> None:
    cache.on_call = _away_at(away)
    with pytest.raises(FlameError):
        log.add(failed(1))
    log.add(failed(1))
    assert read(cache) == [failed(1)]


def _away_at(number: int) -> Callable[[str], None]:
    calls = 0

    def call(_: str) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            raise Unreachable("away")

    return call


def test_nothing_is_begun_when_the_time_is_up(cache: MemoryCache, log: FailureLog) -> None:
    with pytest.raises(Unreachable):
        log.add(failed(1), time.monotonic() - 1)
    assert cache.objects == {}


def test_a_session_that_was_deleted_meanwhile_stays_so(cache: MemoryCache, log: FailureLog) -> None:
    log.add(failed(1))

    def delete(call: str) -> None:
        if call == "patch":
            cache.objects.clear()

    cache.on_call = delete
    with pytest.raises(NotFound):
        log.add(failed(2))
    assert cache.objects == {}


def test_objects_that_others_have_filled_are_no_end(
    cache: MemoryCache, log: FailureLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "_ROWS", 2000)  # an older version, say, that took more
    for number in range(1000):
        log.add(failed(number))
    with pytest.raises(CacheFull):
        log.add(failed(1000))
    monkeypatch.undo()
    log.add(failed(1001))
    assert read(cache)[-1] == failed(1001)
