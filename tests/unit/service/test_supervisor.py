"""When the worker of an instance gives its place to another one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from flameagent.service.process import supervisor
from flameagent.service.process.messages import Enter, Failed, Ready
from flameagent.service.process.supervisor import Supervisor

SESSION = Enter("s", "app", None)


class Worker:
    """A worker that is there, or is not."""

    there: Ready | Failed | None = Ready()
    meanwhile: Any = staticmethod(lambda: None)

    def __init__(self, *_: Any) -> None:
        self.ended = False

    def ready(self, timeout: float) -> Ready | Failed | None:
        Worker.meanwhile()
        return self.there

    def enter(self, session: Enter) -> None:
        pass

    def end(self, patience: float) -> None:
        self.ended = True


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(supervisor, "_Worker", Worker)
    monkeypatch.setattr(Worker, "there", Ready())
    monkeypatch.setattr(Worker, "meanwhile", staticmethod(lambda: None))
    serving: Any = Supervisor("agent", "", 1.0)
    serving.start()
    serving.enter(SESSION)
    yield serving


def lighten(serving: Any, worker: Any) -> Any:
    """The worker behind it, when what it has begun has ended."""
    serving._lighten(worker)
    for thread in threading.enumerate():
        if thread.daemon and getattr(thread, "_target", None) == serving._replace_idle:
            thread.join()
    return serving._worker


def test_a_replaceable_worker_is_replaced(serving: Any) -> None:
    first = serving._worker
    second = lighten(serving, first)
    assert second is not first and first.ended and not second.ended


def test_not_while_a_task_runs(serving: Any) -> None:
    first = serving._worker
    with serving._one_task:
        assert lighten(serving, first) is first
    assert not first.ended


@pytest.mark.parametrize("happens", ["a task", "a task that runs", "a session", "another worker", "the end"])
def test_not_where_it_comes_too_late(serving: Any, happens: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = serving._worker

    def meanwhile() -> None:
        match happens:
            case "a task":
                serving._tasks += 1
            case "a task that runs":
                serving._one_task.acquire()
            case "a session":
                serving.enter(Enter("another", "app", None))
            case "another worker":
                serving._worker = Worker()
            case "the end":
                serving.end(0.0)

    monkeypatch.setattr(Worker, "meanwhile", staticmethod(meanwhile))
    after = lighten(serving, first)
    assert (after is first) is (happens != "another worker")
    assert not after.ended or happens == "the end"


@pytest.mark.parametrize("there", [Failed("it cannot be imported"), None])
def test_not_by_one_that_is_not_there(serving: Any, there: Failed | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker, "there", there)
    first = serving._worker
    assert lighten(serving, first) is first and not first.ended
