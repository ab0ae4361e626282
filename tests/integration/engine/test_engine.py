"""The engine's process: one a home, what it keeps, how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shlex
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from flamewire.stubs import frontend as messages
from flamewire.stubs import frontend_grpc, types
from localflame import Control, EngineError, find, start, stop
from localflame.home import Home
from tests.integration.engine.client import REPOSITORY, alive, eventually, localflame
from tests.support.http2 import request

if TYPE_CHECKING:
    from tests.integration.engine.client import Client, Engines


def test_start_prints_where_the_engine_is_and_nothing_else(client: Client) -> None:
    again = localflame(client.home, "start")
    assert again.returncode == 0
    assert again.stderr == ""
    where = json.loads(again.stdout)
    assert set(where) == {"endpoint", "cache_endpoint", "pid", "home"}
    assert where["endpoint"] == client.endpoint
    assert where["endpoint"].startswith("http://127.0.0.1:")
    assert where["cache_endpoint"].startswith("grpc://127.0.0.1:")
    assert where["home"] == str(client.home)
    engine = start(client.home)
    assert engine == find(client.home)
    assert (engine.pid, engine.home) == (where["pid"], client.home)


def test_status_says_what_the_engine_does(client: Client) -> None:
    status = json.loads(localflame(client.home, "status").stdout)
    assert status["sessions"].keys() == {"open", "closed"}
    assert status["tasks"].keys() == {"pending", "running", "succeed", "failed", "cancelled"}
    assert status["executors"] >= 8
    assert status["uptime"] > 0


def test_config_is_for_flmctl_and_flamepy(client: Client, tmp_path: Path) -> None:
    import yaml

    config = yaml.safe_load(localflame(client.home, "config").stdout)
    (context,) = config["contexts"]
    assert config["current-context"] == context["name"]
    assert context["cluster"]["endpoint"] == client.endpoint
    assert context["cache"]["endpoint"] == client.cache_endpoint
    (tmp_path / ".flame").mkdir()
    (tmp_path / ".flame" / "flame.yaml").write_text(localflame(client.home, "config").stdout)
    environment = {name: text for name, text in os.environ.items() if not name.startswith("FLAME")}
    listed = subprocess.run(
        [sys.executable, "-c", "import flamepy; print(len(flamepy.list_nodes()))"],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert listed.stdout == "1\n", listed.stderr


def test_a_second_engine_on_one_home_is_refused(client: Client) -> None:
    second = localflame(client.home, "serve")
    assert second.returncode == 5
    assert second.stdout == ""
    assert second.stderr == f"An engine runs in {client.home} already (pid {find_pid(client)}, {client.endpoint}).\n"


def find_pid(client: Client) -> int:
    """The engine's process."""
    return int(client.control.status()["pid"])


def test_many_starts_at_once_make_one_engine(engines: Engines) -> None:
    home = engines.home()
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: localflame(home, "start"), range(6)))
    assert {one.returncode for one in done} == {0}, [one.stderr for one in done]
    assert len({json.loads(one.stdout)["pid"] for one in done}) == 1


def test_without_an_engine_the_commands_say_so(engines: Engines) -> None:
    home = engines.home()
    for command in ("status", "config"):
        done = localflame(home, command)
        assert (done.returncode, done.stdout) == (5, "")
        assert done.stderr == f"No engine runs in {home}; start it with `python -m localflame start`.\n"
    assert localflame(home, "stop").returncode == 0
    assert find(home) is None
    assert stop(home) is False
    with pytest.raises(EngineError, match="No engine runs"):
        Control(home).settings("session", {})
    assert not home.exists()  # looking makes nothing


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


