"""The index of a person's memory in a file of the node: what it spares a reader, and that it is only ever a cache."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flameagent.apis import MyContext
from flameagent.conversation import DamagedError, MissingError, context
from flameagent.memory import index_file, place
from flameagent.memory.index import IndexedTurn
from flameagent.memory.person import PersonMemory
from flameagent.memory.person_index import VERSION
from tests.support.memory_cache import MemoryCache

WORDS = ("cat", "Lisbon", "thunder", "bread", "里斯本的猫", "\ud800", "Café")


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = index_file.folder()
    assert folder is not None and tmp_path in folder.parents
    return folder


@pytest.fixture
def cache() -> MemoryCache:
    return MemoryCache()


@pytest.fixture
def key(cache: MemoryCache) -> str:
    return begun(cache)


def begun(cache: MemoryCache, user: str = "ada") -> str:
    return cache.put(place.prefix("app", user), context.write(MyContext(user=user))).key


def said(number: int, text: str = "", session: str = "A", at: int | None = None) -> IndexedTurn:
    when = 1_760_000_000_000 + number if at is None else at
    return IndexedTurn(session, number, f"t{number}", when, text or f"question {number}", f"answer {number}")


def fill(memory: PersonMemory, turns: int, start: int = 1) -> None:
    for number in range(start, start + turns):
        memory.add(said(number), {"city": f"city {number}"} if number % 10 == 0 else None)


def file_of(key: str) -> Path:
    path = index_file.path_of(key, VERSION)
    assert path is not None
    return path


def answers(memory: PersonMemory) -> tuple[object, ...]:
    """Everything that a memory says."""
    found = [memory.search(word, 5) for word in (*WORDS, "question 3", "2025-10-09")]
    shared = [memory.search(word, 5, share=0.5, without={"t2"}) for word in WORDS]
    sessions = [memory._of(session) for session in "AB"]
    return memory.turns(), memory.learned(), memory.verdicts(), memory.size, found, shared, sessions


def same(cache: MemoryCache, key: str, *memories: PersonMemory) -> None:
    whole = answers(PersonMemory(cache, key, in_file=False))
    for memory in (*memories, PersonMemory(cache, key)):
        assert answers(memory) == whole


def test_a_new_reader_reads_only_what_is_newer_than_the_file(cache: MemoryCache, key: str) -> None:
    memory = PersonMemory(cache, key)
    fill(memory, 600)
    memory.turns()
    fill(memory, 3, start=601)
    cache.reads.clear()
    reader = PersonMemory(cache, key)
    assert reader.size == 0 and [turn.number for turn in reader.turns()] == list(range(1, 604))
    assert [rows for _, _, rows in cache.reads] == [4], "the row that was known, and three"
    assert reader.size == 603 and reader.knows("t1") and reader.knows("t603") and not reader.knows("t604")
    same(cache, key, reader, memory)


def test_a_new_reader_follows_the_segments_after_the_files(cache: MemoryCache, key: str) -> None:
    memory = PersonMemory(cache, key, in_file=False)
    fill(memory, 300)
    PersonMemory(cache, key).turns()
    fill(memory, 600, start=301)
    cache.reads.clear()
    reader = PersonMemory(cache, key)
    assert len(reader.turns()) == 900
    assert sum(rows for _, _, rows in cache.reads) < 620, "not what is in the file already"
    same(cache, key, reader, memory)


def test_the_file_is_the_users_alone(cache: MemoryCache, key: str, caches: Path) -> None:
    caches.mkdir(parents=True, mode=0o777)
    caches.chmod(0o777)
    PersonMemory(cache, key).add(said(1))
    assert stat.S_IMODE(caches.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in caches.iterdir()} == {0o600}
    assert "ada" not in "".join(file.name for file in caches.iterdir())


def test_two_readers_of_one_file_see_what_the_other_has_added(cache: MemoryCache, key: str) -> None:
    one, other = PersonMemory(cache, key), PersonMemory(cache, key)
    for number in range(1, 40, 2):
        one.add(said(number), {"city": f"city {number}"})
        other.add(said(number + 1, session="B"), {"name": f"name {number}"})
        assert one.facts() == other.facts() and one.size == other.size == number + 1
    one.withdraw_session("B")
    assert len(other.turns()) == other.size == one.size == 20
    same(cache, key, one, other)


def _lose_tail(cache: MemoryCache, key: str) -> None:
    cache.lose_tail(key, 5)
    PersonMemory(cache, key, in_file=False).add(said(77, "another past"))


def _other_version(cache: MemoryCache, key: str) -> None:
    with sqlite3.connect(file_of(key)) as db:
        db.execute("UPDATE log SET boot = 'before'")


def _no_tables(cache: MemoryCache, key: str) -> None:
    with sqlite3.connect(file_of(key)) as db:
        db.execute("DROP TABLE facts")


def _no_mark(cache: MemoryCache, key: str) -> None:
    with sqlite3.connect(file_of(key)) as db:
        db.execute("UPDATE log SET mark = x'7b'")


@pytest.mark.parametrize(
    "harm",
    [
        _lose_tail,
        lambda cache, key: cache.lose_tail(key, 30),
        _other_version,
        _no_tables,
        _no_mark,
        lambda cache, key: file_of(key).write_bytes(b"no database" * 1000),
        lambda cache, key: file_of(key).write_bytes(b""),
        lambda cache, key: file_of(key).write_bytes(file_of(key).read_bytes()[:20_000]),
        lambda cache, key: file_of(key).unlink(),
    ],
    ids=["another past", "lost tail", "another boot", "half made", "no mark", "no file", "empty", "cut", "gone"],
)
def test_a_file_that_does_not_fit_is_made_anew(
    cache: MemoryCache, key: str, harm: Callable[[MemoryCache, str], None]
) -> None:
    warm = PersonMemory(cache, key)
    fill(warm, 30)
    warm.turns()
    harm(cache, key)
    same(cache, key, PersonMemory(cache, key))
    same(cache, key, warm)
    cache.reads.clear()
    PersonMemory(cache, key).turns()
    assert sum(rows for _, _, rows in cache.reads) <= 1, "it is in a file again"


def test_whichever_page_of_a_file_is_damaged_it_is_made_anew(cache: MemoryCache, key: str) -> None:
    memory = PersonMemory(cache, key)
    fill(memory, 60)
    memory.turns()
    good, whole, chance = file_of(key).read_bytes(), answers(memory), random.Random(1)
    for page in range(0, len(good), 4096):
        there = good[page : page + 4096]
        for other in (bytes(4096), chance.randbytes(4096)):
            if not any(there):
                continue  # a page that nothing is in
            file_of(key).write_bytes(good[:page] + other + good[page + 4096 :])
            assert answers(PersonMemory(cache, key)) == whole


def _read_only(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("no folder")


def _somebody_elses(folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir(parents=True)
    folder.symlink_to(elsewhere)


@pytest.mark.parametrize("harm", [_read_only, _somebody_elses])
def test_without_a_folder_of_the_users_own_it_is_in_memory(
    cache: MemoryCache, key: str, caches: Path, harm: Callable[[Path], None]
) -> None:
    harm(caches)
    memory = PersonMemory(cache, key)
    fill(memory, 20)
    same(cache, key, memory)
    assert not caches.is_dir() or list(caches.iterdir()) == []


def test_without_a_home_it_is_in_memory(cache: MemoryCache, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: object, **__: object) -> str:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("platformdirs.user_cache_dir", nowhere)
    memory = PersonMemory(cache, key)
    fill(memory, 20)
    same(cache, key, memory)


def test_a_file_that_is_locked_for_long_is_done_without(
    cache: MemoryCache, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(PersonMemory(cache, key), 20)
    monkeypatch.setattr(index_file, "_PATIENCE", 0.05)
    other = sqlite3.connect(file_of(key), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    memory = PersonMemory(cache, key)
    assert memory.size == 0 and len(memory.turns()) == 20
    other.execute("ROLLBACK")
    same(cache, key, memory)


def test_nothing_of_what_was_erased_is_in_the_file(cache: MemoryCache, key: str, caches: Path) -> None:
    memory, other = PersonMemory(cache, key), PersonMemory(cache, key)
    for number in range(1, 300):
        memory.add(said(number, f"xylophone{number} in Lisbon"), {"secret": f"xylophone{number}"})
    assert other.search("xylophone7") and b"xylophone" in file_of(key).read_bytes()
    memory.erase()
    assert not any(b"xylophone" in file.read_bytes() for file in caches.iterdir())
    assert other.turns() == [] and other.facts() == []
    same(cache, key, memory, other)


def test_the_file_of_a_log_that_is_gone_goes_with_it(cache: MemoryCache, key: str, caches: Path) -> None:
    memory = PersonMemory(cache, key)
    memory.add(said(1))
    cache.delete(place.prefix("app", "ada"))
    with pytest.raises(MissingError):
        memory.turns()
    assert list(caches.iterdir()) == []


def test_who_opens_an_index_sweeps_those_beside_it(cache: MemoryCache, caches: Path) -> None:
    keys = [begun(cache, user) for user in ("ada", "bob", "cleo", "dan")]
    for key in keys:
        PersonMemory(cache, key).add(said(1))
    cache.delete(place.prefix("app", "bob"))
    os.utime(file_of(keys[2]), (time.time() - 40 * 86_400,) * 2)
    (caches / "something else").touch()
    for _ in range(30):
        PersonMemory(cache, keys[0]).turns()
    there = {file.name.partition("-v")[0] for file in caches.iterdir()}
    assert there == {index_file._name(keys[0]), index_file._name(keys[3]), "something else"}


def test_a_damaged_log_is_told_whatever_the_file_has(cache: MemoryCache, key: str) -> None:
    memory = PersonMemory(cache, key)
    fill(memory, 5)
    memory.turns()
    cache.patch(key, b"no record")
    for reader in (memory, PersonMemory(cache, key), memory):
        with pytest.raises(DamagedError):
            reader.turns()
    cache.lose_tail(key, 1)
    same(cache, key, memory)


_STEPS = st.one_of(
    st.tuples(
        st.just("add"), st.sampled_from(["A", "B"]), st.sampled_from(WORDS), st.sampled_from(["", "city", "x"])
    ),
    st.tuples(st.just("withdraw"), st.integers(1, 12)),
    st.tuples(st.just("withdraw session"), st.sampled_from(["A", "B"])),
    st.tuples(st.just("forget"), st.sampled_from(["city", "x", ""])),
    st.tuples(st.just("erase")),
    st.tuples(st.just("reopen")),
    st.tuples(st.just("lose tail"), st.integers(1, 3)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.booleans(), _STEPS), max_size=25))
def test_whatever_happens_the_file_says_what_an_index_of_the_whole_log_does(
    steps: list[tuple[bool, tuple[object, ...]]],
) -> None:
    cache = MemoryCache()
    key = begun(cache)
    memories = [PersonMemory(cache, key), PersonMemory(cache, key)]
    for number, (first, (step, *values)) in enumerate(steps, 1):
        memory = memories[not first]
        match step, values:
            case "add", [session, text, fact]:
                changed = {str(fact): None if number % 5 == 0 else f"value {number}"} if fact else {}
                memory.add(said(number, f"{text} {number}", str(session), at=2**42 + number % 7), changed)
            case "withdraw", [turn]:
                memory.withdraw("A", {f"t{turn}"})
            case "withdraw session", [session]:
                memory.withdraw_session(str(session))
            case "forget", [fact]:
                memory.forget(str(fact))
            case "erase", _:
                memory.erase()
            case "lose tail", [count]:
                patches = len(cache.objects[key].patches)
                cache.lose_tail(key, min(int(str(count)), patches)) if patches else None
            case _:
                memories[not first] = PersonMemory(cache, key)
        if number % 3 == 0:
            same(cache, key, *memories)
    same(cache, key, *memories)
