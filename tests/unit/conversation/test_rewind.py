"""Turns that are taken back, conversations that are copy_edit, and titles: what every reader makes of them."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from flameagent.conversation import (
    Block,
    CancelledError,
    ConflictError,
    ConversationError,
    ConversationLog,
    DecisionBody,
    EditBody,
    FlameSession,
    Summary,
    copy_edit,
)
from flameagent.conversation.records import Facts, make
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
from tests.support.memory_cache import MemoryCache


def conversation(turns: int, segment_records: int = 256) -> tuple[MemoryCache, str, ConversationLog]:
    cache = MemoryCache()
    key = begin(cache, [json.dumps(message("before"))])
    log = cold(cache, key, segment_records)
    for number in range(1, turns + 1):
        log.append(turn(f"t{number}"))
    return cache, key, log


def rewind(log: ConversationLog, to: int, retry_question: str = "") -> None:
    log.refresh()
    edit = log.load(0).rewind_edit(to, by="ada", retry_question=retry_question)
    log.append(edit, revision=log.conversation.revision)


def copy_of(cache: MemoryCache, log: ConversationLog, turns: int) -> tuple[str, ConversationLog]:
    key = begin(cache, prefix="openai-agent/copy")
    log.refresh()
    end, blocks = log.load(0).checkpoint_at(turns)
    fresh = cold(cache, key)
    fresh.append(copy_edit(end, blocks, origin="openai-agent-ORIGIN", title="a title"))
    return key, fresh


def ids(log: ConversationLog) -> list[str]:
    return [t.id for t, _ in everything(log)["turns"]]


@pytest.mark.parametrize("segment_records", [256, 4, 2])
@pytest.mark.parametrize("to", range(9))
def test_after_a_rewind_it_is_as_it_was_then_for_every_reader(to: int, segment_records: int) -> None:
    expected = everything(conversation(to)[2])
    cache, key, log = conversation(9, segment_records)
    rewind(log, to)
    readers = [log, cold(cache, key, segment_records), cold_from_the_first(cache, key)]
    assert state(readers[0])["facts"] == expected["facts"]
    first = everything(readers[0])
    assert all(everything(each) == first for each in readers)
    for name in (
        "items",
        "item_count",
        "turn_count",
        "facts",
        "usage",
        "model",
        "always_approved",
        "waiting",
        "prompt",
    ):
        assert first[name] == expected[name], name
    assert ids(log) == [f"t{number}" for number in range(1, to + 1)]

    for number in range(3):
        log.append(turn(f"again{number}"))
    other = cold(cache, key, segment_records)
    assert other.refresh().turn_count == to + 3
    assert everything(other) == everything(log) == everything(cold_from_the_first(cache, key))
    assert ids(log)[to:] == ["again0", "again1", "again2"]


def test_a_cold_reader_has_the_window_of_what_was_kept_in_an_earlier_segment() -> None:
    cache, key, log = conversation(12, 3)
    rewind(log, 2)
    reader = cold(cache, key, 3)
    assert (reader.refresh().item_count, reader.conversation.turn_count) == (5, 2)
    while reader.conversation.unloaded_items > (start := reader.conversation.window(4)):
        reader.load(start)
    assert [item["content"] for item in reader.conversation.items_from(start)] == ["<t2> 0", "<t2> 1"]


@pytest.mark.parametrize("keys", [["a"], []])
@pytest.mark.parametrize("segment_records", [256, 2])
def test_a_fact_that_is_forgotten_comes_back_with_no_rewind_copy_or_reader(
    keys: list[str], segment_records: int
) -> None:
    cache, key, log = conversation(1, segment_records)
    for number in (2, 3):
        log.append(replace(turn(f"t{number}"), facts={"a": f"a{number}", "b": "kept"}, own_facts=["a", "b"]))
    before, revision = everything(log), log.conversation.revision

    def left(facts: Facts) -> Facts:
        return {name: text for name, text in facts.items() if name != "a"} if keys else {}

    log.append(EditBody("forget", keys=keys, by="ada"))
    assert log.conversation.revision == revision, "a turn that runs would be refused"
    for reader in (log, cold(cache, key, segment_records), cold_from_the_first(cache, key)):
        seen = everything(reader)
        assert (seen["facts"], seen["items"]) == (left(before["facts"]), before["items"])
        assert [t.facts for t, _ in seen["turns"]] == [left(t.facts) for t, _ in before["turns"]]
    assert copy_of(cache, log, 3)[1].conversation.facts == left(before["facts"])
    rewind(log, 2)
    for reader in (log, cold(cache, key, segment_records)):
        assert everything(reader)["facts"] == left(before["facts"])
        copied = copy_of(cache, reader, 2)[1].conversation
        assert copied.facts == left(before["facts"])
        assert copied.own_facts == reader.conversation.own_facts == (("b",) if keys else ())


def test_nothing_is_erased_and_the_whole_history_has_what_was_taken_back() -> None:
    cache, key, log = conversation(3)
    rewind(log, 1)
    log.append(turn("other"))
    rewind(log, 0)
    first, second = cold(cache, key).refresh().rewinds
    assert [block.turn.id for block in first.blocks if block.turn] == ["t2", "t3"]
    assert [block.turn.id for block in second.blocks if block.turn] == ["t1", "other"]
    assert (first.turns, first.by, second.turns) == (1, "ada", 0)
    assert first.place < second.place
    assert second.blocks[0].items == turn("t1").items


def test_what_was_added_between_two_turns_stays_with_the_turn_before() -> None:
    _, _, log = conversation(1)
    log.append(added("between"))
    log.append(turn("t2"))
    rewind(log, 1)
    assert [item["content"] for item in log.conversation.items()][-1] == "<between> 0"


@pytest.mark.parametrize("operation", ["pop", "clear"])
def test_what_was_popped_or_cleared_after_a_turn_comes_back_with_its_rewind(operation: str) -> None:
    cache, key, log = conversation(2)
    before = log.conversation.items()
    log.append(turn("t3", items=1))
    for _ in range(3):
        log.append(EditBody("pop" if operation == "pop" else "clear"))
    rewind(log, 2)
    assert everything(log)["items"] == everything(cold(cache, key))["items"] == before


def test_a_turn_that_waits_is_taken_back_without_its_state_and_cannot_come_back() -> None:
    cache, key, log = conversation(2)
    log.append(waiting("w"))
    log.append(
        DecisionBody(
            "d", decides_on=log.conversation.last, approved=["call of w"], always_approved=["forget"], by="bob"
        )
    )
    assert log.conversation.always_approved == ("forget",)
    rewind(log, 2)
    for each in (log, cold(cache, key)):
        seen = everything(each)
        assert (seen["waiting"], seen["always_approved"], seen["turn_count"]) == (None, (), 2)
        (taken,) = each.conversation.rewinds
        (block,) = taken.blocks
        assert block.turn is not None
        assert (block.turn.number, block.turn.id, block.turn.answer) == (3, "w", {})
        assert [decided.by for decided in block.turn.decisions] == ["bob"]
        for body in (waiting("w"), turn("w")):
            with pytest.raises(CancelledError):
                each.append(body)
    assert list(log.conversation.decided) == ["d"], "it is not carried out again either"


async def test_a_turn_that_was_taken_back_and_runs_again_gives_its_answer_and_adds_nothing() -> None:
    cache, key, log = conversation(2)
    rewind(log, 1)
    stored = await FlameSession("s", cold(cache, key)).stored("t2", "question of t2")
    assert stored is not None and stored.answer == turn("t2").answer["answer"]
    remembered = log.append(turn("t2"))
    assert remembered is not None and remembered.answer == turn("t2").answer
    assert ids(log) == ["t1"]


def test_a_turn_that_runs_while_others_are_taken_back_is_not_added() -> None:
    cache, key, log = conversation(2)
    revision = log.conversation.revision
    rewind(cold(cache, key), 1)
    with pytest.raises(ConflictError):
        log.append(turn("late"), revision=revision)
    assert ids(log) == ["t1"]


def test_of_a_rewind_and_a_turn_the_first_counts() -> None:
    cache, key, log = conversation(2)
    edit = log.load(0).rewind_edit(0)
    revision = log.conversation.revision
    cold(cache, key).append(turn("t3"))
    with pytest.raises(ConflictError):
        log.append(edit, revision=revision)
    assert ids(log) == ["t1", "t2", "t3"]


@pytest.mark.parametrize("to", [-1, 2, 3])
def test_there_is_nothing_to_take_back_behind_the_last_turn(to: int) -> None:
    _, _, log = conversation(2)
    with pytest.raises(ConversationError, match=r"last one|no turn"):
        log.conversation.rewind_edit(to)


def test_the_question_to_ask_again_is_known_until_a_turn_is_there() -> None:
    cache, key, log = conversation(2, 3)
    rewind(log, 1, retry_question="question of t2")
    log.append(EditBody("cancel", turn="the retry that was cancelled"))
    log.append(EditBody("title", title="a name"))
    assert cold(cache, key, 3).refresh().retry_question == log.conversation.retry_question == "question of t2"
    log.append(turn("t2 again"))
    assert cold(cache, key, 3).refresh().retry_question == log.conversation.retry_question == ""


def test_who_decided_stays_in_the_history_of_the_turn() -> None:
    cache, key, log = conversation(1)
    log.append(waiting("w"))
    log.append(DecisionBody("1", decides_on=log.conversation.last, approved=["call of w"], by="ada"))
    log.append(waiting("w"))
    rejection = DecisionBody(
        "2", decides_on=log.conversation.last, rejected=["call of w"], by="bob", reason="Not that."
    )
    log.append(rejection)
    log.append(turn("w"))
    log.append(turn("after"))
    for each in (log, cold(cache, key), cold_from_the_first(cache, key)):
        seen = {t.id: t.decisions for t, _ in everything(each)["turns"]}
        assert [(one.by, one.approved, one.rejected, one.reason) for one in seen["w"]] == [
            ("ada", ["call of w"], [], ""),
            ("bob", [], ["call of w"], "Not that."),
        ]
        assert (seen["t1"], seen["after"]) == ([], [])


def test_a_title_is_no_change_that_a_turn_conflicts_with_and_is_not_taken_back() -> None:
    cache, key, log = conversation(2, 3)
    revision = log.conversation.revision
    cold(cache, key, 3).append(EditBody("title", title="a name"))
    assert log.append(turn("t3"), revision=revision) is None
    rewind(log, 1)
    log.append(turn("t4"))
    assert log.conversation.segments > 0
    assert cold(cache, key, 3).refresh().title == everything(log)["title"] == "a name"


@pytest.mark.parametrize("turns", [0, 1, 4, 6])
def test_a_copy_is_as_the_original_was_and_stands_alone(turns: int) -> None:
    cache, _, log = conversation(6, 3)
    key, copy = copy_of(cache, log, turns)
    expected = everything(conversation(turns)[2])
    for each in (copy, cold(cache, key)):
        seen = everything(each)
        for name in ("items", "item_count", "turn_count", "facts", "usage", "model", "always_approved"):
            assert seen[name] == expected[name], name
        assert (each.conversation.title, each.conversation.origin) == ("a title", "openai-agent-ORIGIN")
    assert [(t.number, t.id, t.answer) for t, _ in copy.conversation.turns()] == [
        (number, f"t{number}", turn(f"t{number}").answer) for number in range(1, turns + 1)
    ]
    copy.append(turn("mine"))
    assert ids(copy)[-1] == "mine"
    assert ids(log) == ["t1", "t2", "t3", "t4", "t5", "t6"]


@pytest.mark.parametrize("to", range(4))
def test_turns_of_a_copy_can_be_taken_back(to: int) -> None:
    cache, _, log = conversation(4)
    log.append(added("after"))
    key, copy = copy_of(cache, log, 4)
    rewind(copy, to)
    expected = everything(conversation(to)[2])
    for each in (copy, cold(cache, key)):
        seen = everything(each)
        for name in ("items", "turn_count", "facts", "usage", "model"):
            assert seen[name] == expected[name], name
        taken = each.conversation.rewinds[0].blocks
        assert [block.turn.id if block.turn else "after" for block in taken] == [
            *(f"t{number}" for number in range(to + 1, 5)),
            "after",
        ]


def test_a_copy_keeps_what_lies_before_all_was_cleared() -> None:
    cache, _, log = conversation(3)
    log.append(EditBody("clear"))
    log.append(turn("t4"))
    _, copy = copy_of(cache, log, 4)
    original, seen = everything(log), everything(copy)
    for name in ("items", "turn_count", "facts", "usage", "model"):
        assert seen[name] == original[name], name
    assert [t.number for t, _ in seen["turns"]] == [4]


def test_a_copy_stops_before_a_turn_that_waits() -> None:
    cache, _, log = conversation(2)
    log.append(waiting("w"))
    log.append(DecisionBody("d", decides_on=log.conversation.last, always_approved=["forget"]))
    _, copy = copy_of(cache, log, 2)
    seen = everything(copy)
    assert (seen["waiting"], seen["always_approved"], [t.id for t, _ in seen["turns"]]) == (None, (), ["t1", "t2"])


def test_what_an_older_program_does_not_know_says_so_by_its_version() -> None:
    edits = [
        (EditBody("add", items=[message("x")]), 1),
        (EditBody("pop"), 1),
        (EditBody("clear"), 1),
        (EditBody("cancel", turn="x"), 1),
        (EditBody("title", title="x"), 2),
        (EditBody("rewind"), 2),
        (EditBody("copy", blocks=[Block([message("x")])]), 2),
        (EditBody("summary", summary=Summary("x", 1, 2)), 4),
    ]
    for body, version in edits:
        assert make(body, seq=0, prev="").envelope.v == version
    assert make(turn("x"), seq=0, prev="").envelope.v == 1
