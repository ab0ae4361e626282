"""The worker that has founded a nursery gives its place to one that is forked, where nothing goes on in it."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.service.test_instance import alive, wait_until
from tests.integration.service.test_nursery import nursery, said
from tests.support.shim import Shim

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked on Linux only")

SERVICE = """
import asyncio, os, subprocess, threading

from flameagent.service import FlameInstance

with open("imports", "a") as imports:
    imports.write("x")

instance = FlameInstance()
end = []

def child():
    started = subprocess.Popen(["sleep", "600"])
    return lambda: (started.kill(), started.wait())

def thread():
    ended = threading.Event()
    threading.Thread(target=ended.wait, daemon=True).start()
    return ended.set

def task():
    ended = asyncio.Event()
    end.append(asyncio.create_task(ended.wait()).done)
    return ended.set

@instance.entrypoint
async def do(what):
    if what == "sleep":
        await asyncio.sleep(5)
    elif what == "end":
        for each in end:
            each()
    elif what:
        end.append(globals()[what]())
    return os.getpid(), os.getppid()
"""


@pytest.fixture
def node() -> Iterator[Path]:
    """The folder of a node's sockets."""
    with tempfile.TemporaryDirectory(prefix="fl") as folder:
        yield Path(folder)


@pytest.fixture
def first(tmp_path: Path, node: Path) -> Iterator[Shim]:
    """The first instance of its node."""
    (tmp_path / "agent.py").write_text(SERVICE)
    with Shim(tmp_path, sockets=node) as shim:
        yield shim.enter()


def has_heard(pid: int) -> bool:
    """True if the founder has read that its nursery has rehearsed: of the pipes it has only that of its output."""
    links = [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()]
    return len({link for link in links if str(link).startswith("pipe:")}) == 1


def test_a_forked_worker_takes_its_place(tmp_path: Path, node: Path, first: Shim) -> None:
    pid, instance = first.invoke("")
    assert instance == first.process.pid
    wait_until(lambda: not alive(pid), "the end of the worker that was started")
    assert first.invoke("")[1] == nursery(node)
    assert (tmp_path / "imports").read_text() == "x" and not said(first)
    time.sleep(2.0)
    assert len(first.descendants()) == 0 and first.invoke("")[1] == nursery(node)


def test_a_turn_is_not_broken_off_for_it(first: Shim) -> None:
    pid, instance = first.invoke("sleep")
    assert instance == first.process.pid and has_heard(pid)
    wait_until(lambda: not alive(pid), "the end of the worker that was started")


@pytest.mark.parametrize("what", ["thread", "task", "child"])
def test_what_goes_on_in_it_keeps_it(first: Shim, what: str) -> None:
    pid, _ = first.invoke(what)
    wait_until(lambda: has_heard(pid), "the nursery's rehearsal")
    time.sleep(1.5)  # it looks a second after a turn
    assert first.invoke("")[0] == pid
    first.invoke("end")
    wait_until(lambda: not alive(pid), "the end of the worker that was started")
    assert first.invoke("")[0] != pid


def test_a_nursery_that_has_ended_takes_nobodys_place(node: Path, first: Shim) -> None:
    pid, _ = first.invoke("")
    wait_until(lambda: nursery(node) != 0, "the nursery")
    os.kill(nursery(node), signal.SIGKILL)
    wait_until(lambda: has_heard(pid), "its end")
    time.sleep(1.5)
    assert first.invoke("")[0] == pid
