"""The frontend over gRPC: applications, sessions, tasks, with Flame's statuses and messages."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from flamewire.stubs import frontend as messages
from flamewire.stubs import types
from tests.integration.engine.client import alive, eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.integration.engine.client import Client, Engines

NOT_FOUND, INVALID = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT


def refused(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    """How a call is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return error.code(), error.details()


def open_session(client: Client, id: str, **spec: Any) -> Any:
    session = types.SessionSpec(**spec) if spec else None
    return client.frontend.OpenSession(messages.OpenSessionRequest(session_id=id, session=session))


def test_an_application_is_kept_with_flames_defaults(client: Client, tmp_path: Path) -> None:
    name = client.register(description="echoes", labels=["a"], working_directory=str(tmp_path))
    application = client.frontend.GetApplication(messages.GetApplicationRequest(name=name))
    assert application.metadata.id == application.metadata.name == name
    assert application.spec.max_instances == 1_000_000
    assert application.spec.delay_release == 60
    assert application.spec.shim == types.Host
    assert application.spec.working_directory == str(tmp_path)
    listed = client.frontend.ListApplication(messages.ListApplicationRequest()).applications
    assert [other for other in listed if other.metadata.name == name] == [application]


def test_an_application_name_is_taken_once(client: Client, echo: str) -> None:
    spec = types.ApplicationSpec(command="true")
    again = client.frontend.RegisterApplication(messages.RegisterApplicationRequest(name=echo, application=spec))
    assert (again.return_code, again.message) == (-1, f"Application '{echo}' already exists")


@pytest.mark.parametrize("name", ["", ".a", "-a", "a/b", "a..b", "a b", "a" * 254])
def test_a_bad_application_name_is_refused(client: Client, name: str) -> None:
    spec = types.ApplicationSpec(command="true")
    result = client.frontend.RegisterApplication(messages.RegisterApplicationRequest(name=name, application=spec))
    assert result.return_code == -1


def test_an_application_is_updated_and_unregistered_without_open_sessions_only(client: Client) -> None:
    name = client.register()
    session = client.session(name)
    spec = types.ApplicationSpec(command="false")
    update = messages.UpdateApplicationRequest(name=name, application=spec)
    unregister = messages.UnregisterApplicationRequest(name=name)
    assert "has open sessions" in client.frontend.UpdateApplication(update).message
    assert "has open sessions" in client.frontend.UnregisterApplication(unregister).message
    client.close_session(session)
    assert client.frontend.UpdateApplication(update).return_code == 0
    assert client.frontend.GetApplication(messages.GetApplicationRequest(name=name)).spec.command == "false"
    assert client.frontend.UnregisterApplication(unregister).return_code == 0
    assert refused(lambda: client.get_session(session))[0] is NOT_FOUND
    assert client.frontend.UnregisterApplication(unregister).return_code == -1


@pytest.mark.parametrize(
    ("spec", "code", "words"),
    [
        ({"working_directory": "relative"}, INVALID, "must be an absolute path"),
        ({"schema": {"input": "{"}}, INVALID, "invalid input schema"),
        ({"schema": {"output": '{"type": "nothing known"}'}}, INVALID, "invalid output schema"),
    ],
)
def test_what_an_application_cannot_be_is_said(
    client: Client, spec: dict[str, Any], code: grpc.StatusCode, words: str
) -> None:
    request = messages.RegisterApplicationRequest(name="never", application=types.ApplicationSpec(**spec))
    status, message = refused(lambda: client.frontend.RegisterApplication(request))
    assert status is code
    assert words in message


def test_tasks_of_the_wasm_shim_stay_pending_and_say_why(engines: Engines) -> None:
    client = engines.start(engines.home(), LOCALFLAME_IDLE="1")
    session = client.session(client.register(shim=types.Wasm), min_instances=1)
    task = client.create(session, text="never")
    found = client.task(session, task)
    assert found.status.state == types.Pending
    assert found.status.events[-1].message == "Task stays <Pending>: there is no executor of the wasm shim"
    echo = client.session(client.register(), max_instances=1)
    assert client.run(echo, text="others run")["text"] == "others run"
    assert {executor.status.session_id for executor in client.executors()} == {echo}
    assert client.task(session, task).status.state == types.Pending
    pid = client.control.status()["pid"]
    client.close()
    eventually(lambda: not alive(pid), "the end of the engine: nothing that could run waits for it")


