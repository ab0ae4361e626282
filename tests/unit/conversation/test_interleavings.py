"""Writers at once: whatever the order of their calls and whatever the cache does, one conversation."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from unittest import mock

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flameagent.conversation import (
    CancelledError,
    ConflictError,
    ConversationLog,
    DecisionBody,
    EditBody,
    Summary,
    UnclearError,
    WaitingError,
)
from flameagent.conversation import log as log_module
from flameagent.flame import objects
from flameagent.flame.errors import Unreachable
from tests.support.conversations import (
    added,
    begin,
    cold,
    cold_from_the_first,
    everything,
    message,
    state,
    turn,
    waiting,
)
from tests.support.memory_cache import Fault, MemoryCache
from tests.unit.conversation.interleaving import Baton

from . import fold_reference

MANY = settings(max_examples=120, derandomize=True, deadline=None)

OPERATIONS = (
    *("turn", "turn", "turn", "stale turn", "shared turn", "add", "add", "pop", "clear", "cancel", "read"),
    *("wait", "decide", "decide", "finish", "rewind", "rewind", "title"),
    *("summary", "summary"),
)
UNTOLD = ("pop", "clear", "cancel", "rewind", "title", "summary")
"""Changes that leave no token behind."""


class Clock:
    """Time that passes only where someone sleeps, and lets the others go on meanwhile."""

    def __init__(self, baton: Baton) -> None:
        self.now = 0.0
        self.baton = baton

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.baton.step()


@dataclass
class Writer:
    """One process that writes, and what it was told of each of its appends."""

    name: str
    log: ConversationLog
    operations: list[str]
    told: dict[str, str] = field(default_factory=dict)
    stale: int = 0

    def run(self) -> None:
        for number, operation in enumerate(self.operations):
            token = f"{self.name}{number}"
            try:
                self._do(operation, token)
            except ConflictError:
                self.told[token] = "conflict"
            except WaitingError:
                self.told[token] = "waiting"
            except CancelledError:
                self.told[token] = "cancelled"
            except UnclearError:
                self.told[token] = "unclear"
            except Unreachable:
                self.told[token] = "nothing was sent"

    def _do(self, operation: str, token: str) -> None:
        log = self.log
        if operation == "turn":
            revision = log.refresh().revision
            assert log.append(turn(token), revision=revision) is None
        elif operation == "stale turn":
            assert log.append(turn(token), revision=self.stale) is None
            self.stale = log.conversation.revision
        elif operation == "shared turn":
            # The same question, sent twice: each writer has its own answer to it.
            name = f"shared{self.operations[: int(token[1:])].count('shared turn')}"
            body = turn(token, question=name)
            body = type(body)(name, name, body.items, {"answer": token})
            if log.append(body, revision=log.refresh().revision) is not None:
                self.told[token] = "answered by another"
                return
        elif operation == "add":
            assert log.append(added(token)) is None
        elif operation in ("pop", "clear"):
            log.append(EditBody("pop" if operation == "pop" else "clear"))
        elif operation == "cancel":
            other = "b" if self.name == "a" else "a"
            log.append(EditBody("cancel", turn=f"{other}{token[1:]}"))
        elif operation == "title":
            log.append(EditBody("title", title=token))
        elif operation == "summary":
            state = log.refresh()
            count = random.Random(token).randint(0, state.item_count)
            if count > state.summary.item_count:
                summary = Summary(token, item_count=count, start=state.summary.item_count)
                log.append(EditBody("summary", summary=summary), revision=state.revision)
        elif operation == "rewind":
            log.refresh()
            conversation = log.load(0)
            last = conversation.turn_count if conversation.waiting else conversation.turn_count - 1
            if last < 0:
                return
            edit = conversation.rewind_edit(random.Random(token).randint(0, last))
            assert log.append(edit, revision=conversation.revision) is None
        elif operation == "wait":
            assert log.append(waiting(token), revision=log.refresh().revision) is None
        elif operation == "decide":
            waits = log.refresh().waiting
            decision = DecisionBody(
                token, decides_on=waits.record_id if waits else "nothing", always_approved=[token]
            )
            assert log.append(decision) is None
        elif operation == "finish" and (waits := log.refresh().waiting) is not None:
            body = msgspec.structs.replace(turn(token), turn=waits.pending.turn)
            if log.append(body, revision=log.conversation.revision) is not None:
                self.told[token] = "answered by another"
                return
        else:
            log.load(0)
            return
        self.told[token] = "added"


@dataclass
class Story:
    """What is tried: who does what, in which order, and what the cache does to them."""

    operations: list[list[str]]
    order: list[int]
    faults: list[Fault]
    late_by: list[int]
    segment_records: int


FAULTS: tuple[Fault, ...] = ("", "", "", "answer lost", "patch lost", "patch late")


def stories(*, faults: bool) -> st.SearchStrategy[Story]:
    # Bytes, of which each is a choice: hypothesis makes them many times faster than lists. The order is
    # a seed's, because hypothesis' own are short: most writers would then run one after the other.
    operations = st.binary(min_size=3, max_size=8).map(
        lambda picks: [OPERATIONS[pick % len(OPERATIONS)] for pick in picks]
    )
    return st.builds(
        Story,
        operations=st.lists(operations, min_size=2, max_size=3),
        order=st.integers(0, 2**32).map(lambda seed: random.Random(seed).choices(range(6), k=500)),
        faults=st.binary(max_size=25 * faults).map(lambda picks: [FAULTS[pick % len(FAULTS)] for pick in picks]),
        late_by=st.binary(max_size=8).map(lambda picks: [1 + pick % 30 for pick in picks]),
        segment_records=st.integers(2, 5),
    )


def play(story: Story) -> tuple[MemoryCache, str, list[Writer]]:
    cache, baton = MemoryCache(), Baton()
    key = begin(cache, ['{"role": "user", "content": "before"}'])
    cache.faults.extend(story.faults)
    cache.late_by.extend(story.late_by)
    cache.on_call = baton.step
    writers = [
        Writer(name, cold(cache, key, story.segment_records), operations)
        for name, operations in zip("abc", story.operations, strict=False)
    ]
    jobs: list[Callable[[], None]] = [writer.run for writer in writers]
    clock = Clock(baton)
    with mock.patch.object(log_module, "time", clock), mock.patch.object(objects, "time", clock):
        baton.run(jobs, story.order)
    cache.faults.clear()
    cache.land()
    return cache, key, writers


@MANY
@given(stories(faults=True))
def test_every_reader_sees_the_same_conversation(story: Story) -> None:
    cache, key, writers = play(story)
    expected = fold_reference.read(cache, key, [message("before")])

    hinted = cold(cache, key, story.segment_records)
    hinted.refresh()
    warm = [writer.log for writer in writers]
    for log in warm:
        log.refresh()
        assert state(log) == state(hinted)

    readers = [*warm, hinted, cold(cache, key, story.segment_records), cold_from_the_first(cache, key)]
    seen = [everything(log) for log in readers]
    assert all(each == seen[0] for each in seen)
    assert seen[0]["items"] == expected.items
    assert seen[0]["item_count"] == len(expected.items)
    assert seen[0]["seq"] == len(expected.records)
    assert seen[0]["last"] == expected.last
    assert seen[0]["segments"] == expected.segments
    assert seen[0]["turn_count"] == len(expected.turns)
    assert [each.id for each, _ in seen[0]["turns"]] == [*expected.turns][
        len(expected.turns) - len(seen[0]["turns"]) :
    ]
    assert [remembered.turn for remembered in seen[0]["recent"]] == expected.answered
    assert (seen[0]["model"], set(seen[0]["always_approved"])) == (expected.model, expected.always)
    assert seen[0]["title"] == expected.title
    assert (seen[0]["summary"].text, seen[0]["summary"].item_count) == expected.summary
    assert seen[0]["facts"] == expected.facts
    assert (seen[0]["waiting"].record_id if seen[0]["waiting"] else None) == (
        expected.waits[0] if expected.waits else None
    )
    assert seen[0]["decided"] == expected.decided
    assert seen[0]["usage"].requests == expected.requests


@MANY
@given(stories(faults=True))
def test_an_append_is_in_the_conversation_once_if_it_returned_and_never_if_it_conflicted(story: Story) -> None:
    cache, key, writers = play(story)
    conversation = fold_reference.read(cache, key)
    times = {"added": 1, "conflict": 0, "cancelled": 0, "answered by another": 0, "nothing was sent": 0, "waiting": 0}
    for writer in writers:
        for token, told in writer.told.items():
            operation = writer.operations[int(token[1:])]
            if operation in UNTOLD:
                continue
            assert told != "unclear", "the cache came back, so it could have been known"
            assert conversation.times(operation, token) == times[told], (token, told)
    assert len(conversation.answered) == len(set(conversation.answered))


@MANY
@given(stories(faults=True))
def test_a_writers_changes_stay_in_its_order(story: Story) -> None:
    cache, key, writers = play(story)
    records = [record.get("items", []) for record in fold_reference.read(cache, key).records]
    order = [item["content"].split(">")[0][1:] for items in records for item in items[:1]]
    for writer in writers:
        mine = [int(token[1:]) for token in order if token[0] == writer.name]
        assert mine == sorted(mine)


@MANY
@given(stories(faults=False))
def test_without_faults_nobody_is_left_in_doubt_and_edits_never_conflict(story: Story) -> None:
    _, _, writers = play(story)
    for writer in writers:
        for token, told in writer.told.items():
            assert told != "unclear"
            if writer.operations[int(token[1:])] in ("add", "pop", "clear", "cancel", "title"):
                assert told in ("added", "waiting")


@MANY
@given(stories(faults=True), st.integers(1, 12), st.integers(0, 40))
def test_an_outage_ends_in_an_error_that_is_true(story: Story, calls: int, after: int) -> None:
    """The cache is away for some calls, anywhere: still nothing is twice, lost, or there after a refusal."""
    made = 0

    def step(_: str) -> None:
        nonlocal made
        made += 1
        if made == after:
            cache.unreachable = calls
        baton.step()

    cache, baton = MemoryCache(), Baton()
    key = begin(cache)
    cache.on_call = step
    cache.faults.extend(story.faults)
    cache.late_by.extend(story.late_by)
    writers = [
        Writer(name, cold(cache, key, story.segment_records), operations)
        for name, operations in zip("abc", story.operations, strict=False)
    ]
    clock = Clock(baton)
    with mock.patch.object(log_module, "time", clock), mock.patch.object(objects, "time", clock):
        baton.run([writer.run for writer in writers], story.order)
    cache.unreachable, cache.on_call = 0, lambda call: None
    cache.land()

    conversation = fold_reference.read(cache, key)
    for writer in writers:
        for token, told in writer.told.items():
            operation = writer.operations[int(token[1:])]
            if operation in UNTOLD:
                continue
            times = conversation.times(operation, token)
            assert times == 1 if told == "added" else times <= (told == "unclear"), (token, told)
    assert len(conversation.answered) == len(set(conversation.answered))
    seen = [everything(log) for log in [*(writer.log for writer in writers), cold_from_the_first(cache, key)]]
    assert all(each == seen[0] for each in seen)


def test_a_lost_race_reads_the_winner_and_conflicts() -> None:
    cache = MemoryCache()
    key = begin(cache)
    one, two = cold(cache, key), cold(cache, key)
    revision = one.refresh().revision
    two.append(turn("second"))
    with pytest.raises(ConflictError):
        one.append(turn("first"), revision=revision)
    assert [t.id for t, _ in everything(one)["turns"]] == ["second"]


def test_a_record_that_comes_late_loses_to_its_own_copy() -> None:
    cache = MemoryCache()
    key = begin(cache)
    cache.faults.append("patch late")
    cache.late_by.append(1000)
    log = cold(cache, key)
    log.append(turn("once"))
    cache.land()
    log.append(turn("next"))
    assert [t.id for t, _ in everything(cold(cache, key))["turns"]] == ["once", "next"]
    assert len(cache.objects[key].patches) == 3


def test_a_lost_answer_is_looked_for_and_not_appended_again() -> None:
    cache = MemoryCache()
    key = begin(cache)
    cache.faults.append("answer lost")
    log = cold(cache, key)
    log.append(turn("once"))
    assert len(cache.objects[key].patches) == 1
    assert everything(log) == everything(cold(cache, key))


def test_a_cache_that_stays_away_inside_an_append_leaves_it_unclear_and_later_appends_agree() -> None:
    cache = MemoryCache()
    key = begin(cache)
    log = ConversationLog(cache, key, patience=0.0)
    log.refresh()
    cache.faults.append("answer lost")
    calls = iter(["get", "patch"])

    def go_away(call: str) -> None:
        if next(calls, None) is None:
            cache.unreachable = 1

    cache.on_call = go_away
    with pytest.raises(UnclearError, match="may have been added"):
        log.append(turn("once"))
    cache.on_call = lambda call: None
    stored = log.append(turn("once"))
    assert stored is not None
    assert stored.answer == {"answer": "answer of once"}
    assert [t.id for t, _ in everything(log)["turns"]] == ["once"]


def test_an_outage_before_the_append_sends_nothing() -> None:
    cache = MemoryCache()
    key = begin(cache)
    log = ConversationLog(cache, key, patience=0.0)
    log.refresh()
    cache.unreachable = 1
    with pytest.raises(Unreachable):
        log.append(turn("never"))
    assert cache.objects[key].patches == []


def test_only_what_is_new_is_read() -> None:
    cache = MemoryCache()
    key = begin(cache)
    writer, reader = cold(cache, key), cold(cache, key)
    for number in range(20):
        writer.append(turn(f"t{number}"))
    reader.refresh()
    cache.reads.clear()
    writer.append(turn("new"))
    cache.reads.clear()
    reader.refresh()
    assert cache.reads == [(key, 20, 2)]  # the row that overlaps, and the new one
