"""The nursery: workers that are forked are what workers that are started are, whatever becomes of who forks them."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration.service.test_instance import alive, wait_until
from tests.support.shim import ROOT, Shim, TaskFailed

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked on Linux only")

SERVICE = """
import asyncio, gc, os, random, subprocess, sys, tempfile, uuid
from pathlib import Path

import numpy
from flameagent.service import FlameInstance

with open("imports", "a") as imports:
    imports.write("x")

instance = FlameInstance()
own, seeded = random.Random(), random.Random(7)
generator, state = numpy.random.default_rng(), numpy.random.RandomState()
random.seed(7)
numpy.random.seed(7)
VERSION = 1

@instance.entrypoint
async def do(what):
    match what:
        case "pid": return os.getpid()
        case "parent": return os.getppid()
        case "exit": os._exit(7)
        case "kill": os.killpg(os.getppid(), 9)
        case "version": return VERSION
        case "environment": return dict(os.environ)
        case "child": return subprocess.Popen(["sleep", "600"]).pid
        case "session": return os.getsid(0)
        case "umask":
            Path("made").touch()
            return Path("made").stat().st_mode & 0o777
        case "die with a child":
            Path("child").write_text(str(subprocess.Popen(["sleep", "600"]).pid))
            os._exit(7)
        case "state": return {
            "random": random.random(), "own": own.random(), "seeded": seeded.random(),
            "numpy": float(numpy.random.random()), "generator": float(generator.random()),
            "state": float(state.random_sample()), "uuid1": str(uuid.uuid1()), "uuid4": str(uuid.uuid4()),
            "name": tempfile.mktemp(), "folder": tempfile.mkdtemp(), "pid": os.getpid(),
            "group": os.getpgid(0),
        }
        case "descriptors":
            links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
            return sorted(os.readlink(link) for link in links if os.path.lexists(link))
        case "garbage": return gc.get_threshold()
    return f"did {what}"
"""


@pytest.fixture
def node() -> Iterator[Path]:
    """The folder of a node's sockets."""
    with tempfile.TemporaryDirectory(prefix="fl") as folder:
        yield Path(folder)


@pytest.fixture
def service(tmp_path: Path) -> Path:
    (tmp_path / "agent.py").write_text(SERVICE)
    return tmp_path


@pytest.fixture
def founder(service: Path, node: Path) -> Iterator[Shim]:
    """The first instance, whose worker has founded the nursery."""
    with Shim(service, sockets=node) as shim:
        shim.enter().invoke("")
        wait_until(lambda: nursery(node) != 0, "the nursery")
        yield shim


def places(node: Path, ending: str) -> list[Path]:
    return sorted(node.glob(f"nurseries-*/*.{ending}"))


def nurseries(node: Path) -> list[int]:
    """The processes that listen."""
    found = []
    for path in places(node, "sock"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            try:
                connection.connect(str(path))
            except OSError:
                continue
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            found.append(int.from_bytes(credentials[:4], sys.byteorder))
    return found


def nursery(node: Path) -> int:
    """The one that listens, 0 for none."""
    found = nurseries(node)
    assert len(found) <= 1
    return found[0] if found else 0


def worker(shim: Shim, what: str = "parent") -> Any:
    return shim.enter().invoke(what)


def imports(service: Path) -> int:
    return len((service / "imports").read_text())


def said(shim: Shim) -> str:
    """Why a worker was started and not forked."""
    lines = [line for line in shim.log.read_text().splitlines() if "is not forked but started" in line]
    return lines[-1] if lines else ""


def test_who_comes_second_has_a_worker_that_was_forked(service: Path, node: Path, founder: Shim) -> None:
    with Shim(service, sockets=node) as second, Shim(service, sockets=node) as third:
        assert worker(second) == worker(third) == nursery(node)
        assert second.invoke("pid") != third.invoke("pid")
        assert second.invoke("garbage")[0] == founder.invoke("garbage")[0] > 2000
        names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in (nursery(node), second.invoke("pid"))}
        assert [*names.values()] == ["agent-nursery", "agent-worker"]
    assert imports(service) == 1 and not said(founder)


