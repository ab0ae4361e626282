"""Many sessions: nothing is lost, and memory stays.

`python -m tests.integration.engine.test_load` does it on a larger scale: 200 sessions with 20 tasks each, eight at a
time.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flamewire.stubs import types
from tests.integration.engine.client import Engines

if TYPE_CHECKING:
    from tests.integration.engine.client import Client


def memory(pid: int) -> float:
    """Resident megabytes of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def run_session(client: Client, application: str, tasks: int) -> None:
    """One session's life."""
    session = client.session(application, common_data=b"c" * 1000)
    created = [client.create(session, text=number, padding="x" * 1000) for number in range(tasks)]
    ended = [client.watch(session, task)[-1] for task in created]
    bad = [client.task(session, task.metadata.id) for task in ended if task.status.state != types.Succeed]
    assert not bad, bad
    answers = [json.loads(task.spec.output) for task in ended]
    assert [answer["text"] for answer in answers] == list(range(tasks))
    assert [answer["tasks"] for answer in answers] == list(range(1, tasks + 1))
    key = f"{application}/{session}/object"
    client.put(key, b"base")
    for number in range(tasks):
        assert client.patch(key, b"x" * 1000)["version"] == number + 2
    assert len(client.get(key)) == tasks + 1
    closed = client.close_session(session)
    assert (closed.status.succeed, closed.status.state) == (tasks, types.Closed)
    client.delete(f"{application}/{session}")


def run_sessions(client: Client, sessions: int, tasks: int, at_a_time: int) -> list[float]:
    """All of them; the engine's memory in megabytes now and then."""
    pid = int(client.control.status()["pid"])
    application = client.register(delay_release=1)
    sizes = []
    with ThreadPoolExecutor(at_a_time) as pool:
        step = max(sessions // 10, at_a_time)
        for _ in range(0, sessions, step):
            list(pool.map(lambda _: run_session(client, application, tasks), range(step)))
            sizes.append(memory(pid))
    return sizes


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the size of a process from /proc")
def test_many_sessions_lose_nothing(client: Client) -> None:
    run_sessions(client, sessions=6, tasks=10, at_a_time=3)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        engines = Engines(Path(folder))
        try:
            client = engines.start(engines.home())
            begun = time.monotonic()
            sizes = run_sessions(client, sessions=200, tasks=20, at_a_time=8)
            print(f"{time.monotonic() - begun:.0f} s; megabytes: {' '.join(f'{size:.0f}' for size in sizes)}")
            print(json.dumps(client.control.status()))
        finally:
            engines.end()


if __name__ == "__main__":
    main()
