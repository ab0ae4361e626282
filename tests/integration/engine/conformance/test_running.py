"""What tasks, instances and executors do. Each of these was first seen on a Flame 0.6.0 cluster."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from flamewire.stubs import frontend as messages
from flamewire.stubs import types
from tests.integration.engine.client import SERVICE, alive, eventually

if TYPE_CHECKING:
    from tests.integration.engine.client import Client


@pytest.fixture(scope="module")
def echo(flame: Client) -> str:
    """An application that gives its executors back soon: a cluster may have two."""
    return flame.register(delay_release=0)


def events(client: Client, session: str, task: str) -> list[tuple[int, str]]:
    return [(event.code, event.message) for event in client.task(session, task).status.events]


def bind_failure(client: Client, session: str) -> str:
    """What the session's first event says, once there is one; then nothing is tried any more."""
    client.create(session)
    event = eventually(lambda: list(client.get_session(session).status.events), "an event of the session")[0]
    assert event.code == 1001
    executor, _, reason = event.message.partition(" failed to bind session with ")
    assert executor.startswith("Executor <")
    assert "> on node <" in executor
    eventually(lambda: closed(client, session), "the end of the session")
    return str(reason)


def closed(client: Client, session: str) -> bool:
    try:
        client.close_session(session)
    except grpc.RpcError:
        return False
    return True


class TestTasks:
    def test_tasks_run_one_at_a_time_lowest_id_first(self, flame: Client, echo: str) -> None:
        session = flame.session(echo, common_data=b"common")
        tasks = [flame.create(session, text=number) for number in range(6)]
        assert tasks == ["1", "2", "3", "4", "5", "6"]
        answers = [json.loads(flame.watch(session, task)[-1].spec.output) for task in tasks]
        assert [answer["text"] for answer in answers] == [0, 1, 2, 3, 4, 5]
        assert {answer["common"] for answer in answers} == {"common"}
        assert {answer["session"] for answer in answers} == {session}
        assert flame.get_session(session).status.succeed == 6

    def test_a_task_is_watched_and_leaves_its_events(self, flame: Client, echo: str, tmp_path: Path) -> None:
        session, go = flame.session(echo), tmp_path / "go"
        task = flame.create(session, do="sleep", seconds=60, until=str(go))
        updates = flame.frontend.WatchTask(messages.WatchTaskRequest(session_id=session, task_id=task))
        assert next(updates).status.state == types.Running
        late = flame.frontend.WatchTask(messages.WatchTaskRequest(session_id=session, task_id=task))
        (executor,) = [other for other in flame.executors() if other.status.session_id == session]
        assert executor.status.state == types.ExecutorBound
        assert executor.spec.shim == types.Host
        assert executor.spec.resreq.cpu == 1
        with pytest.raises(grpc.RpcError) as refused:
            flame.close_session(session)
        assert refused.value.code() is grpc.StatusCode.INTERNAL  # type: ignore[attr-defined]
        waiting = flame.create(session)
        assert flame.get_session(session).status.running == 1
        go.touch()
        for ending in (updates, late):
            assert [update.status.state for update in ending] == [types.Succeed]
        assert events(flame, session, task) == [
            (types.Pending, "Task was created with state <Pending>"),
            (types.Running, "Task state was updated to <Running>"),
            (types.Succeed, "Task was completed with state <Succeed>"),
        ]
        flame.watch(session, waiting)

    def test_a_task_that_fails_says_why_and_is_not_repeated(self, flame: Client, echo: str) -> None:
        session = flame.session(echo)
        task = flame.create(session, do="fail")
        failed = flame.watch(session, task)[-1]
        assert failed.status.state == types.Failed
        assert not failed.spec.HasField("output")
        assert events(flame, session, task)[1:] == [
            (types.Running, "Task state was updated to <Running>"),
            (types.Failed, "this task fails (code: 3)"),
        ]
        assert flame.get_session(session).status.failed == 1

    def test_an_empty_output_and_none_are_the_same(self, flame: Client, echo: str) -> None:
        session = flame.session(echo)
        for order in ({"do": "nothing"}, {"do": "bytes", "count": 0}):
            task = flame.watch(session, flame.create(session, **order))[-1]
            assert task.status.state == types.Succeed
            assert not task.spec.HasField("output")
            assert not flame.task(session, task.metadata.id).spec.HasField("output")

    def test_an_output_above_four_megabytes_fails_its_task(self, flame: Client, echo: str) -> None:
        session = flame.session(echo)
        message = flame.failure(session, do="bytes", count=5 * 1024**2)
        assert message == "Error, decoded message length too large: found 5242885 bytes, the limit is: 4194304 bytes"
        assert flame.run(session, text="goes on")["text"] == "goes on"

    def test_closing_cancels_what_waits(self, flame: Client, echo: str) -> None:
        session = flame.session(echo, max_instances=0)
        task = flame.create(session)
        updates = flame.frontend.WatchTask(messages.WatchTaskRequest(session_id=session, task_id=task))
        flame.close_session(session)
        assert [update.status.state for update in updates] == [types.Cancelled]
        assert events(flame, session, task) == [(types.Pending, "Task was created with state <Pending>")]