def test_many_at_once_import_the_agent_once(service: Path, node: Path) -> None:
    with ExitStack() as stack:
        shims = [stack.enter_context(Shim(service, sockets=node)) for _ in range(6)]
        parents = {worker(shim) for shim in shims}
        assert nursery(node) in parents
    assert imports(service) == 1


def test_of_many_no_two_share_anything(service: Path, node: Path, founder: Shim) -> None:
    with ExitStack() as stack:
        shims = [founder, *(stack.enter_context(Shim(service, sockets=node)) for _ in range(7))]
        states = [worker(shim, "state") for shim in shims]
    for name in states[0]:
        assert len({state[name] for state in states}) == len(states), name
    assert [state["group"] for state in states] == [state["pid"] for state in states]


def test_a_forked_worker_holds_open_what_a_started_one_does(service: Path, node: Path, founder: Shim) -> None:
    with Shim(service, sockets=node) as second, Shim(service, sockets=node, AGENT_FORK="off") as third:
        forked, started = (
            [name.partition(":")[0] for name in worker(shim, "descriptors")] for shim in (second, third)
        )
        assert forked == started


def test_what_each_instance_has_of_its_own_is_its_workers(service: Path, node: Path, founder: Shim) -> None:
    (service / "own").mkdir()
    mask = os.umask(0o077)
    try:
        with Shim(service, sockets=node, TMPDIR=str(service / "own")) as second:
            environment = worker(second, "environment")
            assert environment["TMPDIR"] == str(service / "own")
            assert environment["FLAME_INSTANCE_ENDPOINT"] == str(second.socket)
            assert Path(second.invoke("state")["folder"]).parent == service / "own"
            assert second.invoke("umask") == 0o600
            assert second.invoke("parent") == nursery(node)
    finally:
        os.umask(mask)


def test_another_key_is_never_in_a_worker(service: Path, node: Path) -> None:
    with ExitStack() as stack:
        keys = ["one", "two", "one", "three", "two"]
        shims = [stack.enter_context(Shim(service, sockets=node, OPENAI_API_KEY=key)) for key in keys]
        for key, shim in zip(keys, shims, strict=True):
            assert worker(shim, "environment")["OPENAI_API_KEY"] == key
            kept = Path(f"/proc/{shim.invoke('pid')}/environ").read_bytes().split(b"\0")
            assert [each for each in kept if each.startswith(b"OPENAI_API_KEY=")] == [
                f"OPENAI_API_KEY={key}".encode()
            ]
        wait_until(lambda: len(nurseries(node)) == 3, "a nursery for each key")
    assert imports(service) == 3


def test_changed_code_runs_in_the_next_worker_and_in_those_that_there_are(
    service: Path, node: Path, founder: Shim
) -> None:
    before = nursery(node)
    with Shim(service, sockets=node) as second:
        assert worker(second, "version") == 1
        (service / "agent.py").write_text(SERVICE.replace("VERSION = 1", "VERSION = 2"))
        with Shim(service, sockets=node) as third:
            assert worker(third, "version") == 2
        assert second.invoke("version") == 2
    wait_until(lambda: not alive(before), "the end of the nursery of yesterday's code")
    assert worker(founder, "version") == 2


def test_a_nursery_that_is_killed_harms_nobody(service: Path, node: Path, founder: Shim) -> None:
    killed = nursery(node)
    with Shim(service, sockets=node) as second:
        child, pid = worker(second, "child"), second.invoke("pid")
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: not alive(killed), "its end")
        assert second.invoke("one") == "did one" and second.invoke("pid") == pid
        with Shim(service, sockets=node) as third:
            assert worker(third, "one") == "did one"
            wait_until(lambda: nursery(node) not in (0, killed), "another nursery")
        with pytest.raises(TaskFailed, match=r"for a reason that nobody has seen|with exit code 7"):
            second.invoke("exit")
        wait_until(lambda: not alive(child), "the end of what the worker had started")
        assert second.invoke("two") == "did two"


