"""Segments: where a conversation goes on, and what is left of a writer that dies on the way there."""

from __future__ import annotations

import pytest

from flameagent.conversation import ConversationLog, EditBody
from flameagent.conversation.codec import decode
from flameagent.conversation.reader import SEGMENT_RECORDS, Hint
from flameagent.flame.errors import FlameError, Unreachable
from tests.support.conversations import PREFIX, added, cold, cold_from_the_first, conversation, everything, turn
from tests.support.memory_cache import PATCH_LIMIT


class Killed(BaseException):
    """The process ended here."""


def ids(log: ConversationLog) -> list[str]:
    return [t.id for t, _ in everything(log)["turns"]]


def test_no_object_takes_more_records_than_a_segment_has() -> None:
    cache, key, log = conversation(100, 5)
    assert log.conversation.segments == 19
    for each, stored in cache.objects.items():
        records = [row for _, row in stored.patches if row is not None and b'"hint"' not in row]
        assert len(records) <= 5 + 1, each
    assert all(each.startswith(f"{PREFIX}/") for each in cache.objects)
    assert ids(cold(cache, key, 5)) == ids(cold_from_the_first(cache, key)) == [f"t{n}" for n in range(100)]


def test_a_segment_stays_far_below_the_limit_of_the_cache() -> None:
    assert SEGMENT_RECORDS < PATCH_LIMIT / 3


def test_losers_count_for_the_length_of_a_segment() -> None:
    cache, key, log = conversation(1, 4)
    for _ in range(3):
        cache.objects[key].patches.append((cache.objects[key].version + 1, cache.objects[key].patches[0][1]))
    log.append(turn("t1"))
    assert log.conversation.segments == 1
    assert ids(cold(cache, key, 4)) == ["t0", "t1"]


STEPS = ["get", "put", "patch", "get", "patch", "get", "patch"]
"""Read on, put the new object, name it, read it, leave a hint; then read on again and append the turn."""


@pytest.mark.parametrize("step", range(len(STEPS)))
def test_a_writer_that_is_killed_before_any_step_of_a_roll_over_harms_nobody(step: int) -> None:
    cache, key, log = conversation(4, 4)
    made: list[str] = []

    def kill(call: str) -> None:
        made.append(call)
        if len(made) > step:
            raise Killed

    cache.on_call = kill
    with pytest.raises(Killed):
        log.append(turn("t4"))
    cache.on_call = lambda call: None
    assert made == STEPS[: step + 1]

    assert ids(cold(cache, key, 4)) == ["t0", "t1", "t2", "t3"]
    other = cold(cache, key, 4)
    for number in range(4, 20):
        other.append(turn(f"t{number}"))
    seen = everything(other)
    assert [t.id for t, _ in seen["turns"]] == [f"t{number}" for number in range(20)]
    assert everything(cold(cache, key, 4)) == everything(cold_from_the_first(cache, key)) == seen
    assert seen["damage"] == "None"


def test_what_is_appended_to_a_segment_after_its_end_does_not_count() -> None:
    cache, key, log = conversation(5, 4)
    end = next(row for _, row in cache.objects[key].patches if row is not None and b'"segment"' in row)
    for row in (cache.objects[key].patches[3][1], end, b"garbage"):
        cache.patch(key, row or b"")
    assert ids(cold(cache, key, 4)) == ids(cold_from_the_first(cache, key)) == ids(log)
    assert cold(cache, key, 4).refresh().damage is None


def test_of_two_that_roll_over_at_once_one_wins_and_both_go_on_in_it() -> None:
    cache, key, one = conversation(4, 4)
    two = cold(cache, key, 4)
    two.refresh()
    raced = False

    def other_first(call: str) -> None:
        nonlocal raced
        if call == "patch" and not raced:
            raced = True
            two.append(turn("two"))

    cache.on_call = other_first
    one.append(turn("one"))
    cache.on_call = lambda call: None
    assert len(cache.objects) == 3, "one of them holds nothing"
    assert sum(bool(stored.patches) for stored in cache.objects.values()) == 2
    hinted = cold(cache, key, 4)
    hinted.refresh()
    assert hinted.conversation.last == everything(one)["last"]
    assert everything(one) == everything(two) == everything(cold_from_the_first(cache, key))
    assert ids(one)[-2:] == ["two", "one"]


