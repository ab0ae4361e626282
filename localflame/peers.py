"""Who is at the other end of a connection: our own user, or somebody else.

Flame's protocol has no authentication and carries pickles, and a loopback port is open to every user
of the machine. So each call is served only if the kernel says that the socket at the other end of its
connection is established, open in some process, and owned by our user. The answer is not kept
between calls: a port can change hands.

Linux only. Elsewhere the kernel does not say, and everybody on the machine is let in.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
from pathlib import Path

# linux/sock_diag.h, linux/inet_diag.h
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_HEADER = struct.Struct("=IHHII")
_NO_COOKIE = 0xFFFFFFFF
_ESTABLISHED = 1


def refusal(peer: str, port: int) -> str | None:
    """Why the call from `peer` (as gRPC writes it) to our loopback `port` is not served, or None where it is."""
    if not sys.platform.startswith("linux"):
        return None
    scheme, _, address = peer.partition(":")
    host, _, number = address.rpartition(":")
    if scheme != "ipv4" or host != "127.0.0.1" or not number.isdigit():
        return f"localflame serves connections from 127.0.0.1 only, not from {peer}"
    found = _owner(int(number), port)
    if found == os.getuid():
        return None
    return "localflame serves the user that started it only; this connection is not that user's"


def _owner(client: int, server: int) -> int | None:
    """The user of the established loopback socket with local port `client` and remote port `server`."""
    global _diag
    if _diag is not None:
        try:
            return _diag.owner(client, server)
        except OSError:
            _diag = None  # this kernel does not answer; its table of all connections says the same, slowly
    return _owner_by_table(client, server)


class _SocketDiagnosis:
    """The kernel's answer about one connection, in microseconds; the table in /proc takes milliseconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
        self._socket.settimeout(1.0)
        self._socket.bind((0, 0))
        self._check()

    def _check(self) -> None:
        """A kernel without this module says "no such connection" to everything, so ask about one that exists."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)) as client:
                if self.owner(client.getsockname()[1], port) != os.getuid():
                    raise OSError("sock_diag does not know a connection of ours")

    def owner(self, client: int, server: int) -> int | None:
        loopback = socket.inet_aton("127.0.0.1").ljust(16, b"\0")
        body = (
            struct.pack("=BBBxI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0xFFFFFFFF)
            + struct.pack("!HH", client, server)
            + loopback
            + loopback
            + struct.pack("=III", 0, _NO_COOKIE, _NO_COOKIE)
        )
        with self._lock:
            self._socket.send(
                _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0) + body
            )
            answer = self._socket.recv(8192)
        _, kind, _, _, _ = _HEADER.unpack_from(answer)
        if kind != _SOCK_DIAG_BY_FAMILY:
            return None
        _, state = struct.unpack_from("=BB", answer, _HEADER.size)
        found_client, found_server = struct.unpack_from("!HH", answer, _HEADER.size + 4)
        _, _, _, user, inode = struct.unpack_from("=IIIII", answer, _HEADER.size + 52)
        ours = state == _ESTABLISHED and inode != 0 and (found_client, found_server) == (client, server)
        return int(user) if ours else None


def _owner_by_table(client: int, server: int) -> int | None:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            cells = row.split()
            local, remote, state, user, inode = cells[1], cells[2], cells[3], cells[7], cells[9]
            if (
                int(local.rpartition(":")[2], 16) == client
                and int(remote.rpartition(":")[2], 16) == server
                and _is_loopback(local)
                and _is_loopback(remote)
                and int(state, 16) == _ESTABLISHED
                and int(inode) != 0
            ):
                return int(user)
    return None


def _is_loopback(cell: str) -> bool:
    """Whether an address in /proc/net/tcp{,6} is 127.0.0.1, written in the machine's byte order."""
    return cell.partition(":")[0].endswith(
        socket.inet_aton("127.0.0.1")[:: 1 if sys.byteorder == "big" else -1].hex().upper()
    )


def known() -> bool:
    """Whether this system can tell our own connection from another user's: asked before anything is served."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            return refusal(f"ipv4:127.0.0.1:{client.getsockname()[1]}", port) is None


def connections(port: int) -> int | None:
    """How many connections to our loopback `port` are established, or None where the kernel does not say."""
    if not sys.platform.startswith("linux"):
        return None
    count = 0
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            return None
        for row in rows:
            cells = row.split(maxsplit=4)
            if int(cells[1].rpartition(":")[2], 16) == port and int(cells[3], 16) == _ESTABLISHED:
                count += 1
    return count


def _make_diagnosis() -> _SocketDiagnosis | None:
    try:
        return _SocketDiagnosis() if sys.platform.startswith("linux") else None
    except OSError:
        return None


_diag = _make_diagnosis()
