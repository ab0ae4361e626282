"""A connection that threads share: opened once, and left by whoever meets an outage, for all."""

from __future__ import annotations

import threading
from typing import Any

from flameagent.client.connection import Connection
from flameagent.flame import Endpoints


class _Engine:
    """An engine that counts how often somebody asks where it is."""

    def __init__(self) -> None:
        self.reached = 0

    def reach(self) -> Endpoints:
        self.reached += 1
        return Endpoints("http://127.0.0.1:1", "grpc://127.0.0.1:1")


def _at_once(number: int, do: Any) -> None:
    barrier = threading.Barrier(number)
    threads = [threading.Thread(target=lambda: (barrier.wait(60), do())) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_threads_that_come_at_once_open_one_channel() -> None:
    engine: Any = _Engine()
    connection, found = Connection(engine), []
    _at_once(20, lambda: found.append((connection.frontend, connection.cache)))
    assert len(set(found)) == 1 and engine.reached == 1
    connection.close()


def test_an_outage_that_many_meet_is_one() -> None:
    engine: Any = _Engine()
    connection = Connection(engine)
    before, generation = connection.frontend, connection.generation
    _at_once(20, lambda: connection.reopen(generation))
    assert (engine.reached, connection.generation) == (2, generation + 1)
    assert connection.frontend is not before
    before.close()
    connection.close()


def test_what_was_closed_is_opened_anew() -> None:
    engine: Any = _Engine()
    connection = Connection(engine)
    assert not connection.reached
    before = connection.frontend
    assert connection.reached
    connection.close()
    assert not connection.reached and connection.frontend is not before
    connection.close()