def test_a_hint_that_comes_late_leads_the_long_way_and_not_astray() -> None:
    cache, key, log = conversation(30, 4)
    hints = [decode(row, Hint) for _, row in cache.objects[key].patches[5:] if row is not None]
    assert len(hints) > 4
    for hint in (hints[0].hint, "openai-agent/session/gone"):
        cache.patch(key, b'{"hint":"%s"}' % hint.encode())
        assert everything(cold(cache, key, 4)) == everything(log)


def test_rows_that_are_no_hints_do_not_lead_astray() -> None:
    cache, key, log = conversation(30, 4)
    for row in (b"", b"\xff", b"{}", b'{"hint": 5}', b"[" * 100_000, b'{"hint": "' + key.encode() + b'"}'):
        cache.patch(key, row)
        assert everything(cold(cache, key, 4)) == everything(log)


def test_a_first_segment_that_takes_no_more_hints_only_costs_reads() -> None:
    cache, key, log = conversation(6, 4)
    full = PATCH_LIMIT - len(cache.objects[key].patches)
    for _ in range(full):
        cache.patch(key, b"{}")
    for number in range(6, 30):
        log.append(turn(f"t{number}"))
    assert everything(cold(cache, key, 4)) == everything(log)
    assert log.conversation.turn_count == 30


@pytest.mark.parametrize("mine", [2, 4, 7, 100_000])
def test_programs_with_other_segment_lengths_read_and_write_the_same_conversation(mine: int) -> None:
    cache, key, log = conversation(13, 4)
    other = cold(cache, key, mine)
    for number in range(13, 30):
        (other if number % 3 else log).append(turn(f"t{number}"))
    assert everything(other) == everything(log) == everything(cold(cache, key, mine))
    assert ids(log) == [f"t{number}" for number in range(30)]


def test_a_roll_over_that_stays_unclear_says_that_the_turn_was_not_added() -> None:
    cache, key, log = conversation(4, 4)
    log._patience = 0.0

    def away(call: str) -> None:
        if call == "patch":
            cache.on_call = lambda _: setattr(cache, "unreachable", 1)

    cache.on_call = away
    cache.faults.append("answer lost")
    with pytest.raises(Unreachable, match="nothing was added"):
        log.append(turn("t4"))
    cache.on_call = lambda call: None
    cache.unreachable = 0
    log.append(turn("t4"))
    assert ids(log) == ids(cold(cache, key, 4)) == ["t0", "t1", "t2", "t3", "t4"]


@pytest.mark.parametrize("call", range(6))
def test_an_outage_at_any_step_of_a_roll_over_is_harmless(call: int) -> None:
    cache, key, log = conversation(4, 4)
    made = 0

    def count(_: str) -> None:
        nonlocal made
        made += 1
        if made == call + 1:
            cache.unreachable = 1

    cache.on_call = count
    added_now = True
    try:
        log.append(turn("t4"))
    except FlameError:
        added_now = False
    cache.on_call = lambda _: None
    expected = ["t0", "t1", "t2", "t3"] + ["t4"] * added_now
    assert ids(cold(cache, key, 4)) == ids(cold_from_the_first(cache, key)) == expected
    log.append(turn("t4"))
    assert ids(log) == ["t0", "t1", "t2", "t3", "t4"]


def test_items_are_not_copied_into_later_segments() -> None:
    cache, _, log = conversation(2, 4)
    log.append(added("long", items=2000))
    size = len(log.conversation.items())
    for number in range(30):
        log.append(EditBody("cancel", turn=str(number)))
    assert log.conversation.segments > 5
    assert size > 2000
    for each in list(cache.objects)[1:]:
        base = cache.objects[each].base
        assert base is not None
        assert len(base) < 5000
