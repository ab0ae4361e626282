"""Turns found by words: which ones, in which order, and whatever is asked."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.memory import LANGUAGES, made, recall
from flameagent.memory.index import IndexedTurn, TurnIndex
from flameagent.memory.query import pieces, words

DAY = 86_400_000


def turn(number: int, question: str, answer: str = "", session: str = "s", at: int | None = None) -> IndexedTurn:
    return IndexedTurn(session, number, f"t{number}", number * DAY if at is None else at, question, answer)


def index(*turns: IndexedTurn) -> TurnIndex:
    made = TurnIndex()
    made.add(turns)
    return made


def numbers(found: TurnIndex, question: str, limit: int = 10) -> list[int]:
    return [turn.number for turn, _ in found.search(question, limit)]


TALK = (
    turn(1, "My cat is called Mimi.", "What a nice name."),
    turn(2, "She is afraid of thunder.", "Poor thing."),
    turn(3, "How do I bake bread?", "Flour, water, salt and time."),
    turn(4, "And without yeast?", "Use a sourdough."),
)


def test_a_turn_is_found_by_its_words_whatever_their_form() -> None:
    assert numbers(index(*TALK), "baking breads")[0] == 3
    assert numbers(index(*TALK), "MIMI")[0] == 1
    assert numbers(index(turn(1, "Das Café in Köln")), "cafe koln") == [1]


def test_a_turn_is_found_by_what_stands_beside_it() -> None:
    assert set(numbers(index(*TALK), "What is Mimi afraid of?")[:2]) == {1, 2}
    assert 2 in numbers(index(*TALK), "Mimi")


def test_what_stands_beside_it_in_another_session_does_not_count() -> None:
    apart = index(TALK[0], turn(2, "She is afraid of thunder.", session="other"))
    assert numbers(apart, "Mimi") == [1]


def test_a_turn_is_found_by_its_day() -> None:
    found = index(turn(1, "one", at=1_760_000_000_000), turn(2, "two", at=1_762_000_000_000))
    assert numbers(found, "what was on 9 October 2025?")[0] == 1
    assert numbers(found, "2025-11-01")[0] == 2


def test_an_index_that_grew_turn_by_turn_finds_what_one_made_at_once_does() -> None:
    case = made(LANGUAGES[0], 60)
    at_once, grown = index(*case.turns), TurnIndex()
    for each in case.turns:
        grown.add([each])
    assert len(grown) == 60 and grown.last == case.turns[-1]
    for question, _ in case.questions:
        assert grown.search(question) == at_once.search(question)


@pytest.mark.parametrize(
    ("question", "found"),
    [("名古屋に引っ越したのはいつですか", 1), ("猫", 2), ("แมว", 3), ("ชอบกินปลา", 3), ("北京", 4)],
)
def test_text_without_spaces_is_found(question: str, found: int) -> None:
    talk = index(
        turn(1, "先週、名古屋に引っ越しました。"),
        turn(2, "うちの猫はミミです。"),
        turn(3, "แมวของฉันชอบกินปลา"),
        turn(4, "我去年在北京工作。"),
    )
    assert numbers(talk, question)[0] == found


def test_a_question_in_two_scripts_finds_by_both() -> None:
    talk = index(turn(1, "東京タワーに行きました"), turn(2, "I went to the Tower."), turn(3, "nothing"))
    assert set(numbers(talk, "東京タワー Tower")) >= {1, 2}


def test_common_words_count_where_there_are_no_others() -> None:
    assert words("What did you do?") == ["what", "did", "you", "do"]
    assert words("What did Ada do with the Cat, the cat?") == ["ada", "cat"]
    assert pieces("引っ越し 猫") == (["引っ越", "っ越し"], ["猫"])


@pytest.mark.parametrize("question", ["", "   ", "?!", '"', "'", "NEAR(a b)", "a* OR -b", "own:x", "\x00", "😀"])
def test_whatever_is_asked_is_only_words(question: str) -> None:
    assert isinstance(numbers(index(*TALK), question), list)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200), st.lists(st.text(max_size=50), max_size=6))
def test_any_text_can_be_said_and_asked(question: str, said: list[str]) -> None:
    found = TurnIndex()
    for number, text in enumerate(said, 1):
        found.add([turn(number, text.encode("utf-8", "replace").decode(), "an answer")])
    hits = found.search(question.encode("utf-8", "replace").decode(), 3)
    assert len(hits) <= 3 and all(score >= 0 for _, score in hits)


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.name)
def test_what_was_told_once_in_a_thousand_turns_is_among_the_first_ten(language: object) -> None:
    assert recall(made(language, 1000)) >= 0.9  # type: ignore[arg-type]
