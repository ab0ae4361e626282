"""Writes as frames: what the engine does with them, and with who sends something else."""

from __future__ import annotations

import contextlib
import resource
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flameagent.client.engine import Embedded
from flameagent.flame import Endpoints, Refused, Unclear, Unreachable
from flameagent.flame.cache import ObjectCache
from flameagent.flame.objects import row_of
from flamewire.write_frames import ANSWER_SIZE, Kind, Outcome, Write, read_answer, write_bytes
from localflame import find
from tests.integration.engine.client import eventually, find_pid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.engine.client import Client, Engines


@pytest.fixture
def connection(client: Client) -> Iterator[socket.socket]:
    with connect(client) as connection:
        yield connection


def connect(client: Client) -> socket.socket:
    engine = find(client.home)
    assert engine is not None
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    connection.connect(str(engine.writes_socket))
    return connection


def answer(connection: socket.socket) -> tuple[Outcome, int, str]:
    got, length = read_answer(connection.recv(ANSWER_SIZE, socket.MSG_WAITALL))
    return got.outcome, got.version, connection.recv(length, socket.MSG_WAITALL).decode() if length else ""


def ask(connection: socket.socket, kind: Kind, key: str, data: bytes = b"") -> tuple[Outcome, int, str]:
    connection.sendall(write_bytes(Write(kind, key, data)))
    return answer(connection)


def test_what_is_written_as_frames_is_read_by_flight(client: Client, connection: socket.socket) -> None:
    assert ask(connection, Kind.PUT, "writes/s/o", b"base") == (Outcome.DONE, 1, "")
    assert ask(connection, Kind.PATCH, "writes/s/o", b"more") == (Outcome.DONE, 2, "")
    assert client.get("writes/s/o") == [(1, "base", b"base"), (2, "patch", b"more")]
    assert ask(connection, Kind.DELETE, "writes/s")[:2] == (Outcome.DONE, 1)
    assert ask(connection, Kind.DELETE, "writes/s")[:2] == (Outcome.DONE, 0)
    assert ask(connection, Kind.PATCH, "writes/s/o", b"late") == (
        Outcome.NOT_FOUND,
        0,
        "object <writes/s/o> not found for patch",
    )


@pytest.mark.parametrize("kind", [Kind.PATCH, Kind.PUT, Kind.DELETE])
@pytest.mark.parametrize("key", ["", "a", "a//b", "a/../b", "a/b/c/d", "*/b/c"])
def test_a_key_that_is_none_is_refused_in_the_caches_words(
    client: Client, connection: socket.socket, kind: Kind, key: str
) -> None:
    outcome, _, why = ask(connection, kind, key, b"x")
    assert outcome is Outcome.REFUSED
    assert why.startswith(("Invalid", "Wildcard"))
    assert ask(connection, Kind.NOTHING, "") == (Outcome.DONE, 0, "")  # it goes on


def test_who_sends_something_else_is_left_and_others_are_served(client: Client, connection: socket.socket) -> None:
    for said in b"GET / HTTP/1.1\r\n\r\n", write_bytes(Write(Kind.PUT, "k", b""))[:-1] + b"\xff":
        with connect(client) as other, contextlib.suppress(ConnectionError):
            other.sendall(said)
            assert other.recv(1) == b""
    assert ask(connection, Kind.PUT, "writes/t/o", b"base")[0] is Outcome.DONE


def test_a_write_that_has_not_come_whole_has_not_happened(client: Client, connection: socket.socket) -> None:
    assert ask(connection, Kind.PUT, "writes/half/o", b"base")[0] is Outcome.DONE
    with connect(client) as other:
        other.sendall(write_bytes(Write(Kind.PATCH, "writes/half/o", b"x" * 1000))[:-1])
    assert ask(connection, Kind.PATCH, "writes/half/o", b"whole")[1] == 2
    assert client.get("writes/half/o") == [(1, "base", b"base"), (2, "patch", b"whole")]