def test_what_a_worker_has_started_ends_with_it_where_the_nursery_was_killed_too(
    service: Path, node: Path, founder: Shim
) -> None:
    with Shim(service, sockets=node) as second:
        worker(second)
        os.kill(nursery(node), signal.SIGKILL)
        with pytest.raises(TaskFailed):
            second.invoke("die with a child")
        child = int((service / "child").read_text())
        wait_until(lambda: not alive(child), "the end of what the worker had started")


def test_how_a_forked_worker_ended_is_told(service: Path, node: Path, founder: Shim) -> None:
    with Shim(service, sockets=node) as second:
        worker(second)
        with pytest.raises(TaskFailed, match="It ended with exit code 7"):
            second.invoke("exit")
        assert second.invoke("parent") == nursery(node)


def test_a_nursery_that_is_stopped_is_not_waited_for(service: Path, node: Path, founder: Shim) -> None:
    stopped = nursery(node)
    os.kill(stopped, signal.SIGSTOP)
    try:
        with Shim(service, sockets=node) as second:
            assert worker(second, "one") == "did one"
            assert "does not answer" in said(second)
            os.kill(stopped, signal.SIGCONT)  # what it was asked for meanwhile is nobody's
            wait_until(lambda: not {*children(stopped)} - {founder.invoke("pid")}, "one worker of each alone")
            assert len(second.descendants()) == 1
            assert second.invoke("two") == "did two"
    finally:
        os.kill(stopped, signal.SIGCONT)


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if alive(int(each))]


def test_a_founder_that_is_stopped_is_not_waited_for(service: Path, node: Path) -> None:
    waits = "import os, time\nif not os.path.exists('go'):\n    open('waits', 'w')\n    time.sleep(600)\n"
    (service / "agent.py").write_text(waits + SERVICE)
    with Shim(service, sockets=node) as first:
        wait_until((service / "waits").exists, "the import")
        (service / "go").touch()
        (founding,) = first.descendants()
        os.kill(founding, signal.SIGSTOP)
        with Shim(service, sockets=node) as second:
            assert worker(second, "one") == "did one"
            assert "was stopped" in said(second)


def test_a_founder_that_is_killed_is_followed_by_another(service: Path, node: Path) -> None:
    waits = "import os, time\nif not os.path.exists('go'):\n    open('waits', 'w')\n    time.sleep(600)\n"
    (service / "agent.py").write_text(waits + SERVICE)
    with Shim(service, sockets=node) as first, Shim(service, sockets=node) as second:
        wait_until((service / "waits").exists, "the import")
        (service / "go").touch()
        for founding in first.descendants() + second.descendants():
            os.kill(founding, signal.SIGKILL)
        assert worker(second, "one") == worker(first, "one") == "did one"
        wait_until(lambda: nursery(node) != 0, "the nursery")


def test_it_leaves_when_its_folder_is_removed(service: Path, node: Path, founder: Shim) -> None:
    left = nursery(node)
    shutil.rmtree(places(node, "sock")[0].parent)
    wait_until(lambda: not alive(left), "the end of the nursery")
    with Shim(service, sockets=node) as second:
        assert worker(second, "one") == "did one"


def test_it_ends_with_who_started_the_instances(service: Path, node: Path) -> None:
    socket_, starts = node / "i.sock", f"{sys.executable} -m flameagent.service agent & wait"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FLAME_INSTANCE_ENDPOINT": str(socket_)}
    starter = subprocess.Popen(["/bin/sh", "-c", starts], cwd=service, env=environment, start_new_session=True)
    wait_until(lambda: nursery(node) != 0, "the nursery")
    there = nursery(node)
    starter.kill()
    starter.wait()
    wait_until(lambda: not alive(there), "the end of the nursery")


