"""Writes and their answers as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamewire.write_frames import (
    ANSWER_SIZE,
    Answer,
    Kind,
    Outcome,
    Write,
    Writes,
    answer_bytes,
    read_answer,
    write_bytes,
)

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_writes = st.lists(st.builds(Write, st.sampled_from(Kind), _texts, st.binary(max_size=300)), max_size=5)


@given(_writes, st.lists(st.integers(1, 40)))
def test_writes_come_as_they_were_sent_in_whatever_pieces(writes: list[Write], sizes: list[int]) -> None:
    rest, received, found = b"".join(map(write_bytes, writes)), Writes(), list[Write]()
    for size in sizes:
        found += received.receive(rest[:size])
        rest = rest[size:]
    found += received.receive(rest)
    assert found == writes
    assert received.receive(b"") == []


@given(st.sampled_from(Outcome), st.integers(0, 2**64 - 1), st.text(max_size=100))
def test_an_answer_comes_as_it_was_given(outcome: Outcome, version: int, why: str) -> None:
    frame = answer_bytes(Answer(outcome, version, why))
    answer, length = read_answer(frame[:ANSWER_SIZE])
    assert answer == Answer(outcome, version)
    assert frame[ANSWER_SIZE:] == why.encode(errors="replace")
    assert len(frame) == ANSWER_SIZE + length


def test_a_reason_beyond_all_measure_is_cut() -> None:
    frame = answer_bytes(Answer(Outcome.FAILED, 0, "x" * 100_000))
    assert len(frame) == ANSWER_SIZE + read_answer(frame[:ANSWER_SIZE])[1] == ANSWER_SIZE + 2**16 - 1


@pytest.mark.parametrize("frame", [b"\x07" + bytes(6), write_bytes(Write(Kind.PUT, "k", b""))[:-1] + b"\xff"])
def test_what_is_no_write_is_refused(frame: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Writes().receive(frame)


def test_a_key_beyond_all_measure_is_no_write() -> None:
    with pytest.raises(ValueError, match="too long"):
        write_bytes(Write(Kind.PUT, "k" * 2**16, b""))