class TestInstances:
    def test_what_an_instance_finds(self, flame: Client, tmp_path: Path) -> None:
        folder = tmp_path / "made" / "here"
        application = flame.register(
            delay_release=0,
            working_directory=str(folder),
            arguments=[str(SERVICE), "${GREETING}, $NAME", "$$${ABSENT:-nobody}", "${ABSENT}", "${FLAME_ENDPOINT}"],
            environments={"GREETING": "hello", "NAME": "${PATH}", "BROKEN": "a${ABSENT}${PATH}", "RUST_LOG": "own"},
        )
        names = ["NAME", "PATH", "BROKEN", "FLAME_ENDPOINT", "FLAME_CACHE_ENDPOINT", "RUST_LOG", "FLAME_LOG"]
        answer = flame.run(flame.session(application), names=[*names, "TMPDIR", "TEMP", "FLAME_INSTANCE_ENDPOINT"])
        environment = answer["environment"]
        assert environment["NAME"] == environment["PATH"]
        assert answer["arguments"] == [f"hello, {environment['PATH']}", "$nobody", "${ABSENT}", flame.endpoint]
        assert environment["BROKEN"] == "a${ABSENT}${PATH}"  # all of a value is expanded, or none
        assert environment["FLAME_ENDPOINT"] == flame.endpoint
        assert environment["FLAME_CACHE_ENDPOINT"] == flame.cache_endpoint
        assert environment["RUST_LOG"] == environment["FLAME_LOG"] != "own"
        assert environment["TMPDIR"] == environment["TEMP"]
        assert answer["directory"] == str(folder)  # made where it was not there
        assert answer["group"]
        eventually(lambda: not Path(environment["TMPDIR"]).exists(), "the removal of the temporary folder")
        assert not Path(environment["FLAME_INSTANCE_ENDPOINT"]).exists()
        assert folder.is_dir()

    def test_an_own_temporary_folder_is_kept(self, flame: Client, tmp_path: Path) -> None:
        application = flame.register(delay_release=0, environments={"TMPDIR": str(tmp_path)})
        answer = flame.run(flame.session(application), names=["TMPDIR"])
        assert answer["environment"]["TMPDIR"] == str(tmp_path)

    def test_without_a_folder_it_runs_in_one_of_its_own(self, flame: Client, echo: str) -> None:
        answer = flame.run(flame.session(echo))
        assert answer["directory"] != str(Path.cwd())
        eventually(lambda: not Path(answer["directory"]).exists(), "the removal of the folder")

    def test_the_session_comes_with_its_application(self, flame: Client, tmp_path: Path) -> None:
        application = flame.register(
            delay_release=0, working_directory=str(tmp_path), image="image:1", url="file:///x"
        )
        told = json.loads(
            flame.watch(session := flame.session(application), flame.create(session, do="application"))[
                -1
            ].spec.output
        )
        assert told["name"] == application
        assert told["image"] == "image:1"
        assert told["command"] == sys.executable
        assert told["working_directory"] == str(tmp_path)
        assert told["url"] == "file:///x"

    def test_an_executor_leaves_after_delay_release(self, flame: Client, tmp_path: Path) -> None:
        session = flame.session(flame.register(delay_release=1))
        marker = tmp_path / "told"
        first = json.loads(
            flame.watch(session, flame.create(session, do="child", marker=str(marker)))[-1].spec.output
        )
        assert flame.run(session)["pid"] == first["pid"]
        eventually(lambda: not alive(first["pid"]), "the end of the instance")
        eventually(marker.exists, "SIGTERM to the whole process group")
        assert flame.run(session)["pid"] != first["pid"]

    def test_closing_a_session_ends_its_instance(self, flame: Client) -> None:
        session = flame.session(flame.register(delay_release=600))
        pid = flame.run(session)["pid"]
        flame.close_session(session)
        eventually(lambda: not alive(pid), "the end of the instance")

    def test_a_program_that_is_missing(self, flame: Client) -> None:
        reason = bind_failure(flame, flame.session(flame.register(command="/no/such/${HOME}")))
        assert reason.startswith(
            "return_code <11>: shim creation failed: failed to start service by command </no/such//"
        )
        assert "No such file or directory (os error 2)" in reason

    def test_an_instance_that_refuses_its_session(self, flame: Client) -> None:
        reason = bind_failure(flame, flame.session(flame.register(environments={"ECHO_ENTER": "refuse"})))
        assert reason.startswith("return_code <12>: on_session_enter failed: not this session")


