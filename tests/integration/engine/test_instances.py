"""Instances: what they are started with, and what happens when they end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flamewire.stubs import frontend as messages
from flamewire.stubs import types
from localflame import EngineError
from localflame.home import Home
from localflame.instance.errors import InstanceLost
from localflame.instance.host_shim import Instance
from localflame.instance.plan import Plan
from tests.integration.engine.client import SERVICE, alive, eventually

if TYPE_CHECKING:
    from tests.integration.engine.client import Client


def test_a_session_keeps_its_instance(client: Client, echo: str) -> None:
    session = client.session(echo, common_data=b"common")
    first, second = client.run(session), client.run(session)
    assert (first["pid"], first["tasks"], second["tasks"]) == (second["pid"], 1, 2)
    assert first["session"] == session
    assert first["common"] == "common"
    other = client.session(echo)
    assert client.run(other)["pid"] != first["pid"]
    assert client.run(other)["common"] is None


def test_tasks_of_one_instance_run_in_order(client: Client, echo: str) -> None:
    session = client.session(echo)
    tasks = [client.create(session, number=number) for number in range(20)]
    answers = [json.loads(client.watch(session, task)[-1].spec.output) for task in tasks]
    assert [answer["tasks"] for answer in answers] == list(range(1, 21))


def test_a_session_without_a_limit_runs_in_parallel(client: Client, echo: str, tmp_path: Path) -> None:
    id = f"parallel-{time.time_ns()}"
    spec = types.SessionSpec(application=echo)
    client.frontend.CreateSession(messages.CreateSessionRequest(session_id=id, session=spec))
    go = tmp_path / "go"
    tasks = [client.create(id, do="sleep", seconds=60, until=str(go)) for _ in range(3)]
    eventually(lambda: client.get_session(id).status.running == 3, "three running tasks")
    assert sum(executor.status.session_id == id for executor in client.executors()) == 3
    go.touch()
    assert {client.watch(id, task)[-1].status.state for task in tasks} == {types.Succeed}
    client.close_session(id)


def test_an_instance_gets_its_folder_environment_and_arguments(client: Client, tmp_path: Path) -> None:
    application = client.register(
        working_directory=str(tmp_path),
        arguments=[str(SERVICE), "${GREETING}, $NAME", "$$${ABSENT:-nobody}", "${ABSENT}"],
        environments={"GREETING": "hello", "NAME": "${TEST_INHERITED}", "UNKNOWN": "a${ABSENT}${TEST_INHERITED}"},
    )
    names = ["NAME", "UNKNOWN", "FLAME_ENDPOINT", "FLAME_CACHE_ENDPOINT", "RUST_LOG", "TMPDIR", "TEST_INHERITED"]
    answer = client.run(client.session(application), names=names)
    environment = answer["environment"]
    assert answer["arguments"] == ["hello, from the engine", "$nobody", "${ABSENT}"]
    assert answer["directory"] == str(tmp_path)
    assert environment["NAME"] == environment["TEST_INHERITED"] == "from the engine"
    assert environment["UNKNOWN"] == "a${ABSENT}${TEST_INHERITED}"  # Flame expands all of a value or none
    assert environment["FLAME_ENDPOINT"] == client.endpoint
    assert environment["FLAME_CACHE_ENDPOINT"] == client.cache_endpoint
    assert environment["RUST_LOG"] == "info"
    assert Path(environment["TMPDIR"]).is_dir()
    assert Path(environment["TMPDIR"]).is_relative_to(client.home)
    assert list(tmp_path.iterdir()) == []  # nothing is left in the user's folder


def test_an_instance_has_the_umask_of_the_engines_starter(client: Client, echo: str) -> None:
    own = os.umask(0o22)
    os.umask(own)
    assert client.run(client.session(echo))["umask"] == own


def test_an_instance_that_dies_is_replaced_and_its_task_runs_again(client: Client, echo: str, tmp_path: Path) -> None:
    session = client.session(echo)
    first = client.run(session)["pid"]
    task = client.create(session, do="exit once", marker=str(tmp_path / "marker"))
    answer = json.loads(client.watch(session, task)[-1].spec.output)
    assert answer["pid"] != first
    states = [(event.code, event.message) for event in client.task(session, task).status.events]
    assert [code for code, _ in states] == [0, 1, 0, 1, 2]
    assert "SIGKILL" in states[2][1]
    assert client.run(session)["pid"] == answer["pid"]


def test_a_task_that_kills_two_instances_fails_with_the_last_lines(client: Client, echo: str) -> None:
    session = client.session(echo)
    message = client.failure(session, do="exit")
    assert "exited with code 3" in message
    assert "the last words" in message
    assert client.run(session, text="goes on")["text"] == "goes on"


def test_an_instance_that_never_comes_up_fails_its_task(client: Client) -> None:
    application = client.register(command="/bin/sh", arguments=["-c", "echo no such luck >&2; exit 7"])
    session = client.session(application)
    message = client.failure(session)
    assert "exited with code 7" in message
    assert "no such luck" in message
    assert [event.code for event in client.get_session(session).status.events] == [1001, 1001]
    missing = client.failure(client.session(client.register(command="/no/such/command")))
    assert missing.startswith("shim creation failed: failed to start service by command </no/such/command>")
    gone = client.failure(client.session(client.register(working_directory="/dev/null/folder")))
    assert "/dev/null/folder" in gone


def test_an_instance_that_refuses_its_session_fails_its_task(client: Client) -> None:
    application = client.register(environments={"ECHO_ENTER": "refuse"})
    assert "on_session_enter failed: not this session" in client.failure(client.session(application))


def test_an_executor_leaves_after_delay_release(client: Client) -> None:
    session = client.session(client.register(delay_release=1))
    first = client.run(session)["pid"]
    executor = next(executor for executor in client.executors() if executor.status.session_id == session)
    assert executor.status.state == types.ExecutorBound
    eventually(lambda: not alive(first), "the end of the instance")
    eventually(lambda: all(other.status.session_id != session for other in client.executors()))
    assert f"left {session}" in (client.home / "logs" / f"{executor.metadata.id}.out").read_text()
    assert client.run(session)["pid"] != first


def cpu_seconds(pid: int) -> float:
    """The processor's time that a process has had; 0 where nothing says so."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_session_keeps_its_least_instances(client: Client) -> None:
    session = client.session(client.register(delay_release=0), min_instances=1, max_instances=1)
    eventually(lambda: any(executor.status.session_id == session for executor in client.executors()))
    pid = client.run(session)["pid"]
    before = cpu_seconds(client.control.status()["pid"])
    time.sleep(1.5)
    assert cpu_seconds(client.control.status()["pid"]) - before < 0.2  # it waits, and does not ask again and again
    assert client.run(session)["pid"] == pid
    client.close_session(session)
    eventually(lambda: not alive(pid), "the end of the instance")


