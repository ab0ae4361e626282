"""Several jobs that take turns, one step at a time, in an order that the test chooses.

Each job runs in a thread of its own and hands over at `Baton.step`, which a test puts where the steps are
(each call of the cache, each sleep): so one list of numbers decides the whole interleaving.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import chain, repeat


class Baton:
    """Runs jobs one step at a time. A job's exception ends the run and is raised by `run`."""

    def __init__(self) -> None:
        self._mine: dict[int, threading.Semaphore] = {}
        self._main = threading.Semaphore(0)
        self._failed: BaseException | None = None

    def step(self, _: object = None) -> None:
        """Wait until it is this job's turn again; nothing for a thread that is not a job."""
        mine = self._mine.get(threading.get_ident())
        if mine is not None:
            self._main.release()
            mine.acquire()

    def run(self, jobs: Sequence[Callable[[], None]], order: Sequence[int]) -> None:
        """Run the jobs to their ends; `order` says which of those still running goes next (modulo)."""
        gates = [threading.Semaphore(0) for _ in jobs]
        alive = list(range(len(jobs)))

        def body(number: int) -> None:
            self._mine[threading.get_ident()] = gates[number]
            gates[number].acquire()
            try:
                jobs[number]()
            except BaseException as error:  # handed to the test
                self._failed = error
            finally:
                del self._mine[threading.get_ident()]
                alive.remove(number)
                self._main.release()

        threads = [threading.Thread(target=body, args=(number,), daemon=True) for number in alive]
        for thread in threads:
            thread.start()
        for choice in chain(order, repeat(0)):
            if not alive:
                break
            gates[alive[choice % len(alive)]].release()
            self._main.acquire()
        for thread in threads:
            thread.join()
        if self._failed is not None:
            raise self._failed