class TestExecutors:
    def test_a_session_without_a_limit_runs_in_parallel(self, flame: Client, echo: str, tmp_path: Path) -> None:
        session, go = flame.session(echo, max_instances=2), tmp_path / "go"
        tasks = [flame.create(session, do="sleep", seconds=60, until=str(go)) for _ in range(3)]
        eventually(lambda: flame.get_session(session).status.running == 2, "two running tasks")
        assert flame.get_session(session).status.pending == 1
        go.touch()
        for task in tasks:
            assert flame.watch(session, task)[-1].status.state == types.Succeed

    def test_least_instances_come_without_a_task(self, flame: Client, echo: str) -> None:
        session = flame.session(echo, min_instances=1, max_instances=1)
        eventually(lambda: any(other.status.session_id == session for other in flame.executors()), "an executor")
        flame.close_session(session)

    def test_a_batch_starts_whole(self, flame: Client, echo: str, tmp_path: Path) -> None:
        session, go = flame.session(echo, max_instances=2, batch_size=2), tmp_path / "go"
        first = flame.create(session, do="sleep", seconds=60, until=str(go))
        # A session that asks later is served meanwhile.
        assert flame.run(flame.session(echo), text="meanwhile")["text"] == "meanwhile"
        assert flame.get_session(session).status.pending == 1
        second = flame.create(session, do="sleep", seconds=60, until=str(go))
        eventually(lambda: flame.get_session(session).status.running == 2, "two running tasks")
        go.touch()
        for task in (first, second):
            assert flame.watch(session, task)[-1].status.state == types.Succeed

    def test_while_a_higher_priority_waits_nothing_lower_starts(
        self, flame: Client, echo: str, tmp_path: Path
    ) -> None:
        go = tmp_path / "go"
        high, low = flame.session(echo, priority=5), flame.session(echo)
        tasks = [flame.create(high, do="sleep", seconds=60, until=str(go)) for _ in range(2)]
        eventually(lambda: flame.get_session(high).status.running == 1, "the first task")
        late = flame.create(low)
        behind = flame.create(flame.session(echo, priority=5))
        assert flame.watch(flame._sessions[-1], behind)[-1].status.state == types.Succeed
        assert flame.get_session(low).status.pending == 1
        go.touch()
        for task in tasks:
            flame.watch(high, task)
        assert flame.watch(low, late)[-1].status.state == types.Succeed


