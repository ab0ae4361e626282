"""The domain of the engine: what an application, a session and a task are.

Sessions and tasks are counted here as Flame counts them. What Flame answers, and what is written to the disk, is the
controller's.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flamewire.stubs import types

OPEN, CLOSED = types.Open, types.Closed
PENDING, RUNNING, SUCCEED, FAILED, CANCELLED = (
    types.Pending,
    types.Running,
    types.Succeed,
    types.Failed,
    types.Cancelled,
)
STATES = {PENDING: "Pending", RUNNING: "Running", SUCCEED: "Succeed", FAILED: "Failed", CANCELLED: "Cancelled"}
ENDED = frozenset((SUCCEED, FAILED, CANCELLED))

# common/src/apis/types.rs
DEFAULT_MAX_INSTANCES = 1_000_000


def now() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)


class Event(NamedTuple):
    """Something that happened to a session or task."""

    code: int
    message: str
    at: int


class TaskRecord(NamedTuple):
    """A task as a client sees it."""

    session: str
    id: int
    state: int
    created: int
    completed: int | None
    input: bytes | None
    output: bytes | None
    events: list[Event]


@dataclass(eq=False)
class Application:
    """A registered application."""

    name: str
    spec: Any  # flame.v1.ApplicationSpec
    created: int
    #: Counts the changes, so that an instance knows that it is of an older one.
    version: int = 0

    @property
    def delay_release(self) -> int:
        """Seconds that an executor stays with a session after its last task."""
        return int(self.spec.delay_release)


@dataclass(eq=False, slots=True)
class Task:
    """A task that has not ended, or one that somebody still watches."""

    session: str
    id: int
    state: int
    created: int
    #: Instances that died with it.
    losses: int = 0
    started: int = 0
    completed: int | None = None
    #: Why its end cannot be written, where the disk has refused it for long.
    write_error: str = ""
    _watchers: list[asyncio.Future[None]] = field(default_factory=list)

    def notify(self) -> None:
        """Wake those who watch."""
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    async def wait_change(self) -> None:
        """Wait for the next `notify`."""
        watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.append(watcher)
        try:
            await watcher
        finally:
            if watcher in self._watchers:
                self._watchers.remove(watcher)


@dataclass(eq=False)
class Session:
    """A session and its tasks that have not ended."""

    id: str
    spec: Any  # flame.v1.SessionSpec without common_data
    state: int
    created: int
    completed: int | None = None
    counts: dict[int, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))
    tasks: dict[int, Task] = field(default_factory=dict)
    #: Set while a close is on its way to the disk: nothing starts any more.
    closing: bool = False
    _pending: list[int] = field(default_factory=list)

    @property
    def can_start_tasks(self) -> bool:
        """Open, and nobody is closing it."""
        return self.state == OPEN and not self.closing

    @property
    def max_instances(self) -> int:
        """Instances that it may have at a time."""
        return int(self.spec.max_instances) if self.spec.HasField("max_instances") else DEFAULT_MAX_INSTANCES

    @property
    def batch_size(self) -> int:
        """Instances that start together."""
        return max(int(self.spec.batch_size), 1)

    @property
    def pending_count(self) -> int:
        """Tasks that are pending."""
        return len(self._pending)

    @property
    def waiting_since(self) -> int:
        """The time at which the first pending task was made, or else the session."""
        return self.tasks[self._pending[0]].created if self._pending else self.created

    def add_pending(self, task: Task) -> None:
        """Take a pending task in."""
        self.tasks[task.id] = task
        self.counts[PENDING] += 1
        heapq.heappush(self._pending, task.id)

    def start_next(self) -> Task | None:
        """The pending task with the lowest ID, which is then Running."""
        if not self._pending:
            return None
        task = self.tasks[heapq.heappop(self._pending)]
        task.started = now()
        self.set_state(task, RUNNING)
        return task

    def requeue(self, task: Task) -> None:
        """A running task is pending again."""
        heapq.heappush(self._pending, task.id)
        self.set_state(task, PENDING)

    def set_state(self, task: Task, state: int) -> None:
        """Change the state of a task, and wake those who watch it."""
        self.counts[task.state] -= 1
        self.counts[state] += 1
        task.state = state
        if state in ENDED:
            del self.tasks[task.id]
        task.notify()

    def cancel_pending(self, at: int) -> None:
        """The session is closed: what has not started never will."""
        cancelled, self._pending = self._pending, []
        for task in [self.tasks[number] for number in cancelled]:
            task.completed = at
            self.set_state(task, CANCELLED)
