"""The warm pool: a spare instance, ready before its session is."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.engine.client import SERVICE, alive, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.engine.client import Client


@pytest.fixture
def register(client: Client, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Registers an application of the test's own that has a spare, or updates it."""
    name = f"spare-{request.node.name}"

    def register(**changed: Any) -> str:
        fields = {
            "folder": tmp_path,
            "command": sys.executable,
            "arguments": [str(SERVICE)],
            "spare": True,
            **changed,
        }
        client.control.application(name, **fields)
        return name

    request.addfinalizer(lambda: register(spare=False))
    return register


def spare_of(client: Client, *others: int) -> int:
    """The process ID of an instance that was started as a spare and is none of the others, once there is one."""

    def found() -> int | None:
        pids = [int(note.name.split("-")[0]) for note in (client.home / "instances").iterdir()]
        return next((pid for pid in pids if pid not in others and b"LOCALFLAME_SPARE=1" in _environment(pid)), None)

    return int(eventually(found, "a spare"))


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # it has ended
        return b""


def test_the_next_session_gets_the_instance_that_is_ready(client: Client, register: Callable[..., str]) -> None:
    application = register()
    assert client.control.status()["spares"] == 0  # not before a session has been served
    first = client.run(client.session(application))
    spare = spare_of(client)
    session = client.session(application, common_data=b"common")
    second = client.run(session)
    assert first["pid"] != spare == second["pid"]
    assert (second["session"], second["common"], second["tasks"]) == (session, "common", 1)
    (executor,) = [executor for executor in client.executors() if executor.status.session_id == session]
    log = client.home / "logs" / f"{executor.metadata.id}.out"
    third = spare_of(client, spare)
    assert third != spare
    client.close_session(session)
    eventually(lambda: not alive(spare), "the end of the instance")
    assert f"left {session}" in log.read_text()  # under the name of its executor
    assert alive(third)


def test_a_session_that_needs_another_environment_gets_an_instance_of_its_own(
    client: Client, register: Callable[..., str]
) -> None:
    application = register()
    client.run(client.session(application))
    spare = spare_of(client)
    other = client.session(application)
    client.control.settings(other, {"TEST_API_KEY": "another"})
    answer = client.run(other, names=["TEST_API_KEY"])
    assert answer["pid"] != spare
    assert answer["environment"] == {"TEST_API_KEY": "another"}
    eventually(lambda: not alive(spare), "the end of the spare that was not of use")
    assert b"TEST_API_KEY=another" in _environment(spare_of(client, spare))


def test_an_application_that_has_changed_gets_no_spare_of_yesterday(
    client: Client, register: Callable[..., str]
) -> None:
    application = register()
    client.run(client.session(application))
    spare = spare_of(client)
    register(arguments=[str(SERVICE), "changed"])
    answer = client.run(client.session(application))
    assert answer["pid"] != spare
    assert answer["arguments"] == ["changed"]


def test_a_spare_that_has_died_is_nobodys_loss(client: Client, register: Callable[..., str]) -> None:
    application = register()
    client.run(client.session(application))
    spare = spare_of(client)
    os.kill(spare, signal.SIGKILL)
    eventually(lambda: client.control.status()["spares"] == 0, "the end of the spare")
    session = client.session(application)
    task = client.create(session)
    assert len(client.watch(session, task)) > 0
    assert [event.code for event in client.task(session, task).status.events] == [0, 1, 2]


def test_who_does_not_want_a_spare_has_none(client: Client, register: Callable[..., str]) -> None:
    application = register()
    client.run(client.session(application))
    spare = spare_of(client)
    register(spare=False)
    eventually(lambda: not alive(spare), "the end of the spare")
    client.run(client.session(application))
    assert client.control.status()["spares"] == 0


def test_a_spare_ends_when_nobody_has_needed_it_for_long(client: Client, register: Callable[..., str]) -> None:
    application = register(delay_release=5)
    client.run(client.session(application))
    spare = spare_of(client)
    eventually(lambda: not alive(spare), "the end of the spare")
    assert client.control.status()["spares"] == 0
