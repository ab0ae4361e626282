"""Who comes in: our own user, by a connection that is theirs from its first byte on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import pwd
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from pyarrow import flight

from flamewire.stubs import frontend as messages
from flamewire.stubs import types
from localflame import peers
from localflame.door import Door
from tests.integration.engine.client import eventually
from tests.support.http2 import let_it_read, request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.engine.client import Client

pytestmark = pytest.mark.skipif(not peers.IDENTIFIES_PEERS, reason="the kernel says it on Linux only")
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")


@pytest.fixture(params=["asked", "looked up"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to find out: the kernel's answer for one socket, and its table of all."""
    if request.param == "looked up":
        monkeypatch.setattr(peers, "_diag", None)
    else:
        assert peers._diag is not None
    return str(request.param)


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection of ours: its client and its accepted end."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        accepted, _ = listener.accept()
        with accepted:
            yield client, accepted


def test_our_own_connection_is_ours(way: str, connection: tuple[socket.socket, socket.socket]) -> None:
    assert peers.peer_user(connection[1]) == os.getuid()


@pytest.mark.parametrize("end", ["closed", "reset", "shut for sending"])
def test_a_connection_that_nobody_holds_or_sends_on_is_nobodys(
    way: str, connection: tuple[socket.socket, socket.socket], end: str
) -> None:
    client, accepted = connection
    client.sendall(b"what was asked")
    _end(client, end)
    assert peers.peer_user(accepted) is None


@as_root
def test_a_connection_of_another_user_is_theirs(way: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, _socket_of("nobody") as theirs:
        theirs.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            assert peers.peer_user(accepted) == pwd.getpwnam("nobody").pw_uid


@as_root
@pytest.mark.parametrize("end", ["closed", "reset", "shut for sending"])
def test_a_strangers_connection_does_not_become_ours_when_we_get_its_port(way: str, end: str) -> None:
    """The stranger's request waits to be accepted while the pair of ports passes to us."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        theirs = _socket_of("nobody")
        theirs.connect(address)
        port = theirs.getsockname()[1]
        theirs.sendall(b"theirs")
        _end(theirs, end)
        ours = _from_port(port)
        with contextlib.suppress(OSError):  # where theirs still has the pair, we do not get it
            ours.connect(address)
            ours.sendall(b"ours")
        first, _ = listener.accept()
        with first, ours, theirs:
            assert peers.peer_user(first) != os.getuid()
        if end == "reset":
            second, _ = listener.accept()
            with second:
                assert second.recv(10) == b"ours"


@as_root
def test_whatever_two_users_do_with_the_same_ports_not_a_byte_of_the_stranger_passes() -> None:
    """Connections of both, from a few ports, each ended in some way at some moment; what passes is ours alone."""
    received, passed = bytearray(), threading.Event()
    ready = threading.Event()
    door: list[Door] = []
    done: list[Any] = []

    async def behind(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(100):
                received.extend(data)
                passed.set()
        writer.close()

    async def serve(folder: str) -> None:
        done.extend((asyncio.get_running_loop(), asyncio.Event()))
        server = await asyncio.start_unix_server(behind, f"{folder}/target")
        door.append(Door(Path(folder) / "target"))
        ready.set()
        await done[1].wait()
        door[0].close()
        server.close()

    with tempfile.TemporaryDirectory() as folder:
        serving = threading.Thread(target=lambda: asyncio.run(serve(folder)))
        serving.start()
        assert ready.wait(30)
        try:
            ports = [_free_port() for _ in range(3)]
            nobody = pwd.getpwnam("nobody")
            stranger = subprocess.Popen(
                [sys.executable, "-c", _STRANGER, str(door[0].port), json.dumps(ports), str(nobody.pw_uid)],
                stdout=subprocess.PIPE,
                text=True,
            )
            owner, sent = random.Random(1), 0
            while stranger.poll() is None:
                sent += _knock(door[0].port, owner.choice(ports), b"o", owner)
            assert stranger.returncode == 0
            assert stranger.stdout is not None
            strangers = int(stranger.stdout.read())
            assert strangers > 100  # they came through to the port
            assert sent > 0
            with socket.create_connection(("127.0.0.1", door[0].port)) as last:
                passed.clear()
                last.sendall(b"o")
                assert passed.wait(30)
            assert set(received) == set(b"o")
        finally:
            done[0].call_soon_threadsafe(done[1].set)
            serving.join(30)


_STRANGER = """
import encodings.idna, json, os, random, socket, struct, sys, time
os.setgroups([]); os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[3]))
server, ports, rng, sent = int(sys.argv[1]), json.loads(sys.argv[2]), random.Random(2), 0
for _ in range(1500):
    with socket.socket() as s:
        try:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", rng.choice(ports)))
            s.connect(("127.0.0.1", server))
            s.sendall(b"s" * rng.randrange(1, 9))
            sent += 1
            time.sleep(rng.choice([0, 0, 0.0001, 0.0005]))
            end = rng.randrange(3)
            if end == 0:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif end == 1:
                s.shutdown(socket.SHUT_WR)
                time.sleep(0.0002)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