def test_a_session_is_created_once_and_opened_often(client: Client, echo: str) -> None:
    id = client.session(echo, common_data=b"common", priority=3)
    create = messages.CreateSessionRequest(session_id=id, session=types.SessionSpec(application=echo))
    assert refused(lambda: client.frontend.CreateSession(create))[0] is grpc.StatusCode.ALREADY_EXISTS
    session = open_session(client, id)
    assert session.metadata.id == session.metadata.name == id
    assert session.spec.common_data == b"common"
    assert session.spec.resreq.cpu == 1
    assert session.spec.batch_size == 1
    assert session.status.state == types.Open
    assert session.status.creation_time > 0
    assert open_session(client, id, application=echo, max_instances=1, priority=3, common_data=b"other") == session


@pytest.mark.parametrize(
    ("different", "message"),
    [
        ({"max_instances": 2}, "max_instances differs (expected Some(1), got Some(2))"),
        ({"priority": 1}, "priority differs (expected 0, got 1)"),
        (
            {"resreq": {"cpu": 2}},
            "resreq differs (expected Some(ResourceRequirement { cpu: 1, memory: 1073741824, gpu: 0 }), "
            "got Some(ResourceRequirement { cpu: 2, memory: 0, gpu: 0 }))",
        ),
    ],
)
def test_a_session_is_not_opened_with_another_spec(
    client: Client, echo: str, different: dict[str, Any], message: str
) -> None:
    id = client.session(echo)
    spec = {"application": echo, "max_instances": 1, **different}
    assert refused(lambda: open_session(client, id, **spec)) == (INVALID, f"session <{id}> spec mismatch: {message}")


def test_open_creates_with_a_spec_only(client: Client, echo: str) -> None:
    assert refused(lambda: open_session(client, "nobody")) == (NOT_FOUND, "Session nobody not found")
    assert open_session(client, "somebody", application=echo).status.state == types.Open
    unknown = refused(lambda: open_session(client, "else", application="unknown"))
    assert unknown[0] is NOT_FOUND


