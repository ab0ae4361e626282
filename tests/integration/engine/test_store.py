"""The engine's file: made by steps, from an older one too, and written by one thread that nothing stops."""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from flamewire import object_file
from flamewire.object_file import SCHEMA_VERSION
from localflame import EngineError, objects, rows
from localflame import store as store_module
from localflame.store import Store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "flame.db"


def insert(name: str) -> Callable[[sqlite3.Connection], None]:
    return lambda db: db.execute("INSERT INTO applications VALUES (?, x'', 0)", (name,)) and None


def test_readers_beside_the_engine_read_what_the_newest_step_makes() -> None:
    assert len(store_module._MIGRATIONS) == SCHEMA_VERSION


def names(store: Store) -> list[str]:
    return store.read_sync(lambda db: [name for (name,) in db.execute("SELECT name FROM applications ORDER BY name")])


def version(file: Path) -> int:
    with sqlite3.connect(file) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def with_a_step(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    monkeypatch.setattr(store_module, "_MIGRATIONS", (*store_module._MIGRATIONS, step))
    monkeypatch.setattr(store_module, "SCHEMA_VERSION", SCHEMA_VERSION + 1)


def test_an_older_file_is_brought_up_to_date_and_a_newer_one_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(file)
    store.submit(insert("kept")).result()
    store.close()
    assert version(file) == SCHEMA_VERSION
    with monkeypatch.context() as newer:
        with_a_step(newer, "ALTER TABLE applications ADD COLUMN note TEXT NOT NULL DEFAULT 'new';")
        store = Store(file)
        assert store.read_sync(lambda db: db.execute("SELECT name, note FROM applications").fetchall()) == [
            ("kept", "new")
        ]
        store.close()
    assert version(file) == SCHEMA_VERSION + 1
    with pytest.raises(EngineError, match="newer localflame"):
        Store(file)


def test_a_step_that_breaks_off_leaves_the_file_as_it_was(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(file).close()
    with monkeypatch.context() as newer:
        with_a_step(newer, "ALTER TABLE applications ADD COLUMN note TEXT; SELECT no_such_function();")
        with pytest.raises(EngineError, match="cannot be used"):
            Store(file)
    store = Store(file)
    store.submit(insert("an application of three columns")).result()
    store.close()


def test_a_write_that_nobody_waits_for_any_more_has_not_happened_and_the_next_ones_have(file: Path) -> None:
    store, go = Store(file), threading.Event()
    holding = store.submit(lambda _: go.wait(60))
    while store._queue.qsize():  # the writer is at it, and what comes now waits
        threading.Event().wait(0.001)
    cancelled, later = store.submit(insert("cancelled")), store.submit(insert("later"))
    assert cancelled.cancel()
    go.set()
    later.result(60)
    assert holding.result(60)
    assert names(store) == ["later"]
    store.close()


_SIZES = (30, 200, 900, 1500, 4000, 9000, 30000)


def say(store: Store, numbers: random.Random, turns: int, start: int = 0) -> None:
    """Turns of eight sessions, each full of what is said in it, as the engine and its cache write them."""

    def turn(db: sqlite3.Connection, number: int) -> None:
        session = f"s{numbers.randrange(8)}"
        said = f"<said in {session}>".encode()
        blobs = [said * (numbers.choice(_SIZES) // len(said) + 1) for _ in range(3)]
        key = f"app/{session}/log"
        if object_file.find_object(db, key) is None:
            objects.put_object(db, key, False, said)
        objects.patch_object(db, key, blobs[0])
        db.execute("INSERT INTO tasks VALUES (?, ?, 0, 0, NULL, 0, ?, NULL)", (session, number, blobs[1]))
        db.execute("UPDATE tasks SET output = ? WHERE session = ? AND id = ?", (blobs[2], session, number))

    for each in [store.submit(partial(turn, number=number)) for number in range(start, start + turns)]:
        each.result()


def delete(store: Store, session: str) -> None:
    store.submit(lambda db: objects.delete_objects(db, objects.Key.parse(f"app/{session}"))).result()
    store.submit(lambda db: rows.delete_session(db, session)).result()


def said_in(folder: Path) -> set[str]:
    """The sessions of which some file has something."""
    data = b"".join(file.read_bytes() for file in folder.iterdir())
    return {name.decode() for name in re.findall(rb"<said in (s\d)>", data)}


def wait_until_wiped(store: Store) -> None:
    deadline = time.monotonic() + 60
    while store.read_sync(lambda db: db.execute("PRAGMA application_id").fetchone()) != (0,):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_of_a_session_that_was_deleted_is_left_while_the_engine_runs(file: Path, seed: int) -> None:
    store = Store(file)
    say(store, random.Random(seed), 400)
    assert said_in(file.parent) == {f"s{number}" for number in range(8)}
    for session in ("s3", "s6"):
        delete(store, session)
    wait_until_wiped(store)
    assert said_in(file.parent) == {f"s{number}" for number in range(8) if number not in (3, 6)}
    store.close()


def test_what_an_engine_had_no_time_to_wipe_the_next_one_does(file: Path, tmp_path: Path) -> None:
    store = Store(file)
    say(store, random.Random(1), 200)
    holding = store.submit(lambda _: time.sleep(1))  # so that it is not quiet
    for session in ("s3", "s6"):
        delete(store, session)
    killed = tmp_path / "killed"
    shutil.copytree(file.parent, killed)
    assert {"s3", "s6"} <= said_in(killed), "it was wiped before it was killed"
    holding.result()
    store.close()
    store = Store(killed / file.name)
    wait_until_wiped(store)
    assert not {"s3", "s6"} & said_in(killed)
    store.close()


def test_a_file_that_takes_long_to_rewrite_is_wiped_when_it_is_closed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_REWRITTEN", 0)
    monkeypatch.setattr(store_module, "_WIPE_AGAIN", 0.1)
    store = Store(file)
    say(store, random.Random(2), 200)
    delete(store, "s3")
    reading = store._connect()
    reading.execute("BEGIN")
    reading.execute("SELECT count(*) FROM tasks").fetchall()
    say(store, random.Random(3), 3, start=200)  # goes on beside a reader that is in the way
    reading.close()
    for session in ("s3", "s6"):
        delete(store, session)
    store.close()
    assert not {"s3", "s6"} & said_in(file.parent)
