"""The task of a turn: made, found again after an outage, and followed.

Promises that what the agent tells while it works comes on the thread that follows the task.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent import futures
from contextlib import suppress

from apis import Question
from flameagent.client import payloads
from flameagent.client.connection import Connection
from flameagent.client.events import Listener, Progress
from flameagent.client.stream import Stream
from flameagent.flame import FlameError
from flameagent.flame.frontend import Task, TaskState
from flamewire.failpoints import failpoint

_POLL = 0.05


class TurnTask:
    """The task that asks a question, or decides on its calls, in a session; with a `stream` its events are read.

    `id` is Flame's, "" before there is one.
    """

    def __init__(self, connection: Connection, session_id: str, question: Question, stream: Stream | None) -> None:
        self.id = ""
        self._connection = connection
        self._session_id = session_id
        self._question = question
        self._stream = stream
        self._said = ""  # the last words about the task's state
        self._looker: futures.ThreadPoolExecutor | None = None

    def open_stream(self) -> None:
        """Have the agent write its events, where they are to be read. `close` is to be called then."""
        self._question.stream = self._stream.open() if self._stream else ""

    def create(self) -> None:
        """Make the task. Raises `FlameError`; after `Unclear` and `Unreachable` it may have been made."""
        failpoint("client: before asking")
        self.id = self._connection.frontend.create_task(self._session_id, payloads.write(self._question))
        failpoint("client: asked")

    def find(self) -> bool:
        """Look for the task in the session, since the engine was away; its events begin anew.

        By what it asks or decides: task IDs begin anew in a session that was deleted and made again.
        """
        tasks, name = self._connection.frontend.tasks(self._session_id), payloads.name(self._question)
        self.id = next((task.id for task in tasks if payloads.task_name(task.input) == name), "")
        return bool(self.id)

    def begin_anew(self) -> None:
        """Say again what the task's state means: the engine went away."""
        self._said = ""
        if self._stream is not None:
            self._stream.begun = False

    def follow(self, listen: Listener, patience: float) -> Task:
        """The task after a change, or after `patience` seconds; meanwhile, and once more then, its events are told.

        Raises `FlameError`; `NotFound` where Flame does not know it.
        """
        if self._stream is None:
            return self._look(lambda doing: listen(Progress(doing)), patience)
        if self._looker is None:
            self._looker = futures.ThreadPoolExecutor(1)
        said: deque[str] = deque()
        looking = self._looker.submit(self._look, said.append, patience)
        while True:
            done = futures.wait([looking], _POLL).done
            while said:
                listen(Progress(said.popleft()))
            for event in self._stream.read():
                listen(event)
            if done:
                return looking.result()

    def close(self) -> None:
        """End the stream, and do not wait for a look that nobody is interested in any more. Can be repeated."""
        looker, self._looker = self._looker, None
        if looker is not None:
            looker.shutdown(wait=False)
        if self._stream is not None:
            self._stream.close()

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
            meaning = "thinking" if self._stream is None else "starting the agent"
            if self._stream is not None and self._stream.begun:
                return
        elif state == TaskState.PENDING:
            meaning = "waiting for a free executor"
            with suppress(FlameError):
                if self._connection.frontend.has_executor(self._session_id):
                    meaning = "starting the agent"
        else:
            meaning = "reading the answer"
        if meaning != self._said:
            self._said = meaning
            say(meaning)
