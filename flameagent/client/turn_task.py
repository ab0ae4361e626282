"""The task of a turn: made, found again after an outage, and followed.

Promises that what the agent tells while it works comes on the thread that follows the task.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent import futures
from contextlib import suppress
from itertools import takewhile

from flameagent.apis import Question
from flameagent.client import payloads
from flameagent.client.connection import Connection
from flameagent.client.errors import ConflictError
from flameagent.client.events import Event, Progress
from flameagent.client.stream import Stream
from flameagent.flame import FlameError
from flameagent.flame.frontend import Task, TaskState
from flamewire.failpoints import failpoint

_POLL = 0.05  # seconds between looks for events
_READERS = 8  # turns that are read so often at once; with more of them each is read less often


class TurnTask:
    """The task that asks a question, or decides on its calls, in a session; with a `stream` its events are read.

    `id` is Flame's, "" before there is one. One that is `made_elsewhere` is known by it alone.
    """

    def __init__(self, connection: Connection, session_id: str, question: Question, stream: Stream | None) -> None:
        self.id = ""
        self.made_elsewhere = False
        self.stream = stream
        self._connection = connection
        self._session_id = session_id
        self._question = question
        self._said = ""  # the last words about the task's state
        self._place = 0
        self._look_again = 0.0
        self._looker: futures.ThreadPoolExecutor | None = None

    def create(self) -> None:
        """Make the task. Raises `FlameError`; after `Unclear` and `Unreachable` it may have been made."""
        self._question.stream = self.stream.key if self.stream else ""
        self._question.asked = self._question.asked or int(time.time() * 1000)
        failpoint("client: before asking")
        self.id = self._connection.frontend.create_task(self._session_id, payloads.write(self._question))
        failpoint("client: asked")

    def find(self, *, failed: bool = True) -> bool:
        """Look for the newest such task in the session, with `failed` also one that has failed, and for its events.

        By what it asks or decides: task IDs begin anew in a session that was deleted and made again. Raises
        `ConflictError` where it asks something else.
        """
        if self.made_elsewhere:
            return True
        name, self.id = payloads.name(self._question), ""
        for task in self._connection.frontend.tasks(self._session_id):
            asked = payloads.question(task.input)
            if asked is None or payloads.name(asked) != name:
                continue
            if asked.question != self._question.question:
                raise ConflictError("A turn of that ID has been asked another question; nothing was asked.")
            answer = payloads.answer(task.output)
            if task.state.terminal and (answer is None or answer.error) and not failed:
                continue
            self.id = task.id
            if self.stream is not None:
                self.stream.key = asked.stream
        return bool(self.id)

    def begin_anew(self) -> None:
        """Say again what the task's state means: the engine went away."""
        self._said = ""
        if self.stream is not None:
            self.stream.begun = False

    def follow(self, patience: float) -> Generator[Event, None, Task]:
        """The task after a change, or after `patience` seconds; meanwhile, and once more then, its events come.

        Raises `FlameError`; `NotFound` where Flame does not know it.
        """
        if self.stream is None:
            words: list[str] = []
            task = self._look(words.append, patience)
            yield from map(Progress, words)
            return task
        if self._looker is None:
            self._looker = futures.ThreadPoolExecutor(1)
            self._connection.count_readers(1)
        said: deque[str] = deque()
        looking = self._looker.submit(self._look, said.append, patience)
        while True:
            done = futures.wait([looking], _POLL * max(self._connection.readers / _READERS, 1)).done
            while said:
                yield Progress(said.popleft())
            yield from self.stream.read(to_the_end=bool(done))
            if done:
                return looking.result()

    def close(self) -> None:
        """Do not wait for a look that nobody is interested in any more. Can be repeated; `follow` goes on."""
        looker, self._looker = self._looker, None
        if looker is not None:
            looker.shutdown(wait=False)
            self._connection.count_readers(-1)

    def _look(self, say: Callable[[str], object], patience: float) -> Task:
        frontend = self._connection.frontend
        for task in frontend.watch(self._session_id, self.id, patience):
            self._say(task.state, say)
            if task.state == TaskState.SUCCEED:
                return task
        task = frontend.task(self._session_id, self.id)
        self._say(task.state, say)
        return task

    def _say(self, state: TaskState, say: Callable[[str], object]) -> None:
        """Say what the state means, where that is new; what a turn that runs is at, the agent itself says."""
        if state == TaskState.RUNNING:
            meaning = "thinking" if self.stream is None else "starting the agent"
            if self.stream is not None and self.stream.begun:
                return
        elif state == TaskState.PENDING:
            meaning = "waiting for a free executor"
            with suppress(FlameError):
                if self.stream is not None and (before := self._before()):
                    meaning = f"waiting for {'a turn' if before == 1 else f'{before} turns'} before this one"
                elif self._connection.frontend.has_executor(self._session_id):
                    meaning = "starting the agent"
        else:
            meaning = "reading the answer"
        if meaning != self._said:
            self._said = meaning
            say(meaning)

    def _before(self) -> int:
        """The number of turns of the session that come before this one and have not ended, as last looked at."""
        if time.monotonic() < self._look_again:
            return self._place
        self._look_again = time.monotonic() + max(self._connection.readers / _READERS, 1.0)
        self._place = self._look_before()
        return self._place

    def _look_before(self) -> int:
        session = self._connection.frontend.session(self._session_id)
        if session.running + session.pending <= 1:
            return 0
        tasks = self._connection.frontend.tasks(self._session_id)
        return sum(not task.state.terminal for task in takewhile(lambda task: task.id != self.id, tasks))
