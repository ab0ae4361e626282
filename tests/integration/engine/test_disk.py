"""The engine on a disk that is full."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from flamewire.stubs import types
from localflame import stop
from tests.integration.engine.client import REPOSITORY, eventually, find_pid, localflame

if TYPE_CHECKING:
    from tests.integration.engine.client import Client, Engines


def test_a_full_disk_fails_the_call_and_not_the_engine(engines: Engines) -> None:
    """The file may not grow: what SQLite says then is what it says on a full disk."""
    import resource

    home = engines.home()
    client = engines.start(home)
    session = client.session(client.register(), max_instances=0)
    client.put("app/session/object", b"base")
    size = (home / "flame.db-wal").stat().st_size
    pid = find_pid(client)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 8192, resource.RLIM_INFINITY))
    refused: list[Any] = []
    for call in (lambda: client.create(session, text="x" * 100_000), lambda: client.put("app/s/o", b"x" * 100_000)):
        with pytest.raises(Exception, match="could not be written") as caught:
            call()
        refused.append(caught.value)
    assert refused[0].code().name == "INTERNAL"
    assert client.get("app/session/object") == [(1, "base", b"base")]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert client.create(session, text="x" * 100_000) == "1"
    assert client.put("app/s/o", b"x" * 100_000)["version"] == 1


def test_who_waits_for_a_task_whose_end_no_disk_takes_is_told(engines: Engines, tmp_path: Path) -> None:
    import resource

    home = engines.home()
    patient = "import localflame.controller as c, localflame.engine as e, pathlib; c.WRITE_TIMEOUT = 0.5"
    with subprocess.Popen(
        [sys.executable, "-c", f"{patient}; e.serve(pathlib.Path({str(home)!r}), None)"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        client = engines.start(home)
        session = client.session(client.register())
        started, go = tmp_path / "started", tmp_path / "go"
        task = client.create(session, do="sleep", seconds=30, started=str(started), until=str(go))
        eventually(started.exists)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        go.touch()
        for ask in (lambda: client.watch(session, task), lambda: client.task(session, task)):
            with pytest.raises(grpc.RpcError, match=f"the end of task {task} of {session} waits for the disk"):
                ask()
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        eventually(lambda: _state(client, session, task) == types.Succeed, "the end of the task")
        assert client.run(session, text="on")["text"] == "on"
        process.send_signal(signal.SIGINT)


def _state(client: Client, session: str, task: str) -> int | None:
    with contextlib.suppress(grpc.RpcError):
        return int(client.task(session, task).status.state)
    return None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small disk")
@pytest.mark.parametrize("prepared", [False, True])
def test_an_engine_that_starts_on_a_full_disk_names_it(engines: Engines, prepared: bool) -> None:
    home = engines.home()
    home.mkdir(parents=True)
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", home], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip(f"no small disk can be mounted here: {mount.stderr.decode().strip()}")
    try:
        if prepared:
            assert localflame(home, "start").returncode == 0
            assert stop(home)
        filler = os.open(home / "filler", os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while os.write(filler, b"x" * 4096):
                pass
        os.close(filler)
        for _ in range(2):
            done = localflame(home, "start")
            assert (done.returncode, done.stdout) == (5, "")
            assert str(home) in done.stderr
            assert "No space left on device" in done.stderr or "disk is full" in done.stderr
            assert len(done.stderr.splitlines()) == 1
        (home / "filler").unlink()
        assert localflame(home, "start").returncode == 0
        assert stop(home)
    finally:
        subprocess.run(["umount", home], check=True)
