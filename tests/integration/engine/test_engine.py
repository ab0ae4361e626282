"""The engine's process: started, found, killed, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flamewire.stubs import frontend as messages
from flamewire.stubs import types
from localflame import Control, EngineError, find, start, stop
from localflame.home import Home
from tests.integration.engine.client import REPOSITORY, alive, eventually, find_pid, localflame
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
    assert "clients still hold calls" not in (home / "logs" / "engine.log").read_text()


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
