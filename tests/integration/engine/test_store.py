"""The engine's file: made by steps, from an older one too, and written by one thread that nothing stops."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from localflame import EngineError
from localflame import store as store_module
from localflame.store import SCHEMA_VERSION, Store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "flame.db"


def insert(name: str) -> Callable[[sqlite3.Connection], None]:
    return lambda db: db.execute("INSERT INTO applications VALUES (?, x'', 0)", (name,)) and None


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