print(sent)
"""


def _knock(server: int, port: int, data: bytes, random: random.Random) -> bool:
    """Connect from that port, send, and go, in some way; whether it got there."""
    with _from_port(port) as connection:
        try:
            connection.connect(("127.0.0.1", server))
            time.sleep(random.choice([0, 0.001, 0.003]))
            connection.sendall(data)
        except OSError:
            return False
        _end(connection, random.choice(["reset", "reset", "shut for sending"]))
        _end(connection, "reset")
    return True


def test_what_passes_is_what_was_sent_both_ways_however_much(tmp_path: Path) -> None:
    whole = os.urandom(3_000_000)

    async def behind(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")  # a server may speak first
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def run() -> tuple[bytes, int, int]:
        server = await asyncio.start_unix_server(behind, tmp_path / "target")
        door = Door(tmp_path / "target")
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        sending = asyncio.create_task(_send(writer, whole))
        received = await reader.readexactly(5 + len(whole))
        await sending
        during = door.connections
        writer.close()
        while door.connections:  # noqa: ASYNC110 - it says nothing when that changes
            await asyncio.sleep(0.01)
        door.close()
        server.close()
        return received, during, door.connections

    assert asyncio.run(run()) == (b"hello" + whole, 1, 0)


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


def test_a_port_that_is_kept_is_taken_again_and_one_that_is_taken_is_not(tmp_path: Path) -> None:
    async def run() -> None:
        first = Door(tmp_path / "target")
        second = Door(tmp_path / "target", first.port)
        assert second.port != first.port
        first.close()
        third = Door(tmp_path / "target", first.port)
        assert third.port == first.port
        for preferred in ("x", -1, 10**6, None):
            Door(tmp_path / "target", preferred).close()
        second.close()
        third.close()

    asyncio.run(run())


def test_without_a_server_behind_it_the_door_hangs_up_and_goes_on(tmp_path: Path) -> None:
    async def run() -> None:
        door = Door(tmp_path / "target")
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
        door.close()

    asyncio.run(run())


def test_what_passes_through_a_door_is_sent_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> socket.socket:
        let_in: asyncio.Queue[socket.socket] = asyncio.Queue()
        monkeypatch.setattr(Door, "_begin", lambda door, accepted: let_in.put_nowait(accepted))
        door = Door(tmp_path / "target")
        _, writer = await asyncio.open_connection("127.0.0.1", door.port)
        accepted = await asyncio.wait_for(let_in.get(), 30)
        writer.close()
        door.close()
        return accepted

    with asyncio.run(run()) as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)  # no waiting for an acknowledgement


@as_root
def test_strangers_are_told_why_and_counted_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)

    async def run() -> list[bytes]:
        door = Door(tmp_path / "target")
        told = []
        for _ in range(300):
            with _socket_of("nobody") as stranger:
                stranger.settimeout(30)
                stranger.connect(("127.0.0.1", door.port))
                told.append(await asyncio.to_thread(_read_all, stranger))
        assert door.connections == 0
        door.close()
        return told

    told = asyncio.run(run())
    assert all(b"localflame serves the user that started it only" in text for text in told)
    assert len(caplog.records) == 1  # the next one is a minute later


@as_root
def test_another_user_of_the_machine_is_refused(client: Client) -> None:
    program = f"""
import os, sys
import grpc
import pyarrow.flight as flight
os.setgroups([]); os.setgid({pwd.getpwnam("nobody").pw_gid}); os.setuid({pwd.getpwnam("nobody").pw_uid})
channel = grpc.insecure_channel({client.endpoint.removeprefix("http://")!r})
for method in ("ListSession", "WatchTask"):
    try:
        list(channel.unary_stream(f"/flame.v1.Frontend/{{method}}")(b"", timeout=20))
    except grpc.RpcError as error:
        print("refused" if "HTTP status 403" in error.details() else error)
cache = flight.connect({client.cache_endpoint!r})
descriptor = flight.FlightDescriptor.for_path("a/b/c")
options = flight.FlightCallOptions(timeout=20)
for call in (
    lambda: cache.do_get(flight.Ticket(b"a/b/c"), options),
    lambda: list(cache.do_action(("DELETE", b"a/b/c"), options)),
    lambda: list(cache.list_flights(options=options)),
    lambda: cache.get_flight_info(descriptor, options),
    lambda: cache.list_actions(options),
):
    try:
        call()
    except flight.FlightError as error:
        print("refused" if "HTTP status 403" in str(error) else error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=200)
    assert done.stdout.split("\n") == ["refused"] * 7 + [""], done.stdout + done.stderr