def test_a_killed_engine_loses_nothing_and_runs_the_task_again(engines: Engines, tmp_path: Path) -> None:
    home = engines.home()
    client = engines.start(home)
    application = client.register()
    session, closed = client.session(application, common_data=b"common"), client.session(application)
    done = client.create(session, text="done")
    assert client.watch(session, done)[-1].status.state == types.Succeed
    assert client.failure(session, do="fail")
    client.create(closed)
    client.watch(closed, "1")
    client.close_session(closed)
    client.put("app/session/object", b"base")
    for number in range(5):
        client.patch("app/session/object", b"%d" % number)
    rows = client.get("app/session/object")
    started, go = tmp_path / "started", tmp_path / "go"
    running = client.create(session, do="sleep", seconds=30, started=str(started), until=str(go))
    waiting = client.create(session, text="waits")
    eventually(started.exists, "the start of the task")
    status = client.control.status()
    ended = client.task(session, done)
    instances = [int(path.name.partition("-")[0]) for path in (home / "instances").iterdir()]
    assert len(instances) >= 1
    os.kill(status["pid"], signal.SIGKILL)
    eventually(lambda: find(home) is None, "the end of the engine")

    started.unlink()
    again = engines.start(home)
    assert not any(alive(pid) for pid in instances)
    assert again.control.status()["sessions"] == status["sessions"] == {"open": 1, "closed": 1}
    assert again.get("app/session/object") == rows
    assert again.task(session, done) == ended
    assert again.get_session(session).spec.common_data == b"common"
    assert again.get_session(closed).status.state == types.Closed
    eventually(started.exists, "the start of the task in the new engine")
    assert again.get_session(session).status.failed == 1
    go.touch()
    assert again.watch(session, running)[-1:] != []
    assert json.loads(again.task(session, running).spec.output)["tasks"] == 1
    assert again.watch(session, waiting)[-1].status.state == types.Succeed
    assert again.create(session) == "5"


def test_a_process_that_got_a_leftovers_number_is_left_alone(engines: Engines) -> None:
    home = engines.home()
    client = engines.start(home)
    os.kill(find_pid(client), signal.SIGKILL)
    eventually(lambda: find(home) is None, "the end of the engine")
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as innocent:
        (home / "instances" / f"{innocent.pid}-1").write_text("/tmp/some-socket")
        engines.start(home)
        assert alive(innocent.pid)
        innocent.kill()
    assert list((home / "instances").iterdir()) == []


@pytest.mark.parametrize("how", ["stop", "SIGTERM"])
def test_an_engine_that_leaves_ends_its_instances(engines: Engines, how: str, tmp_path: Path) -> None:
    home = engines.home()
    client = engines.start(home)
    application = client.register()
    idle, busy = client.session(application), client.session(application)
    pids = [client.run(idle)["pid"], client.run(busy)["pid"]]
    started = tmp_path / "started"
    client.create(busy, do="sleep", seconds=30, started=str(started))
    eventually(started.exists)
    engine = find_pid(client)
    if how == "stop":
        assert localflame(home, "stop").returncode == 0
    else:
        os.kill(engine, signal.SIGTERM)
    eventually(lambda: not alive(engine), "the end of the engine")
    assert not any(alive(pid) for pid in pids)
    logs = [path.read_text() for path in (home / "logs").glob("*.out")]
    assert any(f"left {idle}" in text for text in logs)
    assert "Traceback" not in (home / "logs" / "engine.log").read_text()
    assert not (home / "engine.json").exists()
    assert list((home / "instances").iterdir()) == []


def test_a_start_while_the_engine_leaves_gets_a_new_one(engines: Engines) -> None:
    home = engines.home()
    client = engines.start(home)
    client.run(client.session(client.register()))
    old = find_pid(client)
    os.kill(old, signal.SIGTERM)
    assert find_pid(engines.start(home)) != old


def test_an_engine_that_nobody_needs_leaves_by_itself(engines: Engines) -> None:
    home = engines.home()
    client = engines.start(home, LOCALFLAME_IDLE="2")
    pid = find_pid(client)
    session = client.session(client.register(delay_release=0))
    assert client.run(session, do="sleep", seconds=4)  # a task and a connection keep it
    time.sleep(3.0)
    assert alive(pid)
    client.close()
    eventually(lambda: not alive(pid), "the end of the engine")
    assert find(home) is None