BACKEND = """
import zipfile

KIND = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"

def build_wheel(directory, settings=None, metadata=None):
    name = "packed-1-py3-none-any.whl"
    with zipfile.ZipFile(directory + "/" + name, "w") as wheel:
        wheel.writestr("packed.py", "VALUE = 'from the wheel'")
        wheel.writestr("packed-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: packed\\nVersion: 1\\n")
        wheel.writestr("packed-1.dist-info/WHEEL", KIND)
        wheel.writestr("packed-1.dist-info/RECORD", "")
    return name
"""
PROJECT = """
[project]
name = "packed"
version = "1"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


def archive(path: Path, **files: str) -> str:
    """A .tar.gz of these files; its URL."""
    with tarfile.open(path, "w:gz") as packed:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o755
            packed.addfile(entry, io.BytesIO(text.encode()))
    return path.as_uri()


class TestPackages:
    """Needs uv where the executors are."""

    version = f"{sys.version_info.major}.{sys.version_info.minor}"

    def test_a_python_package_is_installed(self, flame: Client, tmp_path: Path) -> None:
        url = archive(tmp_path / "packed.tar.gz", **{"pyproject.toml": PROJECT, "backend.py": BACKEND})
        application = flame.register(
            url=url,
            installer="python",
            delay_release=0,
            environments={"FLAME_PYTHON_VERSION": self.version, "PYTHONPATH": "/own"},
        )
        answer = flame.run(flame.session(application), names=["PYTHONPATH", "FLAME_PYTHON_VERSION", "UV_CACHE_DIR"])
        dependencies, source, *_, own = answer["environment"]["PYTHONPATH"].split(":")
        assert (Path(dependencies) / "packed.py").read_text() == "VALUE = 'from the wheel'"
        assert (Path(source) / "backend.py").is_file()
        assert f"/data/apps/{application}/releases/" in dependencies
        assert own == "/own"
        assert answer["environment"]["FLAME_PYTHON_VERSION"] == self.version
        assert Path(answer["environment"]["UV_CACHE_DIR"]).is_dir()

    def test_a_package_comes_from_the_object_cache(self, flame: Client, tmp_path: Path) -> None:
        archive(tmp_path / "run.tar.gz", **{"bin/start": f'#!/bin/sh\nexec {sys.executable} "$@"\n'})
        key = f"conformance-{os.getpid()}/pkg/run.tar.gz"
        flame.put(key, (tmp_path / "run.tar.gz").read_bytes())
        application = flame.register(
            url=f"{flame.cache_endpoint}/{key}",
            installer="Binary",
            command="/bin/sh",
            delay_release=0,
            arguments=["-c", f"exec start {SERVICE}"],
        )
        answer = flame.run(flame.session(application), names=["FLAME_APP_DIR", "PATH", "LD_LIBRARY_PATH"])
        folder = answer["environment"]["FLAME_APP_DIR"]
        assert answer["environment"]["PATH"].startswith(f"{folder}/bin:{folder}:")
        assert answer["environment"]["LD_LIBRARY_PATH"].startswith(f"{folder}/libs")
        flame.delete(key)

    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            (
                {"installer": "conda", "url": "file:///x.tar.gz"},
                "Unknown installer type: conda. Supported types: binary, python",
            ),
            (
                {"installer": "binary", "url": "ftp://x/y.tar.gz"},
                "unsupported scheme: ftp. Supported: file, http, https, grpc, grpcs",
            ),
            ({"installer": "binary", "url": "x.tar.gz"}, "invalid url: relative URL without a base"),
            (
                {"installer": "binary", "url": "file:///nowhere/x.tar.gz"},
                "failed to copy package from /nowhere/x.tar.gz: No such file or directory (os error 2)",
            ),
        ],
    )
    def test_a_package_that_cannot_be_had(self, flame: Client, spec: dict[str, Any], words: str) -> None:
        reason = bind_failure(flame, flame.session(flame.register(**spec)))
        assert reason.startswith(f"return_code <10>: application installation failed: {words}")

    def test_a_package_without_a_project_is_refused(self, flame: Client, tmp_path: Path) -> None:
        url = archive(tmp_path / "empty.tar.gz", readme="nothing")
        reason = bind_failure(flame, flame.session(flame.register(url=url, installer="python")))
        assert reason.startswith("return_code <10>: application installation failed: No Python package found in /")
        odd = (tmp_path / "package.rar").as_uri()
        (tmp_path / "package.rar").touch()
        reason = bind_failure(flame, flame.session(flame.register(url=odd, installer="binary")))
        assert reason.startswith(
            "return_code <10>: application installation failed: unsupported archive format: package.rar"
        )
