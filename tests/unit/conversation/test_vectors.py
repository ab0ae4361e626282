"""Vectors of turns are no change of what is remembered: nobody who adds meanwhile has to decide anew."""

from __future__ import annotations

import json

from flameagent.conversation import EditBody, Vectors
from tests.support.conversations import cold, conversation, turn

VECTORS = Vectors("m", 2, ["t0", "t1"], b"\x01\x7f\x81\x00")


def test_they_are_added_beside_a_turn_and_carry_the_version_that_knows_them() -> None:
    cache, key, log = conversation(2)
    log.refresh()
    before = log.conversation.revision
    log.append(EditBody("vectors", vectors=VECTORS))
    assert log.conversation.revision == before
    log.append(turn("t2"), revision=before)
    row = json.loads(cache.objects[key].patches[-2][1] or b"")
    assert (row["v"], row["op"]) == (5, "vectors"), "an older program refuses it by this number"
    assert cold(cache, key).load_all().vectors == [VECTORS]
    assert [each.turn.id for each in cold(cache, key).load_all().blocks if each.turn] == ["t0", "t1", "t2"]


def test_a_question_that_was_taken_back_to_be_asked_again_waits_on() -> None:
    _, _, log = conversation(1)
    log.load_all()
    log.append(log.conversation.rewind_edit(0, retry_question="again?"))
    log.append(EditBody("vectors", vectors=VECTORS))
    assert log.conversation.retry_question == "again?"


def test_they_are_gone_with_all_that_was_erased() -> None:
    cache, key, log = conversation(2)
    log.append(EditBody("vectors", vectors=VECTORS))
    log.append(EditBody("erase"))
    log.append(EditBody("vectors", vectors=Vectors("m", 1, ["t9"], b"\x01")))
    assert [each.turns for each in cold(cache, key).load_all().vectors] == [["t9"]]


def test_what_has_not_as_many_bytes_as_it_says_does_not_fit() -> None:
    assert VECTORS.fits
    assert not any(each.fits for each in (Vectors(), Vectors("m", 3, ["a"], b"\x01"), Vectors("m", 0, ["a"], b"")))