def test_serve_stays_in_the_foreground(engines: Engines) -> None:
    home = engines.home()
    with subprocess.Popen(
        [sys.executable, "-m", "localflame", "serve"],
        env={**os.environ, "LOCALFLAME_HOME": str(home)},
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        where = json.loads(process.stdout.readline())
        assert where["pid"] == process.pid
        assert find(home) is not None
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


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


def test_an_unknown_request_on_the_control_socket_is_answered(client: Client) -> None:
    from localflame.control import ask

    with pytest.raises(EngineError, match="does not know the request 'dance'"):
        ask(Home(client.home), {"do": "dance"})
    assert client.control.status()["pid"]


def test_nodes_and_executors_are_listed_for_flmctl(client: Client, echo: str) -> None:
    session = client.session(echo)
    client.run(session)
    (executor,) = [other for other in client.executors() if other.status.session_id == session]
    (node,) = client.frontend.ListNodes(messages.ListNodesRequest()).nodes
    assert executor.spec.node == node.metadata.name
    assert executor.metadata.id
    assert executor.spec.resreq.cpu == 1


def test_an_engine_that_has_just_begun_to_start_can_be_stopped(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environment = {**os.environ, "LOCALFLAME_HOME": str(home)}
    command = [sys.executable, "-m", "localflame", "serve"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as engine:
        try:
            eventually(lambda: Home(home).is_locked())
            assert stop(home) is True
            assert engine.wait(10) == 0
        finally:
            engine.kill()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="only /proc says what a process has left")
def test_stop_is_done_when_the_process_is_gone(tmp_path: Path) -> None:
    engine = start(tmp_path / "home")
    assert stop(engine.home)
    with contextlib.suppress(FileNotFoundError):  # otherwise nobody has asked yet how it ended
        assert Path(f"/proc/{engine.pid}/cmdline").read_bytes() == b""


def test_stop_is_done_when_another_engine_has_taken_over(tmp_path: Path) -> None:
    first = start(tmp_path / "home")
    taken: list[int] = []

    def take_over() -> None:
        while find(first.home) is not None:
            time.sleep(0.005)
        taken.append(start(first.home).pid)

    waiting = threading.Thread(target=take_over)
    waiting.start()
    try:
        assert stop(first.home)
        waiting.join(30)
        assert taken and taken[0] != first.pid
    finally:
        waiting.join(30)
        stop(first.home)


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
    for name in ("frontend", "cache", "control"):
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


def test_an_engine_may_open_more_files_than_most_programs(engines: Engines) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    command = [sys.executable, "-m", "localflame", "serve"]
    home = engines.home()
    with subprocess.Popen(
        ["/bin/sh", "-c", f"ulimit -S -n 256; exec {shlex.join(command)}"],
        env={**os.environ, "LOCALFLAME_HOME": str(home)},
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["pid"] == process.pid
            assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[0] == min(hard, 65_536)
        finally:
            process.send_signal(signal.SIGINT)
    assert soft <= hard


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


def test_an_engine_ends_although_clients_hold_calls_that_they_have_begun(engines: Engines) -> None:
    home = engines.home()
    engines.start(home)
    engine = find(home)
    assert engine is not None
    with contextlib.ExitStack() as held:
        for where, method in (
            (engine.frontend_socket, b"/flame.v1.Frontend/ListNodes"),
            (engine.frontend_socket, b"/flame.v1.Frontend/\xe3"),
            (engine.cache_socket, b"/arrow.flight.protocol.FlightService/DoPut"),
            (engine.cache_socket, b"/arrow.flight.protocol.FlightService/DoExchange"),
        ):
            connection = held.enter_context(socket.socket(socket.AF_UNIX))
            connection.connect(str(where))
            connection.sendall(request(method)[:-14])  # without its message, which is the last frame
            time.sleep(0.2)
        assert stop(home)
    assert not alive(engine.pid)
    assert start(home).pid != engine.pid