@as_root
def test_the_owner_is_served_while_a_stranger_holds_thousands_of_connections(client: Client) -> None:
    nobody = pwd.getpwnam("nobody")
    program = f"""
import os, resource, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
os.setgroups([]); os.setgid({nobody.pw_gid}); os.setuid({nobody.pw_uid})
held = []
for number in range(min(4000, hard - 100)):
    connection = socket.socket()
    connection.connect(("127.0.0.1", ({_port(client.endpoint)}, {_port(client.cache_endpoint)})[number % 2]))
    held.append(connection)
print("held", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as stranger:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "held\n"
        pid = client.control.status()["pid"]
        assert len(list(Path(f"/proc/{pid}/fd").iterdir())) < 500
        with (
            grpc.insecure_channel(client.endpoint.removeprefix("http://")) as channel,
            flight.connect(client.cache_endpoint) as cache,
        ):
            channel.unary_unary("/flame.v1.Frontend/ListNodes")(b"", timeout=30)
            assert [result.body.to_pybytes() for result in cache.do_action(("DELETE", b"a/b/c"))] == [b"OK"]
        assert stranger.stdin is not None
        stranger.stdin.close()
    assert (client.home / "logs" / "engine.log").stat().st_size < 100_000


def _create_session(id: str) -> bytes:
    spec = types.SessionSpec(application="flmping", max_instances=0)
    message = messages.CreateSessionRequest(session_id=id, session=spec).SerializeToString()
    return request(b"/flame.v1.Frontend/CreateSession", message)


def _sessions(client: Client) -> set[str]:
    listed = client.frontend.ListSession(messages.ListSessionRequest()).sessions
    return {session.metadata.id for session in listed}


@as_root
def test_another_user_who_sends_and_is_gone_at_once_is_not_served(client: Client) -> None:
    """Also where we come from the same port right after them."""
    server = _port(client.endpoint)
    with socket.create_connection(("127.0.0.1", server)) as ours:
        ours.sendall(_create_session("door-ours"))  # the same bytes are served where they are ours
        eventually(lambda: "door-ours" in _sessions(client))
    for number in range(200):
        with _socket_of("nobody") as theirs:
            theirs.connect(("127.0.0.1", server))
            port = theirs.getsockname()[1]
            theirs.sendall(_create_session(f"door-{number:04}"))
            if number % 2:
                _end(theirs, "reset")
        with _from_port(port) as ours, contextlib.suppress(OSError):
            ours.connect(("127.0.0.1", server))
    for number in range(5):  # what is served after them
        client.frontend.CreateSession(
            messages.CreateSessionRequest(
                session_id=f"door-later-{number}", session=types.SessionSpec(application="flmping")
            )
        )
    found = {id for id in _sessions(client) if id.startswith("door-")}
    assert found == {"door-ours", *(f"door-later-{number}" for number in range(5))}
    for id in found:
        client.close_session(id)


@pytest.mark.parametrize(
    "path",
    [b"/flame.v1.Frontend/\xe3", b"/\xff/GetTask", b"\x80", b"/flame.v1.Frontend/" + b"\xf0\x9f\x98", b""],
    ids=repr,
)
def test_a_request_that_cannot_be_decoded_ends_nothing(client: Client, path: bytes) -> None:
    pid = client.control.status()["pid"]
    with socket.create_connection(("127.0.0.1", _port(client.endpoint))) as held:
        held.sendall(request(path))
        let_it_read(held)
        eventually(lambda: _serves(client), "the frontend")
    assert client.control.status()["pid"] == pid


def _serves(client: Client) -> bool:
    try:
        return bool(client.frontend.ListNodes(messages.ListNodesRequest(), wait_for_ready=True, timeout=30).nodes)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.CANCELLED  # of the server that ends just now
        return False


def _port(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _from_port(port: int) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with contextlib.suppress(OSError):
        connection.bind(("127.0.0.1", port))
    return connection


def _socket_of(user: str) -> socket.socket:
    """A socket that another user opened. Root only."""
    made = socket.socket()
    os.fchown(made.fileno(), pwd.getpwnam(user).pw_uid, -1)
    return made


def _end(connection: socket.socket, how: str) -> None:
    if how == "shut for sending":
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        return
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", how == "reset", 0))
    connection.close()


def _read_all(connection: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(4096):
            data += part
    return data
