"""The engine's home: what is in it, and what becomes of the engine when somebody moves, copies or removes it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import sqlite3
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from flamewire.stubs import frontend as messages
from flamewire.stubs import frontend_grpc
from localflame import Control, EngineError, find, start, stop
from localflame.home import Home
from localflame.servers import NAMES
from tests.integration.engine.client import alive, eventually, find_pid, localflame

if TYPE_CHECKING:
    from tests.integration.engine.client import Engines


def test_a_home_that_cannot_be_used_is_named(engines: Engines) -> None:
    home = engines.home()
    home.parent.mkdir(exist_ok=True)
    home.write_text("a file")
    done = localflame(home, "start")
    assert (done.returncode, done.stdout) == (5, "")
    assert str(home) in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_file_of_a_newer_engine_is_left_alone(engines: Engines) -> None:
    home = engines.home()
    home.mkdir(parents=True)
    with sqlite3.connect(home / "flame.db") as db:
        db.execute("PRAGMA user_version=99")
    done = localflame(home, "start")
    assert done.returncode == 5
    assert "newer localflame" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_file_that_is_no_database_is_named(engines: Engines) -> None:
    home = engines.home()
    home.mkdir(parents=True)
    (home / "flame.db").write_bytes(b"no database at all" * 100)
    done = localflame(home, "start")
    assert done.returncode == 5
    assert "flame.db cannot be used" in done.stderr


def test_everything_in_the_home_is_private_whatever_the_umask(engines: Engines) -> None:
    home = engines.home()
    before = os.umask(0)
    try:
        client = engines.start(home)
        session = client.session(client.register())
        assert client.run(session)["umask"] == 0
    finally:
        os.umask(before)
    for path in (home, *(path for path in home.rglob("*") if not path.is_symlink())):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), (path, oct(mode))
    sockets = Path(Home(home).read_json(home / "engine.json")["sockets"])
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert len(os.fsencode(sockets)) < 60


def test_ports_are_kept_where_they_are_free(engines: Engines) -> None:
    home = engines.home()
    first = engines.start(home)
    assert stop(home) is True
    assert find(home) is None
    second = engines.start(home)
    assert (second.endpoint, second.cache_endpoint) == (first.endpoint, first.cache_endpoint)
    stop(home)
    with (
        socket.create_server(("127.0.0.1", int(first.endpoint.rpartition(":")[2]))),
        socket.create_server(("127.0.0.1", int(first.cache_endpoint.rpartition(":")[2]))),
    ):
        third = engines.start(home)
        assert third.endpoint != first.endpoint
        assert third.cache_endpoint != first.cache_endpoint
        assert third.control.status()["endpoint"] == third.endpoint


def test_sockets_that_somebody_removes_are_made_again(engines: Engines) -> None:
    """As a sweep of the temporary folder does."""
    home = engines.home()
    client = engines.start(home)
    session = client.session(client.register())
    before = find(home)
    assert before is not None and before.frontend_socket is not None
    folder = before.frontend_socket.parent
    assert client.run(session, text="before")["text"] == "before"
    shutil.rmtree(folder)
    assert start(home) == before  # it waits, and starts no second one
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    eventually(lambda: client.run(session, text="after")["text"] == "after")
    for name in NAMES:
        (folder / name).unlink()
        eventually((folder / name).exists, f"the socket {name}")
    assert find(home) == before
    with grpc.insecure_channel(f"unix:{before.frontend_socket}") as channel:
        listed = frontend_grpc.FrontendStub(channel).ListSession(messages.ListSessionRequest())
        assert [one.metadata.id for one in listed.sessions] == [session]
    assert client.put("app/session/object", b"base")["version"] == 1


def test_a_folder_of_sockets_that_has_become_somebody_elses_ends_the_engine(engines: Engines) -> None:
    home = engines.home()
    client = engines.start(home)
    engine = find(home)
    assert engine is not None and engine.frontend_socket is not None
    folder = engine.frontend_socket.parent
    os.kill(engine.pid, signal.SIGSTOP)  # it looks once a second
    shutil.rmtree(folder)
    folder.mkdir()
    folder.chmod(0o755)
    os.kill(engine.pid, signal.SIGCONT)
    eventually(lambda: not alive(engine.pid), "the end of the engine")
    assert "has become somebody else's" in (home / "logs" / "engine.log").read_text()
    assert start(home).pid != engine.pid
    assert client.control.status()["home"] == str(home)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("how", ["a folder of another user", "a folder that others reach into", "a link"])
def test_who_takes_the_name_of_swept_sockets_is_told_nothing(engines: Engines, tmp_path: Path, how: str) -> None:
    home = engines.home()
    engines.start(home)
    engine = find(home)
    assert engine is not None and engine.frontend_socket is not None
    folder = engine.frontend_socket.parent
    os.kill(engine.pid, signal.SIGKILL)
    eventually(lambda: not alive(engine.pid), "the end of the engine")
    shutil.rmtree(folder)
    taken = folder if how != "a link" else tmp_path / "elsewhere"
    taken.mkdir(mode=0o700)
    taken.chmod(0o700 if how == "a folder of another user" else 0o755)
    if how == "a folder of another user":
        os.chown(taken, pwd.getpwnam("nobody").pw_uid, -1)
    if how == "a link":
        folder.symlink_to(taken)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(taken / "control"))
        stranger.listen()
        stranger.setblocking(False)
        assert find(home) is None
        again = engines.start(home)
        with pytest.raises(BlockingIOError):
            stranger.accept()
    assert again.control.status()["sockets"] != str(folder)
    assert (taken / "control").exists()  # it is theirs
    folder.unlink() if how == "a link" else shutil.rmtree(folder)


def test_a_copied_home_has_an_engine_of_its_own(engines: Engines, tmp_path: Path) -> None:
    home, copy = engines.home(), engines.home()
    client = engines.start(home)
    session = client.session(client.register())
    pid = client.run(session)["pid"]
    shutil.copytree(home, copy, symlinks=True)
    assert find(copy) is None
    assert stop(copy) is False
    with pytest.raises(EngineError, match="No engine runs"):
        Control(copy).status()
    second = start(copy)
    assert (second.home, second.pid == find_pid(client)) == (copy, False)
    assert alive(pid)  # the copied note of it is of the other home
    assert client.run(session)["pid"] == pid
    assert stop(copy) is True
    assert client.run(session)["pid"] == pid
    engine = find(home)
    assert engine is not None and engine.frontend_socket is not None
    assert engine.frontend_socket.exists()


@pytest.mark.parametrize("how", ["removed", "removed and made again", "moved", "without its lock"])
def test_an_engine_whose_home_is_gone_ends(engines: Engines, how: str) -> None:
    home = engines.home()
    client = engines.start(home)
    pid = find_pid(client)
    if how == "moved":
        home.rename(engines.home())
    elif how == "without its lock":
        (home / "lock").unlink()
    else:
        shutil.rmtree(home)
    if how == "removed and made again":
        (home / "logs").mkdir(parents=True)
        (home / "lock").touch()
    eventually(lambda: not alive(pid), "the end of the engine")
    assert start(home).pid != pid


def test_a_log_that_is_long_or_removed_is_begun_anew_while_the_engine_runs(engines: Engines) -> None:
    home = engines.home()
    client = engines.start(home)
    log = home / "logs" / "engine.log"
    with log.open("a") as file:
        file.write("x" * 1_100_000)
    eventually(lambda: log.stat().st_size < 1_000_000, "the new log")
    assert log.with_suffix(".log.1").stat().st_size > 1_000_000
    log.unlink()
    eventually(log.exists, "the log")
    pid = find_pid(client)
    for standard in (1, 2):
        assert log.samefile(f"/proc/{pid}/fd/{standard}")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