def test_many_callers_that_get_or_create_get_one_session(client: Client, echo: str) -> None:
    opened: list[Any] = []
    threads = [
        threading.Thread(target=lambda: opened.append(open_session(client, "crowd", application=echo)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({session.status.creation_time for session in opened}) == 1
    assert len(opened) == 8


def test_a_closed_session_takes_nothing_and_can_be_deleted(client: Client, echo: str) -> None:
    id = client.session(echo, max_instances=0)  # nothing ever runs
    task = client.create(id)
    delete = messages.DeleteSessionRequest(session_id=id)
    assert refused(lambda: client.frontend.DeleteSession(delete)) == (
        grpc.StatusCode.INTERNAL,
        "Cannot delete open session",
    )
    closed = client.close_session(id)
    assert closed.status.state == types.Closed
    assert closed.status.cancelled == 1
    assert client.task(id, task).status.state == types.Cancelled
    assert client.close_session(id).status.state == types.Closed
    assert refused(lambda: client.create(id)) == (INVALID, "Cannot create task in closed session")
    assert refused(lambda: open_session(client, id)) == (INVALID, f"Session {id} is not open")
    assert client.frontend.DeleteSession(delete).metadata.id == id
    assert refused(lambda: client.get_session(id)) == (NOT_FOUND, id)
    assert refused(lambda: client.close_session(id)) == (NOT_FOUND, f"session <{id}>")
    assert refused(lambda: client.frontend.DeleteSession(delete)) == (NOT_FOUND, f"session <{id}>")
    open_session(client, id, application=echo)
    assert client.create(id) == "1"


def test_a_session_with_a_running_task_is_not_closed(client: Client, echo: str, tmp_path: Path) -> None:
    id = client.session(echo)
    started, go = tmp_path / "started", tmp_path / "go"
    task = client.create(id, do="sleep", seconds=30, started=str(started), until=str(go))
    updates = client.frontend.WatchTask(messages.WatchTaskRequest(session_id=id, task_id=task))
    assert next(updates).status.state == types.Running
    assert refused(lambda: client.close_session(id)) == (
        grpc.StatusCode.INTERNAL,
        "Cannot close session with running tasks",
    )
    assert client.get_session(id).status.running == 1
    assert client.task(id, task).status.events[-1].message == "Task state was updated to <Running>"
    go.touch()
    assert [update.status.state for update in updates] == [types.Succeed]


def test_a_task_is_watched_to_its_end(client: Client, echo: str) -> None:
    id = client.session(echo)
    task = client.create(id, text="hello")
    seen = client.watch(id, task)
    assert seen[-1].status.state == types.Succeed
    assert json.loads(seen[-1].spec.input)["text"] == json.loads(seen[-1].spec.output)["text"] == "hello"
    assert seen[-1].status.completion_time >= seen[-1].status.creation_time > 0
    assert client.watch(id, task) == seen[-1:]  # at once where it has ended
    assert client.watch(id, "99") == client.watch("nobody", "1") == []
    assert refused(lambda: client.watch(id, "one")) == (INVALID, "invalid task id")
    got = client.task(id, task)
    assert [(event.code, event.message) for event in got.status.events] == [
        (types.Pending, "Task was created with state <Pending>"),
        (types.Running, "Task state was updated to <Running>"),
        (types.Succeed, "Task was completed with state <Succeed>"),
    ]
    assert refused(lambda: client.task(id, "99")) == (NOT_FOUND, "99")
    assert refused(lambda: client.task("nobody", "1")) == (NOT_FOUND, "nobody")


def test_a_watcher_hears_that_its_session_was_closed(client: Client, echo: str) -> None:
    id = client.session(echo, max_instances=0)
    updates = client.frontend.WatchTask(messages.WatchTaskRequest(session_id=id, task_id=client.create(id)))
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.extend(updates))
    thread.start()
    client.close_session(id)
    thread.join(10)
    assert [update.status.state for update in seen] == [types.Cancelled]


def test_a_task_that_fails_says_why_and_is_not_repeated(client: Client, echo: str) -> None:
    id = client.session(echo)
    assert client.failure(id, do="fail") == "this task fails (code: 3)"
    assert client.run(id)["tasks"] == 2
    assert client.get_session(id).status.failed == 1


def test_output_and_input_can_be_absent(client: Client, echo: str) -> None:
    id = client.session(echo)
    done = client.watch(id, client.create(id, do="nothing"))[-1]
    assert not done.spec.HasField("output")
    bare = client.frontend.CreateTask(messages.CreateTaskRequest(task=types.TaskSpec(session_id=id)))
    assert not client.watch(id, bare.metadata.id)[-1].spec.HasField("input")


def test_tasks_are_listed_in_any_number(client: Client, echo: str) -> None:
    id = client.session(echo, max_instances=0)
    for count in range(30):
        client.create(id, count=count, text="x" * 300_000)
    listed = list(client.frontend.ListTask(messages.ListTaskRequest(session_id=id)))
    assert [task.metadata.id for task in listed] == [str(number) for number in range(1, 31)]
    assert json.loads(listed[29].spec.input)["count"] == 29
    unknown = messages.ListTaskRequest(session_id="nobody")
    assert refused(lambda: list(client.frontend.ListTask(unknown))) == (NOT_FOUND, "nobody")


def test_a_message_has_at_most_four_megabytes(client: Client, echo: str) -> None:
    id = client.session(echo)
    task = types.TaskSpec(session_id=id, input=b"x" * (4 * 1024**2 + 1))
    code, _ = refused(lambda: client.frontend.CreateTask(messages.CreateTaskRequest(task=task)))
    assert code is grpc.StatusCode.OUT_OF_RANGE
    assert "length too large" in client.failure(id, do="bytes", count=5 * 1024**2)
    assert client.run(id, text="goes on")["text"] == "goes on"


def test_this_machine_is_the_only_node(client: Client) -> None:
    (node,) = client.frontend.ListNodes(messages.ListNodesRequest()).nodes
    assert node.status.state == types.Ready
    assert client.frontend.GetNode(messages.GetNodeRequest(name=node.metadata.name)).node == node
    assert refused(lambda: client.frontend.GetNode(messages.GetNodeRequest(name="?"))) == (
        NOT_FOUND,
        "node <?> not found",
    )