def test_many_at_once_each_get_a_number_of_their_own(client: Client, connection: socket.socket) -> None:
    assert ask(connection, Kind.PUT, "writes/many/o", b"base")[0] is Outcome.DONE
    versions: list[int] = []

    def append(_: int) -> None:
        with connect(client) as own:
            versions.extend(ask(own, Kind.PATCH, "writes/many/o", b"x" * 50_000)[1] for _ in range(20))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(append, range(8)))
    assert sorted(versions) == list(range(2, 162))


def test_a_full_disk_fails_a_write_which_has_not_happened(engines: Engines) -> None:
    home = engines.home()
    client = engines.start(home)
    cache = ObjectCache(Embedded(home).reach())
    key = cache.put("app/session", b"base").key
    pid, size = find_pid(client), (home / "flame.db-wal").stat().st_size
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 8192, resource.RLIM_INFINITY))
    with pytest.raises(Unclear, match="could not be written"):
        cache.patch(key, b"x" * 100_000)
    with pytest.raises(Unreachable, match="could not be written"):
        cache.put("app/session", b"x" * 100_000)
    assert cache.get(key).patches == []
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert cache.patch(key, b"x" * 100_000) == 2


@pytest.mark.parametrize(("point", "added"), [("before", []), ("after", [(2, b"x")])])
def test_an_engine_that_is_killed_in_a_write_has_it_or_has_it_not(
    engines: Engines, tmp_path: Path, point: str, added: list[tuple[int, bytes]]
) -> None:
    home, points = engines.home(), tmp_path / "points"
    points.mkdir()
    engines.start(home, FAILPOINTS=str(points))
    cache = ObjectCache(Embedded(home).reach())
    key = cache.put("app/session", b"base").key
    (points / f"engine: {point} a commit").touch()
    for _ in range(2):  # killed, and nobody there
        with pytest.raises(Unclear, match="does not answer"):
            cache.patch(key, b"x")
    engines.start(home)
    assert ObjectCache(Embedded(home).reach()).get(key).patches == added


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what is loaded")
def test_arrow_is_loaded_for_who_comes_by_flight(engines: Engines) -> None:
    home = engines.home()
    client = engines.start(home)
    loaded = Path(f"/proc/{find_pid(client)}/maps")
    cache = ObjectCache(Embedded(home).reach())
    key = cache.put("app/session", b"base").key
    assert cache.patch(key, b"more") == 2
    with socket.socket(socket.AF_UNIX) as looks:  # whether somebody listens
        looks.connect(str(Embedded(home).reach().cache_socket))
    time.sleep(0.5)
    assert not any(name in loaded.read_text() for name in ("libarrow", "jsonschema", "rpds"))
    answers: list[object] = []

    def come(number: int) -> None:
        where = Endpoints("", client.cache_endpoint)
        answers.append(ObjectCache(where).get(key).patches)
        answers.append(ObjectCache(where).patch(key, b"%d" % number))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(come, range(8)))
    assert "libarrow" in loaded.read_text()
    assert sorted(each for each in answers if isinstance(each, int)) == list(range(3, 11))
    assert client.get(key)[:2] == [(1, "base", row_of(b"base")), (2, "patch", row_of(b"more"))]


def test_without_its_socket_and_its_file_flight_is_the_way(engines: Engines) -> None:
    home = engines.home()
    engines.start(home)
    where = Embedded(home).reach()
    assert where.writes_socket is not None
    where.writes_socket.unlink()
    cache = ObjectCache(where)
    key = cache.put("app/session", b"base").key
    assert cache.patch(key, b"x") == 2
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("flamewire.object_file.SCHEMA_VERSION", 99)
        assert cache.reads_at_once
        assert cache.get(key).patches == [(2, b"x")]
    assert not cache.reads_at_once
    assert cache.get(key).patches == [(2, b"x")]
    eventually(where.writes_socket.exists, "the socket")
    with pytest.raises(Refused):
        ObjectCache(where).patch("no key", b"x")
