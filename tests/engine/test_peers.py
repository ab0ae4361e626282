"""Who is served: our own user, on every call."""

from __future__ import annotations

import os
import pwd
import socket
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from localflame import peers
from localflame.protos import frontend as messages
from localflame.protos import types
from tests.engine.client import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.engine.client import Client

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel says it on Linux only")


@pytest.fixture(params=["asked", "looked up"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to find out: the kernel's answer for one socket, and its table of all."""
    if request.param == "looked up":
        monkeypatch.setattr(peers, "_diag", None)
    else:
        assert peers._diag is not None
    return str(request.param)


@pytest.fixture
def connection() -> Iterator[tuple[int, int, socket.socket]]:
    """A connection of ours: its two ports and its client."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = listener.accept()
            with accepted:
                yield client.getsockname()[1], port, client


def test_our_own_connection_is_served(way: str, connection: tuple[int, int, socket.socket]) -> None:
    port, server, _ = connection
    assert peers.refusal(f"ipv4:127.0.0.1:{port}", server) is None
    assert peers.refusal(f"ipv4:127.0.0.1:{port}", server + 1) is not None


def test_a_closed_connection_is_not_served(way: str, connection: tuple[int, int, socket.socket]) -> None:
    port, server, client = connection
    client.close()
    assert peers.refusal(f"ipv4:127.0.0.1:{port}", server) is not None


def test_a_connection_of_another_user_is_not_served(
    way: str, connection: tuple[int, int, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, server, _ = connection
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    assert "not that user's" in str(peers.refusal(f"ipv4:127.0.0.1:{port}", server))


@pytest.mark.parametrize("peer", ["ipv4:10.0.0.1:99", "ipv6:[::1]:99", "unix:", "", "ipv4:127.0.0.1:x"])
def test_a_peer_that_is_not_on_loopback_is_not_served(peer: str) -> None:
    assert peers.refusal(peer, 1) is not None


def test_connections_are_counted(connection: tuple[int, int, socket.socket]) -> None:
    assert peers.connections(connection[1]) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_another_user_of_the_machine_is_refused(client: Client) -> None:
    program = f"""
import os, sys
import grpc
import pyarrow.flight as flight
os.setgroups([]); os.setgid({pwd.getpwnam("nobody").pw_gid}); os.setuid({pwd.getpwnam("nobody").pw_uid})
channel = grpc.insecure_channel({client.endpoint.removeprefix("http://")!r})
for method in ("ListSession", "WatchTask"):
    try:
        list(channel.unary_stream(f"/flame.v1.Frontend/{{method}}")(b""))
    except grpc.RpcError as error:
        print(error.code().name)
cache = flight.connect({client.cache_endpoint!r})
descriptor = flight.FlightDescriptor.for_path("a/b/c")
for call in (
    lambda: cache.do_get(flight.Ticket(b"a/b/c")),
    lambda: list(cache.do_action(("DELETE", b"a/b/c"))),
    lambda: list(cache.list_flights()),
    lambda: cache.get_flight_info(descriptor),
    lambda: cache.list_actions(),
):
    try:
        call()
    except flight.FlightUnauthorizedError as error:
        print("PERMISSION_DENIED")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=100)
    assert done.stdout.split() == ["PERMISSION_DENIED"] * 7, done.stdout + done.stderr


def _create_session(id: str) -> bytes:
    """CreateSession as HTTP/2 has it, in one piece: what is needed to be served without ever reading."""
    spec = types.SessionSpec(application="flmping", max_instances=0)
    message = messages.CreateSessionRequest(session_id=id, session=spec).SerializeToString()
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/flame.v1.Frontend/CreateSession",
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    block = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(text)]) + text.encode()
        for name, text in headers.items()
    )
    frames = ((4, 0, 0, b""), (1, 4, 1, block), (0, 1, 1, struct.pack("!BI", 0, len(message)) + message))
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"".join(
        struct.pack("!I", len(content))[1:] + struct.pack("!BBI", kind, flags, stream) + content
        for kind, flags, stream, content in frames
    )


def _sessions(client: Client) -> set[str]:
    listed = client.frontend.ListSession(messages.ListSessionRequest()).sessions
    return {session.metadata.id for session in listed}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_another_user_who_sends_and_is_gone_at_once_is_not_served(client: Client) -> None:
    """Their socket is no more when the call is looked at: nobody's, and so not ours."""
    with socket.create_connection(("127.0.0.1", _port(client))) as ours:
        ours.sendall(_create_session("peers-ours"))  # the same bytes are served where they are ours
        eventually(lambda: "peers-ours" in _sessions(client))
    nobody = pwd.getpwnam("nobody")
    program = f"""
import encodings.idna, os, socket, sys  # afterwards this interpreter may be out of reach
os.setgroups([]); os.setgid({nobody.pw_gid}); os.setuid({nobody.pw_uid})
for number in range(50):
    with socket.create_connection(("127.0.0.1", {_port(client)})) as connection:
        connection.sendall(bytes.fromhex(sys.argv[1]).replace(b"peers-0000", b"peers-%04d" % number))
"""
    data = _create_session("peers-0000").hex()
    done = subprocess.run([sys.executable, "-c", program, data], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for number in range(5):  # what is served after them
        client.frontend.CreateSession(
            messages.CreateSessionRequest(
                session_id=f"peers-later-{number}", session=types.SessionSpec(application="flmping")
            )
        )
    found = {id for id in _sessions(client) if id.startswith("peers-")}
    assert found == {"peers-ours", *(f"peers-later-{number}" for number in range(5))}
    for id in found:
        client.close_session(id)


def _port(client: Client) -> int:
    return int(client.endpoint.rpartition(":")[2])
