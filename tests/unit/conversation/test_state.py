"""The state of a conversation: small, whole in the base of a segment, and partly brought back by a rewind."""

from __future__ import annotations

import json

import msgspec

from flameagent.conversation import Conversation, PendingApproval, State, StoredTurn, Summary, Usage
from flameagent.conversation.codec import decode, encode
from flameagent.conversation.records import Checkpoint
from flameagent.conversation.state import RECENT, SegmentBase
from tests.support.conversations import waiting


def full() -> State:
    state = State(
        turn_count=50,
        item_count=100,
        model="m",
        usage=Usage(50, 1, 0, 2),
        facts={"name": "Ada", "city": "Lisbon"},
        always_approved=("forget of a", "refund"),
        prompt="Be kind.",
        seq=70,
        last="record-70",
        segments=2,
        waiting=PendingApproval("record-70", waiting("w")),
        title="Rain",
        titles=1,
        summary=Summary("They talked.", 40, 80, model="m"),
        retry_question="?",
        size=4000,
        changed=1_700_000_000_000,
    )
    for number in range(50):
        state.add_recent(StoredTurn(f"t{number}", f"question {number}", {"answer": f"answer {number}"}))
        state.add_cancelled(f"c{number}")
        state.add_decided(f"d{number}")
    return state


def test_the_base_of_a_segment_carries_all_of_it() -> None:
    state = full()
    base = decode(encode(SegmentBase.after(state, previous="an/object", record_id="record-71")), SegmentBase)
    assert (base.previous, base.seq, base.last, base.segments) == ("an/object", 71, "record-71", 3)
    changed = {"seq", "last", "segments"}
    for name in State.__struct_fields__:
        assert name in changed or getattr(base, name) == getattr(state, name), name
    assert (state.seq, state.segments) == (70, 2)


def test_the_base_of_a_segment_has_the_names_that_older_programs_read() -> None:
    base = json.loads(encode(SegmentBase.after(full(), previous="an/object", record_id="record-71")))
    assert set(base) == {
        *("v", "previous", "segments", "seq", "last", "before", "turns", "prompt", "model", "usage", "recent"),
        *("cancelled", "facts", "waiting", "decided", "always", "title", "titles", "again", "size", "changed"),
        *("settled", "agent", "again_with", "owner", "erased", "own_facts", "summary"),
        *("metadata", "tools", "chosen_model", "replay"),
    }
    assert (base["before"], base["turns"], base["always"]) == (100, 50, ["forget of a", "refund"])
    assert set(base["waiting"]) == {"on", "pending", "decision"}
    assert len(base["settled"]) == 8 * 2 * (50 - RECENT)


def test_turns_that_are_no_longer_recent_stay_known() -> None:
    state = full()
    assert [turn.turn for turn in state.recent] == [f"t{number}" for number in range(50 - RECENT, 50)]
    assert state.decided == [f"d{number}" for number in range(50 - RECENT, 50)]
    old = [f"{kind}{number}" for kind in "tc" for number in range(50 - RECENT)]
    assert all(state.is_old_turn(turn) for turn in old)
    assert not any(state.is_old_turn(turn) for turn in ("t49", "c49", "another", ""))


def test_a_turn_that_was_looked_for_in_vain_is_found_when_it_is_old() -> None:
    conversation = Conversation()
    for place in range(3 * RECENT):
        assert not conversation.is_old_turn("wanted"), "however much is known meanwhile"
        conversation.add_recent(StoredTurn(f"t{place}", "", {}))
    conversation.add_recent(StoredTurn("wanted", "", {}))
    for place in range(RECENT):
        assert not conversation.is_old_turn("wanted") and not conversation.is_old_turn("another")
        conversation.add_recent(StoredTurn(f"later{place}", "", {}))
    assert conversation.is_old_turn("wanted") and conversation.is_old_turn("t0")
    assert not conversation.is_old_turn("another")


def test_a_digest_is_found_only_where_one_begins() -> None:
    state, shifted = State(), State()
    for number in range(RECENT + 2):
        state.add_cancelled(f"c{number}")
    shifted.old_turn_digests = state.old_turn_digests[1:] + state.old_turn_digests[:1]
    assert state.is_old_turn("c0") and state.is_old_turn("c1")
    assert not shifted.is_old_turn("c0") and not shifted.is_old_turn("c1")
    shifted.old_turn_digests = bytearray(b"12345") + state.old_turn_digests + bytearray(b"6") + state.old_turn_digests
    assert shifted.is_old_turn("c1"), "behind a place where it only seems to be"


def test_a_checkpoint_brings_back_what_a_rewind_takes_back_and_nothing_else() -> None:
    state, before = full(), full()
    checkpoint = decode(encode(state.checkpoint()), Checkpoint)
    assert checkpoint == state.checkpoint()
    state.facts, state.usage, state.model = {"name": "Eve"}, Usage(51), "another"
    state.summary = Summary("They talked on.", 50, 100, 80)
    state.turn_count, state.item_count, state.always_approved = 51, 102, ("launch of b",)
    state.add_cancelled("after")
    state.restore(checkpoint)
    assert state.cancelled[-1] == "after"
    state.cancelled, state.old_turn_digests = before.cancelled, before.old_turn_digests
    assert msgspec.structs.asdict(state) == msgspec.structs.asdict(before)