async def test_an_instance_that_never_binds_is_given_up_and_ended(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    plan = Plan("never", "/bin/sh", ("-c", "echo waiting; echo $$$$ > pid; sleep 60"), str(tmp_path), os.environ)
    with pytest.raises(
        InstanceLost, match=r"the instance did not come up in 1 seconds; the end of its log:\nwaiting"
    ):
        await Instance.launch(home, tmp_path, "an-executor", plan, {}, 0o22, patience=0.6)
    assert not alive(int((tmp_path / "pid").read_text()))
    assert list(home.instances.iterdir()) == list(home.temporary.iterdir()) == []


def test_closing_a_session_ends_its_instance(client: Client, echo: str) -> None:
    session = client.session(echo)
    pid = client.run(session)["pid"]
    client.close_session(session)
    eventually(lambda: not alive(pid), "the end of the instance")


def test_idle_executors_yield_to_sessions_that_wait(client: Client) -> None:
    application = client.register(delay_release=600)
    limit = client.control.status()["executors"]
    sessions = [client.session(application) for _ in range(limit + 2)]
    assert [client.run(session)["tasks"] for session in sessions] == [1] * len(sessions)
    for session in sessions:
        client.close_session(session)


def test_a_session_that_has_all_executors_gives_one_to_a_session_that_has_none(client: Client) -> None:
    application = client.register(delay_release=600)
    limit = client.control.status()["executors"]
    greedy = client.session(application, max_instances=2 * limit)
    tasks = [client.create(greedy, do="sleep", seconds=0.2) for _ in range(8 * limit)]
    eventually(lambda: client.get_session(greedy).status.running == limit, "all executors at work")
    assert client.run(client.session(application))["tasks"] == 1
    assert client.get_session(greedy).status.pending > 0
    assert {client.watch(greedy, task)[-1].status.state for task in tasks} == {types.Succeed}
    client.close_session(greedy)


def test_what_an_instance_started_ends_with_it(client: Client, tmp_path: Path) -> None:
    child = tmp_path / "child"
    script = f"trap '' TERM; sleep 60 & echo $! > {child}; exec \"$0\" {SERVICE}"
    application = client.register(command="/bin/sh", arguments=["-c", script, sys.executable])
    session = client.session(application)
    pid = client.run(session)["pid"]
    os.kill(pid, signal.SIGKILL)
    # The group is given its grace, then killed: the child ignores SIGTERM.
    eventually(lambda: not alive(int(child.read_text())), "the end of the child")
    client.close_session(session)


class TestSettings:
    """What the control socket says about a session's environment."""

    def test_they_hold_from_the_next_task_on(self, client: Client) -> None:
        application = client.register(environments={"TEST_API_KEY": "of the application"})
        names = ["TEST_API_KEY", "OTHER_API_KEY", "TEST_INHERITED", "TEST_NEW"]
        session = client.session(application)
        plain = client.run(session, names=names)
        assert plain["environment"] == {
            "TEST_API_KEY": "of the application",
            "OTHER_API_KEY": "the engine's",
            "TEST_INHERITED": "from the engine",
            "TEST_NEW": None,
        }
        settings = {"TEST_API_KEY": "secret-of-the-client", "TEST_NEW": "new"}
        client.control.settings(session, settings, ["*_API_KEY"])
        told = client.run(session, names=names)
        assert told["pid"] != plain["pid"]
        assert told["environment"] == {
            "TEST_API_KEY": "secret-of-the-client",
            "OTHER_API_KEY": None,
            "TEST_INHERITED": "from the engine",
            "TEST_NEW": "new",
        }
        client.control.settings(session, dict(settings), ["*_API_KEY"])  # the same again changes nothing
        assert client.run(session)["pid"] == told["pid"]

    def test_those_of_an_application_are_for_sessions_that_have_none(self, client: Client) -> None:
        application, names = client.register(), ["TEST_NEW", "OTHER_API_KEY"]
        plain, told = client.session(application), client.session(application)
        client.control.settings(told, {"TEST_NEW": "of the session"})
        before = client.run(plain, names=names)
        assert before["environment"] == {"TEST_NEW": None, "OTHER_API_KEY": "the engine's"}
        client.control.default_settings(application, {"TEST_NEW": "of the application"}, ["*_API_KEY"])
        after = client.run(plain, names=names)
        assert after["environment"] == {"TEST_NEW": "of the application", "OTHER_API_KEY": None}
        assert after["pid"] != before["pid"]
        own = client.run(told, names=names)["environment"]
        assert own == {"TEST_NEW": "of the session", "OTHER_API_KEY": "the engine's"}
        assert client.run(client.session(application), names=names)["environment"] == after["environment"]

    def test_they_can_be_told_before_the_session_is_made(self, client: Client, echo: str) -> None:
        id = f"later-{time.time_ns()}"
        client.control.settings(id, {"TEST_NEW": "early"})
        spec = types.SessionSpec(application=echo, max_instances=1)
        client.frontend.CreateSession(messages.CreateSessionRequest(session_id=id, session=spec))
        assert client.run(id, names=["TEST_NEW"])["environment"] == {"TEST_NEW": "early"}

    def test_keys_are_written_nowhere(self, client: Client, echo: str, tmp_path: Path) -> None:
        session = client.session(echo)
        client.control.settings(session, {"TEST_API_KEY": "sk-0123456789"}, ["*_API_KEY"])
        task = client.create(session, do="exit once", marker=str(tmp_path / "marker"))  # prints its key, and dies
        assert client.watch(session, task)[-1].status.state == types.Succeed
        events = [event.message for event in client.task(session, task).status.events]
        assert any("***" in message for message in events)
        files = [path for path in client.home.rglob("*") if path.is_file() and path.suffix != ".out"]
        assert not [path for path in files if b"sk-0123456789" in path.read_bytes()]


class TestApplication:
    """Registering over the control socket."""

    def register(self, client: Client, name: str, folder: Path, **fields: Any) -> None:
        client.control.application(name, folder=folder, command=sys.executable, arguments=[str(SERVICE)], **fields)

    def test_an_application_follows_its_folder(self, client: Client, tmp_path: Path) -> None:
        name, first, second = f"moving-{time.time_ns()}", tmp_path / "first", tmp_path / "second"
        first.mkdir()
        self.register(client, name, first, delay_release=600, labels=["a"], description="moves")
        spec = client.frontend.GetApplication(messages.GetApplicationRequest(name=name)).spec
        assert (spec.delay_release, list(spec.labels), spec.description) == (600, ["a"], "moves")
        session = client.session(name)
        pid = client.run(session)["pid"]
        self.register(client, name, first, delay_release=600, labels=["a"], description="moves")
        assert client.run(session)["pid"] == pid
        self.register(client, name, first, delay_release=600, environments={"TEST_NEW": "set"})
        changed = client.run(session, names=["TEST_NEW"])
        assert changed["environment"] == {"TEST_NEW": "set"}
        first.rename(second)
        self.register(client, name, second, delay_release=600)
        assert client.run(session)["directory"] == str(second)

    def test_two_folders_under_one_name_are_refused(self, client: Client, tmp_path: Path) -> None:
        name, first, second = f"twice-{time.time_ns()}", tmp_path / "first", tmp_path / "second"
        first.mkdir()
        second.mkdir()
        self.register(client, name, first)
        with pytest.raises(EngineError) as caught:
            self.register(client, name, second)
        assert str(first) in str(caught.value)
        assert str(second) in str(caught.value)
        with contextlib.suppress(OSError):
            (tmp_path / "link").symlink_to(first)
            self.register(client, name, tmp_path / "link")
