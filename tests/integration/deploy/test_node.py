"""deploy/node.py: when a node may register, that a lost connection is seen, and that a write is never broken off."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from flamewire.stubs import types

ROOT = Path(__file__).parents[3]
NODE = ROOT / "deploy" / "node.py"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="for Linux containers")


@pytest.fixture(scope="module")
def node() -> ModuleType:
    spec = importlib.util.spec_from_file_location("node", NODE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def known(name: str, state: int) -> object:
    return types.Node(metadata=types.Metadata(id=name, name=name), status=types.NodeStatus(state=state))


def test_a_node_registers_when_nobody_waits_for_it(node: ModuleType) -> None:
    unknown, ready, not_ready = (types.NodeState.Value(name) for name in ("Unknown", "Ready", "NotReady"))
    assert node.refusal([], "a") == ""
    assert node.refusal([known("b", ready)], "a") == ""
    assert node.refusal([known("b", ready), known("a", not_ready)], "a") == ""
    assert node.refusal([known("a", ready)], "a") != ""
    assert node.refusal([known("a", unknown)], "a") != ""


def test_the_connection_is_seen_and_another_one_is_told_from_it(node: ModuleType) -> None:
    def now() -> str | None:
        return str(found) if (found := node.connection(Path("/proc/net/tcp").read_text(), port)) else None

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert now() is None
        with socket.create_connection(("127.0.0.1", port)):
            first = now()
            assert first is not None
            assert now() == first
        with socket.create_connection(("127.0.0.1", port)):
            second = now()
            assert second is not None
            assert second != first


EXECUTOR = """
import signal, sys, time
def finish(*_):
    time.sleep(0.5)
    open(sys.argv[1], "w").write("whole")
    sys.exit()
signal.signal(signal.SIGTERM, finish)
print("up", flush=True)
time.sleep(120)
"""

MANAGER = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], process_group=0)
time.sleep(120)
"""

END = """
import ctypes, importlib.util, subprocess, sys
spec = importlib.util.spec_from_file_location("node", sys.argv[1])
node = importlib.util.module_from_spec(spec)
spec.loader.exec_module(node)
ctypes.CDLL(None).prctl(node.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
manager = subprocess.Popen([sys.executable, "-c", *sys.argv[2:5]], stdout=subprocess.PIPE)
assert manager.stdout.readline() == b"up\\n"
node.end(manager)
print(manager.returncode, node.children(__import__("os").getpid()))
"""


def test_the_manager_ends_at_once_and_its_executors_when_they_have_written(tmp_path: Path) -> None:
    written = tmp_path / "written"
    ended = subprocess.run(
        [sys.executable, "-c", END, NODE, MANAGER, EXECUTOR, written], capture_output=True, text=True, timeout=100
    )
    assert (ended.stdout, ended.stderr) == ("-9 []\n", "")
    assert written.read_text() == "whole"
