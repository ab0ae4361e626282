"""The peer of a connection: our own user, or somebody else.

Flame's protocol has no authentication and carries pickles, and a loopback port is open to every user of the
machine. Linux says who opened a socket, by its pair of ports. A pair of ports can change hands, so the answer is
about *this* connection only because of the order: first the pair is looked up, then the accepted socket itself says
that it is still established. As long as it is, nobody else's socket can have its pair of ports.

Linux only. Elsewhere the kernel does not say.
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
# linux/tcp_states.h
_ESTABLISHED = 1

#: True where the kernel says who opened a socket.
IDENTIFIES_PEERS = sys.platform.startswith("linux")


def peer_user(accepted: socket.socket) -> int | None:
    """The user ID of whoever holds the other end of an accepted TCP connection from 127.0.0.1 to 127.0.0.1.

    None where the other end is not there any more, is shut for sending, or is open in no process.
    """
    try:
        (host, client), (_, server) = accepted.getpeername(), accepted.getsockname()
        if host != "127.0.0.1":
            return None
        found = _holder(client, server)
        state = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    except OSError:
        return None
    return found if state == _ESTABLISHED else None


def can_identify_peers() -> bool:
    """True if this system says of a connection of ours that it is ours: asked before anything is served."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            return peer_user(accepted) == os.getuid()


def _holder(client: int, server: int) -> int | None:
    """The user of the established loopback socket with local port `client` and remote port `server`."""
    global _diag
    if _diag is not None:
        try:
            return _diag.holder(client, server)
        except OSError:
            _diag = None  # this kernel does not answer; its table of all connections says the same, slowly
    return _holder_by_table(client, server)


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
                if self.holder(client.getsockname()[1], port) != os.getuid():
                    raise OSError("sock_diag does not know a connection of ours")

    def holder(self, client: int, server: int) -> int | None:
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
        theirs = state == _ESTABLISHED and inode != 0 and (found_client, found_server) == (client, server)
        return int(user) if theirs else None


def _holder_by_table(client: int, server: int) -> int | None:
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
    """True if an address in /proc/net/tcp{,6} is 127.0.0.1, written in the machine's byte order."""
    return cell.partition(":")[0].endswith(
        socket.inet_aton("127.0.0.1")[:: 1 if sys.byteorder == "big" else -1].hex().upper()
    )


def listens(path: Path) -> bool:
    """True if somebody listens on this Unix socket."""
    if not path.exists():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except BlockingIOError:  # its queue is full: it listens
            return True
        except OSError:
            return False
    return True


def count_connections(folder: Path, names: tuple[str, ...]) -> int:
    """The number of connections to Unix sockets of `folder` whose names begin so; 0 where nothing says it."""
    try:
        rows = Path("/proc/net/unix").read_text(errors="replace").splitlines()[1:]
    except OSError:
        return 0
    prefixes = tuple(f"{folder}/{name}" for name in names)
    # Num RefCount Protocol Flags Type St Inode Path; an accepted socket has the path of the one that accepted it.
    cells = (row.split(maxsplit=7) for row in rows)
    return sum(len(cell) == 8 and cell[5] == "03" and cell[7].startswith(prefixes) for cell in cells)


def _make_diagnosis() -> _SocketDiagnosis | None:
    try:
        return _SocketDiagnosis() if IDENTIFIES_PEERS else None
    except OSError:
        return None


_diag = _make_diagnosis()
