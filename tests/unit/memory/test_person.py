"""What is remembered of a person: each turn once, with its facts, and gone with what it came from."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flameagent.apis import MyContext
from flameagent.conversation import context
from flameagent.memory import place
from flameagent.memory.index import IndexedTurn
from flameagent.memory.person import PersonMemory
from tests.support.memory_cache import MemoryCache

CITY = "My name is Ada and I live in Lisbon."


@pytest.fixture
def cache() -> MemoryCache:
    return MemoryCache()


@pytest.fixture
def key(cache: MemoryCache) -> str:
    return cache.put(place.prefix("app", "ada"), context.write(MyContext(user="ada"))).key


def said(turn: str, question: str, session: str = "A", number: int = 1, at: int | None = None) -> IndexedTurn:
    return IndexedTurn(session, number, turn, int(turn[1:]) * 1000 if at is None else at, question, f"answer {turn}")


def test_a_turn_is_remembered_once_and_found_by_another_reader(cache: MemoryCache, key: str) -> None:
    memory = PersonMemory(cache, key)
    assert memory.add(said("t1", CITY), {"city": "Lisbon"})
    assert not memory.add(said("t1", CITY), {"city": "Lisbon"})
    assert memory.knows("t1") and not memory.knows("t2")
    ((found, _),) = PersonMemory(cache, key).search("Lisbon")
    assert found == said("t1", CITY)
    assert memory.search("Lisbon", without={"t1"}) == []


def test_a_fact_takes_the_place_of_the_one_before_and_keeps_it(cache: MemoryCache, key: str) -> None:
    memory = PersonMemory(cache, key)
    memory.add(said("t1", CITY), {"city": "Lisbon", "name": "Ada"})
    memory.add(said("t3", "I moved to Porto.", "B"), {"city": "Porto"})
    memory.add(said("t2", "I moved to Faro.", "A", 2), {"city": "Faro"})  # made up for later
    name, city = PersonMemory(cache, key).facts()
    assert (name.key, name.value, name.session) == ("name", "Ada", "A")
    assert (city.value, city.session, [fact.value for fact in city.superseded]) == ("Porto", "B", ["Faro", "Lisbon"])
    memory.add(said("t4", "Forget where I live."), {"city": None})
    assert [fact.key for fact in memory.facts()] == ["name"]
    assert memory.verdicts()["city"] is None, "forgotten is another thing than never said"


def test_what_has_little_of_a_question_is_left_out_on_demand(cache: MemoryCache, key: str) -> None:
    memory = PersonMemory(cache, key)
    memory.add(said("t1", "My cat Mimi is afraid of thunder."))
    memory.add(said("t2", "What will the weather be tomorrow?", "B"))
    memory.add(said("t3", "我住在里斯本,养了一只猫。", "C"))

    def found(question: str) -> set[str]:
        return {turn.turn for turn, _ in memory.search(question, share=0.25)}

    assert found("What is Mimi afraid of?") == {"t1"}
    assert found("我住在里斯本的哪里?") == {"t3"}
    assert found("Which weather does Ada in Lisbon like to paint?") == set()
    assert [turn.turn for turn, _ in memory.search("Which weather does Ada in Lisbon like?")] == ["t2"]


def test_what_was_taken_back_is_gone_with_its_facts_and_does_not_come_back(cache: MemoryCache, key: str) -> None:
    memory = PersonMemory(cache, key)
    memory.add(said("t1", CITY), {"city": "Lisbon"})
    memory.add(said("t2", "I moved to Porto.", "B"), {"city": "Porto"})
    assert memory.withdraw("B", {"t2"}) == 1
    assert [fact.value for fact in memory.facts()] == ["Lisbon"]
    assert [turn.turn for turn, _ in memory.search("Porto moved Lisbon")] == ["t1"]
    assert not memory.add(said("t2", "I moved to Porto.", "B"), {"city": "Porto"})
    assert memory.withdraw_session("A") == 1
    assert memory.turns() == PersonMemory(cache, key).turns() == []
    newest = cache.objects[key].patches[-1]
    assert memory.withdraw("B", {"t2"}) == 0 and cache.objects[key].patches[-1] == newest, "that was known"


def test_what_was_taken_back_before_it_was_remembered_does_not_come_any_more(cache: MemoryCache, key: str) -> None:
    memory = PersonMemory(cache, key)
    assert memory.withdraw("A", {"t1"}) == 0
    assert memory.knows("t1") and not PersonMemory(cache, key).add(said("t1", CITY), {"city": "Lisbon"})
    assert memory.turns() == [] and memory.facts() == []


def test_a_session_takes_back_only_what_was_asked_in_it(cache: MemoryCache, key: str) -> None:
    memory = PersonMemory(cache, key)
    memory.add(said("t1", CITY), {"city": "Lisbon"})
    assert memory.withdraw("copy of A", {"t1"}) == memory.withdraw_session("copy of A") == 0
    assert [turn.turn for turn in memory.turns()] == ["t1"]


def test_who_adds_beside_a_change_decides_anew(cache: MemoryCache, key: str) -> None:
    one, other = PersonMemory(cache, key), PersonMemory(cache, key)
    one.add(said("t1", CITY))
    changes: list[Callable[[], object]] = [lambda: other.erase(), lambda: other.withdraw("A", {"t3"})]

    def beside(call: str) -> None:
        if call == "patch":
            cache.on_call = lambda call: None
            changes.pop(0)()

    for turn in (said("t2", "before it was erased"), said("t3", "taken back", at=2**42)):
        cache.on_call = beside
        assert not one.add(turn), "after it has looked, and before it adds"
    assert changes == [] and one.turns() == []


def test_a_fact_is_forgotten_with_its_history_and_the_turns_stay(cache: MemoryCache, key: str) -> None:
    memory = PersonMemory(cache, key)
    memory.add(said("t1", CITY), {"city": "Lisbon", "name": "Ada"})
    memory.add(said("t2", "I moved to Porto.", "B"), {"city": "Porto"})
    assert memory.forget("city") and not memory.forget("city")
    for reader in (memory, PersonMemory(cache, key)):
        assert [fact.key for fact in reader.facts()] == ["name"]
        assert [(turn.turn, facts) for turn, facts in reader.learned()] == [("t1", {"name": "Ada"}), ("t2", {})]
    memory.add(said("t3", "I live in Faro.", "B", 2), {"city": "Faro"})
    assert [(fact.value, fact.superseded) for fact in memory.facts()][1] == ("Faro", [])


def test_what_was_erased_is_remembered_where_somebody_wants_it_again(cache: MemoryCache, key: str) -> None:
    memory = PersonMemory(cache, key)
    memory.erase()
    assert not memory.add(said("t1", CITY), {"city": "Lisbon"})
    assert memory.add(said("t1", CITY), {"city": "Lisbon"}, again=True)
    assert not memory.add(said("t1", CITY), {"city": "Lisbon"}, again=True)
    assert not PersonMemory(cache, key).add(said("t1", CITY), {"city": "Lisbon"}, again=True)
    assert [fact.value for fact in memory.facts()] == ["Lisbon"]


def test_nothing_from_before_it_was_erased_is_remembered_again(cache: MemoryCache, key: str) -> None:
    memory = PersonMemory(cache, key)
    memory.add(said("t1", CITY), {"city": "Lisbon"})
    memory.erase()
    assert memory.turns() == [] and memory.facts() == []
    assert not memory.add(said("t2", "I moved to Porto."), {"city": "Porto"})
    assert memory.add(said("t3", "I live in Faro.", at=2**42), {"city": "Faro"})
    assert [fact.value for fact in PersonMemory(cache, key).facts()] == ["Faro"]


def test_two_sessions_of_a_person_lose_nothing(cache: MemoryCache, key: str) -> None:
    one, other = PersonMemory(cache, key), PersonMemory(cache, key)
    for number in range(1, 20, 2):
        assert one.add(said(f"t{number}", "one"))
        assert other.add(said(f"t{number + 1}", "other", "B"))
    assert [turn.turn for turn in one.turns()] == [f"t{number}" for number in range(1, 21)]


def test_a_persons_place_is_theirs_alone() -> None:
    assert place.is_of(f"{place.prefix('app', 'ada')}/x", "app", "ada")
    assert not place.is_of(f"{place.prefix('app', 'ada')}/x", "app", "bob")
    assert not place.is_of(f"{place.prefix('app', '')}/x", "app", "")
    other = place.prefix("app", "bob").removeprefix("app/")
    for crafted in (f"../{other}/x", f"x/../../{other}/x", "..", ".", "", f"x/{other}"):
        assert not place.is_of(f"{place.prefix('app', 'ada')}/{crafted}", "app", "ada")


@pytest.mark.parametrize(
    "user", ["Žofie 佐藤 😀", "../../bob/x", "a" * 100_000, "\ud800", "a\x00b", "memory-", "%2e%2e"]
)
def test_a_user_of_any_name_has_a_place_that_is_a_plain_key(user: str) -> None:
    assert place.prefix("app", user).removeprefix("app/").replace("-", "").isalnum()
    assert len(place.session_id("app", user)) == len(place.session_id("app", "ada"))
    assert place.is_of(f"{place.prefix('app', user)}/x", "app", user)
    assert place.prefix("app", user) != place.prefix("app", f"{user} ")
    assert place.session_id("a", "b") != place.session_id("ab", "")
    assert "ada" not in place.prefix("app", "ada")
