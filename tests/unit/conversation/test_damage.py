"""Damage: named by its number, never passed over; what came before stays readable."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flameagent.conversation import DamagedError, EditBody, MissingError
from flameagent.conversation.records import VERSION, make
from tests.support.conversations import added, cold, cold_from_the_first, conversation, everything, turn
from tests.support.memory_cache import MemoryCache


def altered(row: bytes | None, **changes: Any) -> bytes:
    assert row is not None
    return json.dumps({**json.loads(row), **changes}).encode()


def without(row: bytes | None, name: str) -> bytes:
    assert row is not None
    record = json.loads(row)
    del record[name]
    return json.dumps(record).encode()


ROWS = {
    "not pickled bytes": lambda row: None,
    "empty": lambda row: b"",
    "garbage": lambda row: b"\x00\xff\xfe",
    "not UTF-8": lambda row: row.replace(b"question", b"questio\xff"),
    "not JSON": lambda row: b"{'v': 1}",
    "cut short": lambda row: row[:-20],
    "not an object": lambda row: b"[1, 2]",
    "null": lambda row: b"null",
    "another object": lambda row: b'{"hello": "world"}',
    "a hint": lambda row: b'{"hint": "openai-agent/session/x"}',
    "nested without end": lambda row: b'{"v": 1, "a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "lone surrogates and no record": lambda row: b'{"a": "\\ud800"}',
    "no kind": lambda row: without(row, "kind"),
    "no seq": lambda row: without(row, "seq"),
    "no items": lambda row: without(row, "items"),
    "items of another type": lambda row: altered(row, items=["text"]),
    "seq of another type": lambda row: altered(row, seq="2"),
    "wrong prev": lambda row: altered(row, prev="0" * 32),
    "newer version": lambda row: altered(row, v=VERSION + 1),
    "unknown kind": lambda row: altered(row, kind="telepathy"),
    "unknown edit": lambda row: altered(row, kind="edit", op="rewrite"),
    "rewind to no turn": lambda row: altered(row, kind="edit", op="rewind", kept={"turns": 700}),
    "later seq": lambda row: altered(row, seq=3),
}
OF_A_TURN = {"no items", "items of another type", "later seq", "not UTF-8"}
"""Damage that only the third record, a turn, can have."""


@pytest.mark.parametrize("segment_records", [256, 3])
@pytest.mark.parametrize("damage", ROWS)
def test_an_altered_record_is_damage_at_its_number(damage: str, segment_records: int) -> None:
    cache, key, warm = conversation(5, segment_records)
    version, row = cache.objects[key].patches[2]
    cache.replace(key, version, ROWS[damage](row))
    log = cold_from_the_first(cache, key)
    seen = everything(log)
    assert isinstance(log.conversation.damage, DamagedError)
    assert log.conversation.damage.record == 3
    assert str(log.conversation.damage).startswith("Record 3 ")
    assert [t.id for t, _ in seen["turns"]] == ["t0", "t1"]
    if segment_records == 256:
        with pytest.raises(DamagedError):
            cold(cache, key).append(turn("never"))
        assert len(cache.objects[key].patches) == 5
    assert warm.conversation.turn_count == 5


def test_a_newer_version_and_an_unknown_kind_are_refused_by_name() -> None:
    cache, key, _ = conversation(1)
    cache.patch(key, altered(make(added("x"), seq=1, prev="?").data, v=7, kind="telepathy", prev=_last(cache, key)))
    damage = cold(cache, key).refresh().damage
    assert str(damage) == ("Record 2 was written by a newer version of this program (kind 'telepathy', version 7).")


def test_a_lost_race_is_skipped_before_its_version_and_kind_are_looked_at() -> None:
    cache, key, _ = conversation(2)
    cache.patch(key, altered(make(added("x"), seq=1, prev="?").data, v=7, kind="telepathy"))
    cache.patch(key, altered(make(added("x"), seq=0, prev="?").data, items=5))
    log = cold(cache, key)
    log.append(turn("next"))
    assert [t.id for t, _ in everything(log)["turns"]] == ["t0", "t1", "next"]


def _last(cache: MemoryCache, key: str) -> str:
    row = cache.objects[key].patches[-1][1]
    assert row is not None
    return str(json.loads(row)["id"])


@settings(max_examples=120, derandomize=True, deadline=None)
@given(
    turns=st.integers(2, 25),
    records=st.integers(2, 6),
    where=st.integers(0, 10**6),
    how=st.sampled_from(["lost", *sorted(set(ROWS) - OF_A_TURN)]),
)
def test_any_record_that_is_lost_or_altered_is_found_by_whoever_reads_it(
    turns: int, records: int, where: int, how: str
) -> None:
    cache, key, _ = conversation(turns, records)
    sound = everything(cold(cache, key, records))
    chain = [each for each in cache.objects if cache.objects[each].patches]
    # Hints are not records; the newest record is a tail, which may be lost without anyone knowing.
    rows = [
        (each, version, row)
        for each in chain
        for version, row in cache.objects[each].patches
        if row is not None and b'"hint"' not in row
    ]
    number = where % (len(rows) - 1)
    each, version, row = rows[number]
    if how == "lost":
        cache.lose(each, version)
    else:
        cache.replace(each, version, ROWS[how](row))
    seen = everything(log := cold(cache, key, records))
    damage = log.conversation.damage
    assert damage is not None
    assert damage.record == number + 1
    assert str(damage).startswith(f"Record {number + 1} ")
    assert seen["turns"] == sound["turns"][: len(seen["turns"])]
    assert len(seen["turns"]) == sum(b'"kind":"turn"' in (r or b"") for _, _, r in rows[:number])


def test_a_lost_stretch_is_named_from_its_first_to_its_last_record() -> None:
    cache, key, _ = conversation(9)
    for version in (4, 5, 6):
        cache.lose(key, version)
    damage = cold(cache, key).refresh().damage
    assert damage is not None
    assert (damage.record, str(damage)) == (3, "Records 3 to 5 are missing.")


def test_a_warm_reader_notices_a_row_that_was_replaced_under_it() -> None:
    cache, key, log = conversation(5)
    version, row = cache.objects[key].patches[-1]
    cache.replace(key, version, altered(row, question="another"))
    (*_, (last, _)) = everything(log)["turns"]
    assert last.question == "another"


def test_a_warm_reader_notices_a_lost_tail_whose_version_was_given_again() -> None:
    cache, key, log = conversation(5)
    cache.lose_tail(key, 2)
    other = cold(cache, key)
    other.append(turn("other 1"))
    other.append(turn("other 2"))
    assert everything(log) == everything(other)
    assert log.append(turn("t3")) is None
    assert [t.id for t, _ in everything(log)["turns"]] == ["t0", "t1", "t2", "other 1", "other 2", "t3"]


@pytest.mark.parametrize("lost", [1, 2, 5])
@pytest.mark.parametrize("given_again", [0, 1, 2])
def test_nothing_is_appended_behind_a_lost_tail(lost: int, given_again: int) -> None:
    cache, key, log = conversation(5)
    cache.lose_tail(key, lost)
    other = cold(cache, key)
    for number in range(given_again):
        other.append(added(f"other {number}"))
    log.append(turn("next"))
    assert everything(log) == everything(cold(cache, key))
    assert log.conversation.damage is None
    assert log.conversation.turn_count == 5 - lost + 1


def test_a_turn_whose_basis_was_lost_conflicts() -> None:
    cache, key, log = conversation(5)
    revision = log.refresh().revision
    cache.lose_tail(key, 1)
    with pytest.raises(Exception, match="nothing was added"):
        log.append(turn("next"), revision=revision)


def test_a_lost_segment_is_damage_that_names_its_first_record() -> None:
    cache, key, _ = conversation(20, 4)
    keys = list(cache.objects)
    del cache.objects[keys[2]]
    log = cold(cache, key, 4)
    log.refresh()
    assert log.conversation.damage is None, "the newest segment is sound"
    log.load(0)
    assert log.conversation.damage is not None
    assert log.conversation.damage.record == 11  # two segments of four records and their ends
    assert [t.id for t, _ in log.conversation.turns()] == [f"t{number}" for number in range(8)]


def test_a_lost_newest_segment_is_damage() -> None:
    cache, key, _ = conversation(20, 4)
    del cache.objects[list(cache.objects)[-1]]
    log = cold(cache, key, 4)
    with pytest.raises(DamagedError, match="missing"):
        log.append(turn("next"))
    assert [t.id for t, _ in everything(log)["turns"]] == [
        f"t{number}" for number in range(len(log.conversation.turns()))
    ]
    assert len(log.conversation.turns()) == 16


def test_an_unreadable_base_of_a_segment_is_damage() -> None:
    for base in (None, b"", b"{}", b"\xff", b'{"v": 1}', b"[" * 100_000):
        cache, key, _ = conversation(20, 4)
        cache.objects[list(cache.objects)[2]].base = base
        log = cold_from_the_first(cache, key)
        log.refresh()
        assert log.conversation.damage is not None
        assert log.conversation.damage.record == 11


def test_a_base_of_another_segment_is_damage() -> None:
    cache, key, _ = conversation(20, 4)
    keys = list(cache.objects)
    cache.objects[keys[2]].base = cache.objects[keys[3]].base
    log = cold_from_the_first(cache, key)
    log.refresh()
    assert log.conversation.damage is not None
    assert log.conversation.damage.record == 11


def test_an_end_of_a_segment_that_is_lost_while_its_hint_is_not_is_damage() -> None:
    """A machine that loses power may lose any file: then a hint leads to what the chain does not."""
    cache, key, _ = conversation(10, 4)
    second = list(cache.objects)[1]
    assert len(cache.objects) == 3
    cache.lose_tail(second, 1)
    log = cold(cache, key, 4)
    seen = everything(log)
    assert log.conversation.damage is not None
    assert log.conversation.damage.record == 10
    assert [t.id for t, _ in seen["turns"]] == [f"t{number}" for number in range(8)]


def test_a_conversation_that_is_gone_is_missing() -> None:
    cache, key, log = conversation(3)
    cache.objects.clear()
    for each in (log, cold(cache, key)):
        with pytest.raises(MissingError):
            each.refresh()
        with pytest.raises(MissingError):
            each.append(EditBody("clear"))


def test_damage_that_was_the_caches_alone_is_over_when_it_is() -> None:
    cache, key, log = conversation(5)
    version, row = cache.objects[key].patches[2]
    cache.replace(key, version, b"\xff")
    reader = cold(cache, key)
    assert reader.refresh().damage is not None
    cache.replace(key, version, row)
    assert everything(reader) == everything(log)
