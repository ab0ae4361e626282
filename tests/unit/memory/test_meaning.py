"""Turns found by what they mean: their vectors in the log, and how these and the words make one ranking."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flameagent.apis import MyContext
from flameagent.conversation import Vectors, context
from flameagent.memory import place
from flameagent.memory.embeddings import EmbeddingsError
from flameagent.memory.index import IndexedTurn
from flameagent.memory.meaning import Meaning, Meant, fused, recorded, text_of
from flameagent.memory.person import PersonMemory
from flameagent.memory.person_index import PersonIndex
from tests.support.memory_cache import Fault, MemoryCache
from tests.support.model_server import meaning

MIMI = "Mimi is scared of thunder."


@pytest.fixture
def cache() -> MemoryCache:
    return MemoryCache()


@pytest.fixture
def key(cache: MemoryCache) -> str:
    return cache.put(place.prefix("app", "ada"), context.write(MyContext(user="ada"))).key


def said(turn: str, question: str, at: int | None = None) -> IndexedTurn:
    return IndexedTurn("A", 1, turn, int(turn[1:]) * 1000 if at is None else at, question, "I see.")


def embed(memory: PersonMemory, model: str = "m", vector: Callable[[str], list[float]] = meaning) -> list[str]:
    """Have the vectors made that are missing; of which turns."""
    turns = memory.lacking(model, 100)
    if turns:
        memory.add_vectors(recorded(model, [turn.turn for turn in turns], [vector(text_of(turn)) for turn in turns]))
    return [turn.turn for turn in turns]


def found(memory: PersonMemory, question: str, share: float = 0.0, without: set[str] | None = None) -> list[str]:
    hits = memory.search_by_meaning(question, "m", meaning(question), share=share, without=without or set())
    return [turn.turn for turn, _ in hits]


def filled(memory: PersonMemory) -> None:
    memory.add(said("t1", MIMI))
    for number in range(2, 20):
        memory.add(said(f"t{number}", f"Tell me about number {number}."))


def test_a_question_without_a_common_word_finds_its_turn(cache: MemoryCache, key: str) -> None:
    memory = PersonMemory(cache, key)
    filled(memory)
    assert embed(memory) == [f"t{number}" for number in range(1, 20)]
    question = "Which pet fears storm?"
    assert memory.search(question) == []
    for reader in (memory, PersonMemory(cache, key)):
        assert found(reader, question)[0] == "t1"
        assert found(reader, question, share=0.25) == ["t1"], "the only one that stands out"
        assert "t1" not in found(reader, question, without={"t1"})
        assert found(reader, "number 7", share=0.25)[0] == "t7", "words count as before"
    assert [score > 0 for _, score in memory.search_by_meaning(question, "m", meaning(question), 3)] == [True] * 3


def test_each_turn_is_given_to_a_model_once_and_again_to_another_model(cache: MemoryCache, key: str) -> None:
    memory = PersonMemory(cache, key)
    memory.add(said("t1", MIMI))
    assert not memory.has_vectors("m") and embed(memory) == ["t1"] and memory.has_vectors("m")
    memory.add(said("t2", "I live in Lisbon."))
    assert embed(PersonMemory(cache, key)) == ["t2"]
    assert embed(memory) == embed(PersonMemory(cache, key)) == []
    assert not memory.has_vectors("other") and embed(memory, "other") == ["t1", "t2"]
    assert found(memory, "pet storm")[0] == "t1", "the vectors of the model before are still there"
    assert not memory.add_vectors(recorded("m", ["t1"], [meaning("late")])), "somebody was first"


def test_a_model_whose_vectors_have_another_length_now_makes_them_anew(cache: MemoryCache, key: str) -> None:
    memory = PersonMemory(cache, key)
    memory.add(said("t1", MIMI))
    embed(memory, vector=lambda text: [1.0, 0.0, 0.0])
    with pytest.raises(EmbeddingsError, match="The vectors of m have 9 numbers now, and had 3: they are made anew"):
        found(memory, MIMI)
    memory.add(said("t2", "I live in Lisbon."))
    assert (embed(memory), embed(memory)) == (["t2"], ["t1"])
    assert found(memory, "pet storm")[0] == "t1"


def test_what_was_taken_back_is_not_found_by_its_meaning(cache: MemoryCache, key: str) -> None:
    memory = PersonMemory(cache, key)
    filled(memory)
    embed(memory)
    memory.withdraw("A", {"t1"})
    assert "t1" not in found(memory, "Which pet fears storm?") + found(PersonMemory(cache, key), MIMI)
    memory.erase()
    assert found_nothing(memory) and found_nothing(PersonMemory(cache, key))


def found_nothing(memory: PersonMemory) -> bool:
    return memory.turns() == [] and not memory.has_vectors("m") and memory.lacking("m", 10) == []


def test_vectors_of_what_was_taken_back_meanwhile_are_not_kept(cache: MemoryCache, key: str) -> None:
    one, other = PersonMemory(cache, key), PersonMemory(cache, key)
    filled(one)
    changes: list[Callable[[], object]] = [lambda: other.withdraw("A", {"t1"}), lambda: other.erase()]

    def beside(call: str) -> None:
        if call == "patch":
            cache.on_call = lambda call: None
            changes.pop(0)()

    vectors = recorded("m", ["t1", "t2"], [meaning("one"), meaning("two")])
    cache.on_call = beside
    assert one.add_vectors(vectors)
    assert one._log.conversation.vectors == [vectors.of({"t2"})]
    assert (len(vectors.of({"t2"}).data), vectors.of({"t2"}).turns) == (vectors.dimensions, ["t2"])
    cache.on_call = beside
    assert not one.add_vectors(recorded("m", ["t3"], [meaning("three")])) and changes == []
    assert found_nothing(PersonMemory(cache, key))


def test_who_adds_turns_beside_vectors_loses_none(cache: MemoryCache, key: str) -> None:
    one, other = PersonMemory(cache, key), PersonMemory(cache, key)
    for number in range(1, 12):
        assert one.add(said(f"t{number}", f"Number {number}"))
        embed(other)
    assert [turn.turn for turn in one.turns()] == [f"t{number}" for number in range(1, 12)]
    assert embed(one) == []


@pytest.mark.parametrize("fault", ["answer lost", "patch lost", "patch late"])
def test_a_record_of_vectors_is_there_once_whatever_becomes_of_its_append(
    cache: MemoryCache, key: str, fault: Fault
) -> None:
    memory = PersonMemory(cache, key)
    memory.add(said("t1", MIMI))
    cache.faults.append(fault)
    cache.late_by.append(1)
    assert memory.add_vectors(recorded("m", ["t1"], [meaning(MIMI)]))
    assert [each.turns for each in PersonMemory(cache, key)._log.load_all().vectors] == [["t1"]]


def test_a_turn_that_the_model_did_not_take_is_not_given_to_it_again_and_not_found(
    cache: MemoryCache, key: str
) -> None:
    memory = PersonMemory(cache, key)
    memory.add(said("t1", MIMI))
    memory.add(said("t2", "Mimi"))
    memory.add_vectors(recorded("m", ["t1", "t2"], [meaning(MIMI), None]))
    assert memory.lacking("m", 10) == []
    assert found(memory, "pet storm") == ["t1"]


def test_records_that_do_not_fit_are_passed_over(cache: MemoryCache, key: str) -> None:
    memory = PersonMemory(cache, key)
    memory.add(said("t1", MIMI))
    for wrong in (Vectors("m", 3, ["t1"], b"\x01"), Vectors("m", 1, ["t1", "t1"], b"\x01\x02")):
        assert not wrong.fits
        memory.add_vectors(wrong)
    assert [turn.turn for turn in memory.lacking("m", 10)] == ["t1"]


def test_one_of_few_turns_stands_out_only_where_it_is_much_more_alike() -> None:
    def out(*vectors: list[float]) -> list[bool]:
        index = PersonIndex("key", in_file=False)
        turns = [said(f"t{number}", "") for number in range(len(vectors))]
        index.searched.add(turns)
        index.vectors.add(recorded("m", [turn.turn for turn in turns], vectors))
        known = Meaning("m")
        known.follow(index.vectors)
        return [each.stands_out for each in known.ranked([1.0, 0.0], index.vectors, 10)]

    assert out([1.0, 0.0]) == [False], "there is nothing that it stands out of"
    assert out([1.0, 0.1], [0.2, 1.0]) == [True, False]
    assert out([1.0, 0.1], [1.0, 0.15]) == [False, False]


def test_the_two_rankings_are_one_in_which_words_count_more() -> None:
    a, b, c, d = (said(f"t{number}", "") for number in range(4))
    words = [(a, 9.0), (b, 8.0)]
    ranked = fused(words, [Meant(b, False), Meant(c, False), Meant(d, False)], 3)
    assert [turn for turn, _ in ranked] == [b, a, c]
    assert [turn for turn, _ in fused(words, [Meant(d, True), Meant(c, False)], 4)] == [a, d, b, c]
    assert fused([], [], 3) == []


def test_a_vector_is_a_byte_a_dimension_and_keeps_its_direction() -> None:
    record = recorded("m", ["t1"], [[0.5, -0.25, 0.0]])
    assert record == Vectors("m", 3, ["t1"], bytes([127, 256 - 64, 0]))
    assert recorded("m", ["t1"], [[1e-300, 1e-301]]).data == bytes([127, 13])
