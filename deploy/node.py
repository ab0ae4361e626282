"""Run Flame's executor manager in a container so that the restart of any part leaves no session hanging.

Flame 0.6.0's session manager gives tasks to executors that it remembers of a node, also when the node has come back
without them, and an executor manager that reconnects goes on with executors that the session manager has forgotten.
So: start when the session manager knows nothing of this host's name, or has given the node up; end, with all
executors, as soon as the connection to it is lost; docker starts the container again. An instance that is ended is
given the time to finish a write to the object cache: one that breaks off keeps the cache from starting again.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

FLAME = Path(os.environ.get("FLAME_HOME", "/usr/local/flame"))
CONFIG = Path.home() / ".flame" / "flame-cluster.yaml"
LOGS = Path("/opt/openai-agent")

LOOK = 0.2  # seconds; Flame's executor manager connects again after one
CONNECTED_WITHIN = 60.0
GRACE = 30.0  # for an instance inside a write; docker-compose.yml gives the container 40
KEPT_LOGS = 200
ESTABLISHED = "01"
PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    """Wait, run, watch, end. The exit code is 0 after SIGTERM, otherwise 1."""
    asked: list[int] = []

    def ask_to_end(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    signal.signal(signal.SIGTERM, ask_to_end)
    signal.signal(signal.SIGINT, ask_to_end)
    # Executors whose manager has ended become ours, to wait for.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # The services that the manager starts have libraries of their own; only this script uses Flame's.
    sys.path[:0] = [
        str(Path(__file__).resolve().parent.parent),
        str(FLAME / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"),
    ]
    import yaml

    cluster = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["cluster"]
    subprocess.run(["/bin/bash", Path(__file__).with_name("environment.sh")], check=True)
    while not asked and (why := still_known(cluster)):
        say(f"waiting: {why}")
        time.sleep(1)
    if asked:
        return 0
    remove_old_logs()
    say("starting the executor manager")
    manager = subprocess.Popen([FLAME / "bin" / "flame-executor-manager"])
    why = watch(manager, (urlsplit(cluster["endpoint"]).port or 8080) + 1, asked)
    say(f"ending: {why}")
    end(manager)
    return 0 if asked else 1


def still_known(cluster: dict[str, Any]) -> str:
    """Why the executor manager must not start yet; empty when it may."""
    import grpc

    from flamewire.stubs import frontend, frontend_grpc

    url = urlsplit(cluster["endpoint"])
    target = f"{url.hostname}:{url.port or 8080}"
    if url.scheme == "https":
        ca_file = cluster.get("tls", {}).get("ca_file")
        roots = Path(ca_file).read_bytes() if ca_file else None
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(roots))
    else:
        channel = grpc.insecure_channel(target)
    try:
        nodes = frontend_grpc.FrontendStub(channel).ListNodes(frontend.ListNodesRequest(), timeout=5).nodes
    except grpc.RpcError as error:
        return f"the session manager does not answer ({error.code().name})"
    finally:
        channel.close()
    return refusal(nodes, socket.gethostname())


def refusal(nodes: Any, name: str) -> str:
    """Why a node of this name must not register while the session manager knows these; empty when it may."""
    not_ready = 2
    if any(node.metadata.name == name and node.status.state != not_ready for node in nodes):
        return "the session manager still expects this node's former executors"
    return ""


def watch(manager: subprocess.Popen[bytes], port: int, asked: list[int]) -> str:
    """Return why to end: the manager has ended, its connection is not the first one any more, or we are asked to."""
    deadline = time.monotonic() + CONNECTED_WITHIN
    first: str | None = None
    while not asked:
        if manager.poll() is not None:
            return f"the executor manager has ended with code {manager.returncode}"
        now = connection(Path("/proc/net/tcp").read_text(), port)
        if first is None:
            first = now
            if now is None and time.monotonic() > deadline:
                return "the executor manager does not connect to the session manager"
        elif now != first:
            return "the connection to the session manager was lost"
        time.sleep(LOOK)
    return "asked to"


def connection(table: str, port: int) -> str | None:
    """Our end of the established connection to that port elsewhere, from `/proc/net/tcp`; the same text each time."""
    for line in table.splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        if state == ESTABLISHED and int(remote.rpartition(":")[2], 16) == port:
            return local
    return None


def end(manager: subprocess.Popen[bytes]) -> None:
    """End the manager at once, and its executors with time for a write in flight; return when they are gone."""
    executors = children(manager.pid)
    if manager.poll() is None:
        manager.kill()
        manager.wait()
    executors += [pid for pid in children(os.getpid()) if pid not in executors]
    for pid in executors:
        try:
            os.killpg(pid, signal.SIGTERM)
        except (ProcessLookupError, PermissionError):
            continue
    deadline = time.monotonic() + GRACE
    while children(os.getpid()) and time.monotonic() < deadline:
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    """The processes that this one is the parent of."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, thread.read_text().split())
        except OSError:
            continue
    return found


def remove_old_logs() -> None:
    """Keep the newest logs of former executors; Flame keeps all of them."""
    logs = [path for path in LOGS.glob("*") if path.suffix in (".out", ".err")]
    for path in sorted(logs, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT_LOGS:]:
        path.unlink(missing_ok=True)


def say(text: str) -> None:
    print(f"node {socket.gethostname()}: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