@pytest.mark.parametrize(
    "answers", [b"", b"\x81\xa4type\xa6Forked", b"no message"], ids=["nothing", "half", "nonsense"]
)
def test_somebody_else_at_its_socket_is_not_trusted(service: Path, node: Path, founder: Shim, answers: bytes) -> None:
    (place,) = places(node, "sock")
    left = nursery(node)
    place.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(place))
        listener.listen()
        wait_until(lambda: not alive(left), "the end of the nursery, whose socket is another's")
        with Shim(service, sockets=node) as second:
            connection, _ = listener.accept()
            connection.recv(100_000)
            if answers:
                connection.send(answers)
            connection.close()
            listener.close()
            assert worker(second, "one") == "did one"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_at_its_socket_is_not_asked(service: Path, node: Path, founder: Shim) -> None:
    (place,) = places(node, "sock")
    place.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(place))
        os.seteuid(65534)
        listener.listen()
        os.seteuid(0)
        with Shim(service, sockets=node) as second:
            assert worker(second, "one") == "did one"
            assert "another user" in said(second)


@pytest.mark.parametrize("mode", [0o755, 0o770])
def test_a_folder_that_is_not_this_users_alone_is_not_used(service: Path, node: Path, mode: int) -> None:
    (node / f"nurseries-{os.geteuid()}").mkdir()
    (node / f"nurseries-{os.geteuid()}").chmod(mode)
    with Shim(service, sockets=node) as shim:
        assert worker(shim, "one") == "did one"
        assert "is not this user's alone" in said(shim)
        assert not places(node, "*")


@pytest.mark.parametrize(
    ("does", "why"),
    [
        ("import threading, time; threading.Thread(target=time.sleep, args=[999], daemon=True).start()", "a thread"),
        ("import socket; listener = socket.socket()", "opens something"),
        (
            "import sqlite3; base = sqlite3.connect('base.db'); base.execute('create table if not exists x (y)')",
            "opens",
        ),
        ("import asyncio; loop = asyncio.new_event_loop()", "opens something"),
        ("import grpc; channel = grpc.insecure_channel('unix:nobody')", "thread|opens"),
        ("import tempfile; folder = tempfile.mkdtemp()", "temporary files"),
        ("import subprocess; child = subprocess.Popen(['sleep', '600'])", "a process"),
    ],
    ids=["thread", "socket", "sqlite", "loop", "channel", "temporary", "child"],
)
def test_an_agent_that_begins_something_while_it_is_imported_is_not_forked(
    service: Path, node: Path, does: str, why: str
) -> None:
    (service / "agent.py").write_text(f"{does}\n{SERVICE}")
    with Shim(service, sockets=node) as first, Shim(service, sockets=node) as second:
        assert worker(first, "one") == worker(second, "one") == "did one"
        assert nursery(node) == 0
        (noted,) = places(node, "no")
        assert any(each in json.loads(noted.read_text())[1] for each in why.split("|"))
        assert imports(service) == 2  # nobody pays for it twice
        with Shim(service, sockets=node) as third:
            assert worker(third, "one") == "did one"
        (service / "agent.py").write_text(SERVICE)
        with Shim(service, sockets=node) as fourth:
            assert worker(fourth, "one") == "did one"
            wait_until(lambda: nursery(node) != 0, "the nursery of the code that was changed")
            assert not places(node, "no")


def test_a_loop_of_the_import_is_the_workers(service: Path, node: Path) -> None:
    head = "import asyncio\nloop = asyncio.get_event_loop_policy().get_event_loop()\n"
    (service / "agent.py").write_text(
        head
        + SERVICE.replace(
            'case "version": return VERSION',
            """case "version":
            return asyncio.get_running_loop() is loop""",
        )
    )
    with Shim(service, sockets=node) as shim:
        assert worker(shim, "version") is True


