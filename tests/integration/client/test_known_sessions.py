"""The file of what lists have told: it is only a cache, and whatever is wrong with it, a list is right."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from flameagent.client.known_sessions import Known, KnownSessions
from tests.integration.client.conftest import WAYS, Sessions
from tests.integration.client.test_lists import turn

pytestmark = pytest.mark.parametrize("sessions", [WAYS[0]], ids=[WAYS[0][0]], indirect=True)


def _overwrite(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _scramble(path: Path) -> None:
    """Pages that SQLite finds damaged when it comes to them; the first is whole."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))


def _another_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.executescript("DROP TABLE sessions; CREATE TABLE sessions (session TEXT);")


def _other_values(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.executescript("UPDATE sessions SET info = 7, digest = 'text', created = x'00';")


def _no_json(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.executescript("UPDATE sessions SET info = x'7b7d';")


def _another_engine(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.executescript("UPDATE of SET engine = 'http://elsewhere:8080'; UPDATE sessions SET info = x'7b7d';")


def _replace_by(content: bytes) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        path.write_bytes(content)

    return replace


WRONG: dict[str, Callable[[Path], None]] = {
    "overwritten": _overwrite,
    "cut": _cut,
    "scrambled": _scramble,
    "empty": _replace_by(b""),
    "a text": _replace_by(b"not a database, but longer than a page\n" * 200),
    "another table": _another_table,
    "other values": _other_values,
    "no JSON": _no_json,
    "another engine's": _another_engine,
    "removed": Path.unlink,
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_file_that_is_not_what_was_written_is_made_anew(sessions: Sessions, wrong: str) -> None:
    for number in range(30):
        sessions.make(f"n{number:02}").append(turn(1, f"question {number} " * 20))
    found = sessions.listed()
    WRONG[wrong](sessions.files[0])
    assert sessions.listed() == found and len(sessions.read) == 30
    sessions.listed()  # one that was found damaged while it was written has gone with that
    assert sessions.listed() == found and sessions.read == []


def _unusable(folder: Path) -> dict[str, Callable[[], object]]:
    mine = folder / "flame-openai-agent"
    return {
        "a file in the folder's place": lambda: mine.write_text("here"),
        "a folder that leads elsewhere": lambda: (mine.mkdir(), (mine / "sessions").symlink_to(folder)),
        "a folder that cannot be": lambda: (shutil.rmtree(mine, ignore_errors=True), folder.joinpath("no").touch()),
        "a folder in the file's place": lambda: None,
    }


@pytest.mark.parametrize("wrong", _unusable(Path()))
def test_without_a_file_all_is_read(sessions: Sessions, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if wrong == "a folder that cannot be":
        monkeypatch.setenv("XDG_CACHE_HOME", str(sessions.folder / "no" / "cache"))
    sessions.make("one").append(turn(1))
    if wrong == "a folder in the file's place":
        sessions.listed()
        (path,) = [path for path in sessions.files if path.suffix == ".db"]
        path.unlink()
        path.mkdir()
    else:
        _unusable(sessions.folder)[wrong]()
    for _ in range(2):
        assert sessions.listed()["one"].turns == 1 and sessions.read == ["one"]
    sessions.client.delete_session(f"{sessions.name}-one")
    assert sessions.listed() == {}


def test_a_file_that_another_writes_is_done_without(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions.make("one").append(turn(1))
    sessions.listed()
    sessions.make("two").append(turn(1))
    monkeypatch.setattr("flameagent.memory.index_file._PATIENCE", 0.05)
    with closing(sqlite3.connect(sessions.files[0], isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert sessions.listed().keys() == {"one", "two"}
    assert sessions.listed().keys() == {"one", "two"} and sessions.read == ["two"]


def test_the_file_is_the_user_s_alone(sessions: Sessions) -> None:
    sessions.make("one")
    sessions.listed()
    path = sessions.files[0]
    path.parent.chmod(0o755)
    path.chmod(0o644)
    sessions.listed()
    assert sessions.read == []
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (path.parent, *sessions.files)]
    assert modes == [0o700, *[0o600] * len(sessions.files)]


def test_a_file_that_nobody_uses_goes(sessions: Sessions) -> None:
    with KnownSessions("another engine", "agent"):
        pass
    (old,) = [path for path in sessions.files if path.suffix == ".db"]
    os.utime(old, (1, time.time() - 31 * 86_400))
    with KnownSessions("an engine that is used", "agent"):
        pass
    assert old not in sessions.files and sessions.files


POINTS = ("known sessions: kept", "known sessions: forgotten")


@pytest.mark.parametrize("point", POINTS)
def test_a_process_that_is_killed_leaves_a_right_list(sessions: Sessions, point: str) -> None:
    points = sessions.folder / "points"
    points.mkdir()

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.integration.client.worker", str(sessions.home), sessions.name, *more]
        environment = {**os.environ, "FAILPOINTS": str(points)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    for number in range(30):
        sessions.make(f"n{number:02}").append(turn(1, f"the secret of n{number:02} " * 20))
    if point == POINTS[1]:
        assert run().returncode == 0
        (points / point).touch()
        assert run(f"{sessions.name}-n07").returncode == -signal.SIGKILL
        assert run(f"{sessions.name}-n07").returncode == 0
        assert b"the secret of n07" not in sessions.bytes_kept()
    else:
        (points / point).touch()
        assert run().returncode == -signal.SIGKILL
    assert not (points / point).exists()
    ended = run()
    assert ended.returncode == 0, ended.stderr
    assert len(sessions.agrees()) == (29 if point == POINTS[1] else 30)


def test_what_was_forgotten_when_a_process_was_killed_is_wiped_by_the_next(sessions: Sessions) -> None:
    rows = [Known(f"s{n:03}", n, b"", f"secret {n:03} ".encode() * 30, "", 0, "", 0, 0, 0, b"") for n in range(200)]
    with KnownSessions("engine", "agent") as known:
        known.keep(rows)
    (path,) = [path for path in sessions.files if path.suffix == ".db"]
    gone = rows[::2]
    with closing(sqlite3.connect(path)) as killed, killed:  # as `forget` does, without what comes after the commit
        killed.execute("PRAGMA secure_delete = OFF")
        killed.executemany("DELETE FROM sessions WHERE session = ?", [(row.session,) for row in gone])
        killed.execute("UPDATE of SET unwiped = unwiped + 1")
    assert b"secret 000" in path.read_bytes()
    with KnownSessions("engine", "agent") as known:
        assert sorted(known.read([row.session for row in rows])) == [row.session for row in rows[1::2]]
    assert all(row.info[:10] not in sessions.bytes_kept() for row in gone)


def test_an_engine_s_file_of_another_version_is_not_read(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions.make("one").append(turn(1))
    monkeypatch.setattr("flamewire.object_file.SCHEMA_VERSION", 99)
    monkeypatch.setattr("localflame.offline.File.sessions", None)  # it would be used
    assert sessions.listed()["one"].turns == 1 and sessions.listed() and sessions.read == []


def test_a_copied_file_of_the_same_engine_is_as_good(sessions: Sessions) -> None:
    log = sessions.make("one")
    log.append(turn(1))
    sessions.listed()
    path = sessions.files[0]
    shutil.copy(path, sessions.folder / "old")
    log.append(turn(2))
    assert sessions.listed()["one"].turns == 2
    shutil.copy(sessions.folder / "old", path)
    assert sessions.agrees()["one"].turns == 2 and sessions.read == ["one"]
