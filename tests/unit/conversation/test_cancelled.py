"""Turns that are cancelled while another one runs: what that one may still add."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from flameagent.conversation import CancelledError, ConflictError, EditBody
from tests.support.conversations import cold, conversation, everything, turn, waiting


@pytest.mark.parametrize("segment_records", [2, 3, 256])
def test_to_cancel_another_turn_is_no_change_that_one_conflicts_with(segment_records: int) -> None:
    cache, key, log = conversation(2, segment_records)
    revision, other = log.conversation.revision, cold(cache, key, segment_records)
    for number in range(3):
        other.append(EditBody("cancel", turn=f"behind {number}"))
        other.append(EditBody("title", title=f"title {number}"))
    assert log.append(turn("t3"), revision=revision) is None
    assert [each.id for each, _ in everything(cold(cache, key))["turns"]] == ["t0", "t1", "t3"]


def test_what_else_was_added_beside_a_cancellation_is_one() -> None:
    for change in (turn("theirs"), EditBody("pop"), waiting("theirs")):
        cache, key, log = conversation(2)
        revision, other = log.conversation.revision, cold(cache, key)
        other.append(EditBody("cancel", turn="behind"))
        other.append(change)
        other.append(EditBody("cancel", turn="behind, too"))
        for reader in (log, cold(cache, key)):
            with pytest.raises(ConflictError):
                reader.append(EditBody("clear"), revision=revision)


def test_the_turn_itself_and_one_that_waits_for_an_approval_are() -> None:
    cache, key, log = conversation(1)
    revision = log.conversation.revision
    cold(cache, key).append(EditBody("cancel", turn="mine"))
    with pytest.raises(CancelledError):
        log.append(turn("mine"), revision=revision)
    log.append(waiting("asks"))
    edit, revision = log.load(0).rewind_edit(1), log.conversation.revision
    cold(cache, key).append(EditBody("cancel", turn="asks"))
    with pytest.raises(ConflictError):  # nothing is left to take back: the record would be damage
        log.append(edit, revision=revision)
    assert cold(cache, key).refresh().damage is None


def test_a_turn_that_has_taken_in_a_message_which_was_cancelled_is_not_added() -> None:
    cache, key, log = conversation(1)
    revision = log.conversation.revision
    cold(cache, key).append(EditBody("cancel", turn="message"))
    answered = turn("mine")
    for body in (
        replace(answered, answer={**answered.answer, "steered": ["message"]}),
        replace(waiting("mine"), steered=["message"]),
    ):
        with pytest.raises(ConflictError, match="was cancelled meanwhile"):
            log.append(body, revision=revision)
    assert log.append(answered, revision=revision) is None