SLOW_TO_LEAVE = """
import time
from flameagent.service.process.nursery import Nursery

def slow(nursery, leave=Nursery._stop_listening):
    time.sleep(0.3)
    leave(nursery)

Nursery._stop_listening = slow
"""


@pytest.mark.parametrize("head", ["", SLOW_TO_LEAVE])
@pytest.mark.parametrize("when", ["at once", "later"])
def test_so_many_nurseries_and_no_more(service: Path, node: Path, head: str, when: str) -> None:
    (service / "agent.py").write_text(head + SERVICE)
    with ExitStack() as stack:
        first = [stack.enter_context(Shim(service, sockets=node, OPENAI_API_KEY=str(number))) for number in range(4)]
        founders = [worker(shim, "pid") for shim in first]
        wait_until(lambda: len(nurseries(node)) == 4, "four nurseries")
        if when == "later":  # each has the one worker that has taken the founder's place
            wait_until(lambda: not any(map(alive, founders)), "four forked workers")
            assert {shim.invoke("parent") for shim in first} == {*nurseries(node)}
        idle = nurseries(node)
        with Shim(service, sockets=node, OPENAI_API_KEY="another") as fifth:
            assert worker(fifth, "environment")["OPENAI_API_KEY"] == "another"
            assert not said(fifth)
            wait_until(
                lambda: not set(nurseries(node)) <= set(idle), "the nursery of the fifth, in place of one that rests"
            )
        assert len(nurseries(node)) == 4
        for number, shim in enumerate(first):
            assert shim.invoke("environment")["OPENAI_API_KEY"] == str(number)


def test_it_can_be_switched_off(service: Path, node: Path) -> None:
    with Shim(service, sockets=node, AGENT_FORK="off") as shim:
        assert worker(shim, "one") == "did one"
        assert "AGENT_FORK is off" in said(shim)
        assert not places(node, "*")


def no_more_files(pid: int) -> None:
    """Let a process open nothing beside what it has open."""
    taken = {int(link.name) for link in Path(f"/proc/{pid}/fd").iterdir()}
    lowest = next(number for number in range(len(taken) + 1) if number not in taken)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))


def as_many_files_as_usual(pid: int) -> None:
    with suppress(ProcessLookupError):  # it may have left
        most = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))


def test_without_descriptors_a_task_fails_with_a_sentence_and_the_next_works(
    service: Path, node: Path, founder: Shim
) -> None:
    with Shim(service, sockets=node) as second:
        os.kill(worker(second, "pid"), signal.SIGKILL)
        no_more_files(second.process.pid)
        with pytest.raises(TaskFailed, match="could not be started"):
            second.invoke("one")
        as_many_files_as_usual(second.process.pid)
        assert second.invoke("two") == "did two"


def test_a_nursery_without_descriptors_harms_nobody(service: Path, node: Path, founder: Shim) -> None:
    there = nursery(node)
    no_more_files(there)
    with Shim(service, sockets=node) as second:
        assert worker(second, "one") == "did one"
        as_many_files_as_usual(there)
    with Shim(service, sockets=node) as third:
        assert worker(third, "one") == "did one"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_on_a_full_disk_workers_are_started(service: Path, node: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=6", "tmpfs", str(node)], check=False)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        with Shim(service, sockets=node) as first:
            with suppress(OSError):
                for number in range(20):
                    (node / f"filled{number}").write_bytes(b"x" * 16384)
            assert worker(first, "one") == "did one"
            with pytest.raises(OSError):
                (node / "another").mkdir()
            os.kill(first.invoke("pid"), signal.SIGKILL)
            assert first.invoke("two") == "did two"
    finally:
        subprocess.run(["umount", "-l", str(node)], check=False)
