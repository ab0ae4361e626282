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

_REHEARSED = 4.0
"""Seconds after a first turn in which its nursery has rehearsed."""
_QUIET = 1.5
"""Seconds after a turn in which the worker has seen whether anything goes on."""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked on Linux only")

SERVICE = """
import asyncio, os, subprocess, threading, time

from flameagent.service import FlameInstance

with open("imports", "a") as imports:
    imports.write("x")

instance = FlameInstance()
end = []

def child():
    started = subprocess.Popen(["sleep", "600"])
    return lambda: (started.kill(), started.wait())

def behind_a_shell():
    started = subprocess.run("sleep 600 >&2 & echo $!", shell=True, stdout=subprocess.PIPE)
    return lambda: os.kill(int(started.stdout), 9)

def thread():
    ended = threading.Event()
    threading.Thread(target=ended.wait, daemon=True).start()
    return ended.set

def executor():
    ended = threading.Event()
    asyncio.get_running_loop().run_in_executor(None, ended.wait)
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


def test_a_forked_worker_takes_its_place(tmp_path: Path, node: Path, first: Shim) -> None:
    pid, instance = first.invoke("")
    assert instance == first.process.pid
    wait_until(lambda: not alive(pid), "the end of the worker that was started")
    forked, parent = first.invoke("")
    assert parent == nursery(node)
    assert (tmp_path / "imports").read_text() == "x" and not said(first)
    time.sleep(2.5)
    assert first.invoke("")[0] == forked and not first.descendants()


def test_a_turn_is_not_broken_off_for_it(first: Shim) -> None:
    pid, instance = first.invoke("sleep")
    assert instance == first.process.pid
    wait_until(lambda: not alive(pid), "the end of the worker that was started")


@pytest.mark.parametrize("what", ["thread", "executor", "task", "child", "behind_a_shell"])
def test_what_goes_on_in_it_keeps_it(first: Shim, what: str) -> None:
    pid, _ = first.invoke(what)
    time.sleep(_REHEARSED)
    assert first.invoke("")[0] == pid
    time.sleep(_QUIET)
    assert first.invoke("")[0] == pid
    first.invoke("end")
    wait_until(lambda: not alive(pid), "the end of the worker that was started")
    assert first.invoke("")[0] != pid


def test_where_the_nursery_has_ended_it_stays(tmp_path: Path, node: Path, first: Shim) -> None:
    pid, _ = first.invoke("thread")
    time.sleep(_REHEARSED)
    os.kill(nursery(node), signal.SIGKILL)
    first.invoke("end")
    time.sleep(_QUIET)
    assert first.invoke("")[0] == pid
    assert (tmp_path / "imports").read_text() == "x"


def test_where_the_nursery_does_not_answer_it_stays(node: Path, first: Shim) -> None:
    pid, _ = first.invoke("thread")
    time.sleep(_REHEARSED)
    stopped = nursery(node)
    os.kill(stopped, signal.SIGSTOP)
    try:
        first.invoke("end")
        time.sleep(_QUIET)
        assert first.invoke("")[0] == pid
    finally:
        os.kill(stopped, signal.SIGCONT)
