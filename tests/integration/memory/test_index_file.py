"""The index of a person's memory in its file, with several processes and a real cache: it agrees with the log."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from flameagent.apis import MyContext
from flameagent.conversation import context
from flameagent.flame.cache import ObjectCache
from flameagent.memory import index_file, place
from flameagent.memory.index import IndexedTurn
from flameagent.memory.person import PersonMemory
from localflame import Engine


class Person:
    """Somebody of whom processes remember, and the folder in which these have their index."""

    def __init__(self, engine: Engine, cache: ObjectCache, folder: Path) -> None:
        self.folder = folder
        self._engine, self._cache = engine, cache
        user = uuid.uuid4().hex
        self.key = cache.put(place.prefix("app", user), context.write(MyContext(user=user))).key

    def process(self, name: str, turns: int, limit: int = 0, **environment: str) -> subprocess.Popen[str]:
        """Begin a process that remembers turns; with a `limit` it can write no file that is longer."""
        command = [sys.executable, "-m", "tests.integration.memory.worker"]

        return subprocess.Popen(
            [*command, self._engine.cache_endpoint, self.key, name, str(turns)],
            env={**os.environ, "LONGEST_FILE": str(limit), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def memory(self) -> PersonMemory:
        return PersonMemory(self._cache, self.key)

    def agrees(self) -> list[IndexedTurn]:
        """The turns, as the file has them and as the log does."""
        mine, whole = self.memory, PersonMemory(self._cache, self.key, in_file=False)
        for ask in (
            lambda memory: memory.learned(),
            lambda memory: memory.verdicts(),
            lambda memory: memory.search("said by one", 20),
            lambda memory: memory.search("heard", 20, share=0.5),
        ):
            while True:
                found, expected = ask(mine), ask(whole)
                if ask(mine) == found:
                    break  # else what a killed process had sent has come in between
            assert found == expected
        return mine.turns()


@pytest.fixture
def person(engine: Engine, cache: ObjectCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Person:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = index_file.folder()
    assert folder is not None
    return Person(engine, cache, folder)


def ended(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, "begun\ndone\n"), err


def test_processes_at_once_share_a_file_that_agrees_with_the_log(person: Person) -> None:
    for process in [person.process(name, 40) for name in ("one", "two", "three")]:
        ended(process)
    assert {turn.session for turn in person.agrees()} == {"one", "two", "three"}
    assert len([file for file in person.folder.iterdir() if file.suffix == ".db"]) == 1


def test_who_is_killed_in_the_middle_of_an_update_leaves_what_was_there(person: Person, tmp_path: Path) -> None:
    points = tmp_path / "points"
    points.mkdir()
    ended(person.process("before", 5))
    (points / "memory: indexed").touch()
    killed = person.process("killed", 10, FAILPOINTS=str(points))
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL and not list(points.iterdir())
    assert any(turn.session == "killed" for turn in person.agrees()), "it is in the log, and now in the file"


def test_whenever_processes_are_killed_the_file_agrees_with_the_log(person: Person) -> None:
    chance = random.Random(1)
    for attempt in range(8):
        processes = [person.process(f"{name}{attempt}", 1000) for name in ("one", "two")]
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "begun\n"
        time.sleep(chance.random() * 0.4)
        for process in processes:
            process.kill()
            process.communicate()
        person.agrees()


def test_on_a_full_disk_it_goes_on_in_memory(person: Person) -> None:
    ended(person.process("before", 20))
    ended(person.process("full", 20, limit=4096))
    assert {turn.session for turn in person.agrees()} == {"before", "full"}
