"""The worker as its instance sees it: started, given tasks, watched, ended, and started again.

Promises an outcome for every task, in bounded time: the worker may die, hang, flood its output or never
come up. It is never ended inside a write to the cache.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
import time
from collections.abc import Callable

from flameagent.service import log
from flameagent.service.process.connection import Connection
from flameagent.service.process.messages import (
    Appended,
    Appending,
    Done,
    Enter,
    Failed,
    FromWorker,
    Invoke,
    Lost,
    Ready,
    Replaceable,
    Stale,
    ToWorker,
    receive,
    send,
)
from flameagent.service.process.worker_output import WorkerOutput
from flameagent.service.process.worker_process import WorkerProcess, Workers
from flamewire.signal_names import signal_name

_Make = Callable[[int, threading.Event], tuple[WorkerProcess, Connection]]  # as `Workers.start` and `Workers.fork`
_START_TIMEOUT = 120.0
_FORK_PATIENCE = 5.0  # seconds that a forked worker has which is to take another's place
_FAREWELL = 1.0  # seconds that a worker has whose place another has taken, for what it has noted of its turns
_APPEND_PATIENCE = 2.0  # seconds more that a turn gets whose time is up inside a write


class Supervisor:
    """Keeps one worker for one session; one task at a time."""

    def __init__(self, target: str, endpoint: str, turn_timeout: float) -> None:
        self._workers = Workers(target, endpoint, self._say)
        self._turn_timeout = turn_timeout
        self._worker: _Worker | None = None
        self._session: Enter | None = None
        self._one_task = threading.Lock()
        self._starting = threading.Lock()
        self._tasks = 0
        self._ended = False

    def start(self) -> None:
        """Start a worker ahead of the session, so that it imports meanwhile."""
        with self._starting:
            self._worker = _Worker(self._workers.start, self._lighten)

    def _say(self, text: str) -> None:
        log.write(text, self._session.session_id if self._session else "")

    def enter(self, session: Enter) -> None:
        """Serve this session."""
        with self._starting:
            self._session = session
            if self._worker:
                self._worker.enter(session)

    def run(self, task: Invoke) -> Done | Failed:
        """Run a task: again in a new worker if the worker died, once. How it went is said in the log."""
        with self._one_task:
            self._tasks += 1
            began = time.monotonic()
            outcome = self._attempts(task)
            took = time.monotonic() - began
            how = f"failed after {took:.2f} s: {outcome.message}" if isinstance(outcome, Failed) else f"{took:.2f} s"
            log.write(how, self._session.session_id if self._session else "", task.task_id)
            return outcome

    def _attempts(self, task: Invoke) -> Done | Failed:
        while True:
            began = time.time()
            try:
                return self._attempt(task)
            except _Stale:
                self._replace()
            except _Died as reason:
                ended = time.time()
                self._replace()
                if task.died:
                    return Failed(f"The agent's process ended twice during this turn. {reason}")
                task = task._replace(died=str(reason), began=began, ended=ended)

    @property
    def busy(self) -> bool:
        """True while a task runs."""
        return self._one_task.locked()

    def end(self, patience: float) -> None:
        """End the worker and its children: within `patience` seconds, a write to the cache excepted."""
        with self._starting:
            self._ended = True
            worker = self._worker
        if worker:
            worker.end(patience)

    def _attempt(self, task: Invoke) -> Done | Failed:
        worker = self._usable()
        if isinstance(worker, Failed):
            return worker
        worker.invoke(task)
        outcome = worker.outcome(self._turn_timeout)
        if outcome is None and worker.appending.is_set():
            outcome = worker.outcome(_APPEND_PATIENCE)
        if outcome is not None:
            return outcome
        if worker.appending.is_set():
            return Failed(
                f"The turn took longer than {self._turn_timeout:.0f} s, and Flame's cache has not yet said whether "
                "it was added: it may have been. Look at the history before asking again."
            )
        self._replace("timeout")
        return Failed(f"The turn took longer than {self._turn_timeout:.0f} s and was ended.")

    def _usable(self) -> _Worker | Failed:
        """Return the worker, ready for a task; or why there is none."""
        worker = self._worker
        if worker is None or worker.exhausted:
            worker = self._replace()
        if worker.abandoned and worker.outcome(self._turn_timeout if worker.appending.is_set() else 0.0) is None:
            if worker.appending.is_set():
                return Failed(
                    "The turn before this one is still being added: Flame's cache does not answer. Nothing was "
                    "asked; try again when it is back."
                )
            worker = self._replace()
        ready = worker.ready(_START_TIMEOUT)
        if ready is None:
            self._replace("timeout")
            return Failed(f"The agent was not imported within {_START_TIMEOUT:.0f} s. {worker.last_words()}")
        return ready if isinstance(ready, Failed) else worker

    def _replace(self, cause: str = "") -> _Worker:
        """Another worker; `cause` says why the one before it is ended, where it does not end well."""
        with self._starting:
            if self._worker:
                cause = cause or self._worker.cause_of_loss
                self._worker.end(0.0)
            if self._ended:
                raise RuntimeError("the session has left")
            self._worker = _Worker(self._workers.start, self._lighten, self._session)
            if cause and os.environ.get("AGENT_METRICS"):  # which this process has no part in
                self._worker.tell(Lost(cause))
            return self._worker

    def _lighten(self, worker: _Worker) -> None:
        """Have a forked worker take the place of one that is replaceable, if there is one before the next task.

        Does not wait. Called where that was heard, so the worker has said so behind all tasks that have ended.
        """
        if not self._one_task.locked():
            with contextlib.suppress(RuntimeError):  # there can be no more threads: the worker stays
                threading.Thread(target=self._replace_idle, args=(worker, self._tasks), daemon=True).start()

    def _replace_idle(self, worker: _Worker, tasks: int) -> None:
        session = self._session
        forked = leaving = _Worker(self._workers.fork, self._lighten, session)
        try:
            is_there = isinstance(forked.ready(_FORK_PATIENCE), Ready)
        except _Died:
            is_there = False
        if is_there and self._one_task.acquire(blocking=False):
            with self._starting:
                if (worker, session, tasks, False) == (self._worker, self._session, self._tasks, self._ended):
                    self._worker, leaving = forked, worker
            self._one_task.release()
        leaving.end(_FAREWELL)


class _Died(Exception):
    """The worker ended in the middle of a task; the message says how, with its last words."""


class _Stale(Exception):
    """The agent's code has changed since the worker imported it."""


class _Worker:
    """One worker process, from the wish for it to its end. It may take a while until there is one."""

    def __init__(self, make: _Make, on_replaceable: Callable[[_Worker], None], session: Enter | None = None) -> None:
        self._make = make
        self._on_replaceable = on_replaceable
        self._process: WorkerProcess | None = None
        self._connection: Connection | None = None
        self._started = threading.Event()
        self._cancelled = threading.Event()
        self._waiting: list[ToWorker] = []
        self._one_sender = threading.Lock()
        self._closing = threading.Lock()
        self._inbox: queue.SimpleQueue[FromWorker | None] = queue.SimpleQueue()
        self._ready: Ready | Failed | None = None
        self._gone = False
        self._not_started = ""
        self.abandoned = False
        self.appending = threading.Event()
        self._output = WorkerOutput()
        if session:
            self.enter(session)
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def exhausted(self) -> bool:
        """True if no task can be given to it: it has ended, or could not import the agent."""
        return self._ended() or isinstance(self._ready, Failed)

    @property
    def cause_of_loss(self) -> str:
        """How it has ended without being told to, in a word; "" where it has not, or could not import the agent."""
        if not self._ended() or isinstance(self._ready, Failed):
            return ""
        code = None if self._process is None else self._process.code
        if code is None:
            return "unknown"
        return signal_name(-code) if code < 0 else "exit"

    def tell(self, message: Lost) -> None:
        self._send(message)

    def enter(self, session: Enter) -> None:
        self._output.session_id = session.session_id
        self._send(session)

    def invoke(self, task: Invoke) -> None:
        self._output.begin(task.task_id)
        self._send(task)

    def ready(self, timeout: float) -> Ready | Failed | None:
        """Return `Ready`, or why it will never be; None when it does not say within `timeout` seconds.

        Raises `_Died`.
        """
        if self._ready is None:
            message = self._next(timeout)
            if isinstance(message, Ready | Failed):
                self._ready = message
        return self._ready

    def outcome(self, timeout: float) -> Done | Failed | None:
        """Return the task's outcome, or None when there is none within `timeout` seconds.

        Raises `_Died`, `_Stale`.
        """
        self.abandoned = True
        message = self._next(timeout)
        if message is None:
            return None
        self.abandoned = False
        self._output.end()
        if isinstance(message, Stale):
            raise _Stale
        assert isinstance(message, Done | Failed)
        return message

    def last_words(self) -> str:
        """Return the last lines of its output, as a sentence's end."""
        return self._output.last_words(0.5 if self._gone else 0.0)

    def end(self, patience: float) -> None:
        """End it and its children, now or, inside a write, when that has ended or `patience` has passed twice."""
        deadline = time.monotonic() + patience
        self._cancelled.set()
        self._started.wait()
        if self._process is None:
            return
        self._hang_up()
        while not self._ended() and (self.appending.is_set() or time.monotonic() < deadline):
            time.sleep(0.01)
        if not self.appending.is_set() or self._ended():
            self._process.kill()

    def _ended(self) -> bool:
        return self._started.is_set() and (self._process is None or self._process.ended())

    def _run(self) -> None:
        """Start it, hand on what has been sent meanwhile, and listen to it."""
        try:
            self._process, connection = self._start()
        except OSError as error:
            self._not_started = f"It could not be started: {error}."
            self._leave()
            return
        finally:
            self._started.set()
        with self._one_sender:
            self._connection = connection
            for message in self._waiting:
                self._write(message)
        self._listen(connection)
        with self._one_sender, self._closing:
            connection.close()

    def _start(self) -> tuple[WorkerProcess, Connection]:
        ours, theirs = os.pipe()
        self._output.read(os.fdopen(ours, "rb"))
        try:
            return self._make(theirs, self._cancelled)
        finally:
            os.close(theirs)

    def _hang_up(self) -> None:
        # The worker sees the end of file and ends itself, after a write in flight.
        if self._connection is not None:
            ours = self._connection
            with self._closing, contextlib.suppress(OSError), socket.socket(fileno=os.dup(ours.fileno())) as end:
                end.shutdown(socket.SHUT_WR)

    def _send(self, message: ToWorker) -> None:
        with self._one_sender:
            if self._connection is None:
                self._waiting.append(message)
            else:
                self._write(message)

    def _write(self, message: ToWorker) -> None:
        assert self._connection is not None
        with contextlib.suppress(OSError):  # it has ended: whoever waits for an answer hears it from the listener
            send(self._connection, message)

    def _next(self, timeout: float) -> FromWorker | None:
        try:
            message = self._inbox.get(timeout=max(timeout, 0.0))
        except queue.Empty:
            return None
        if message is None:
            self._inbox.put(None)
            raise _Died(self._cause())
        return message

    def _cause(self) -> str:
        if self._process is None:
            return self._not_started
        if not self._process.ended(1.0):
            self._process.kill()
        code = self._process.code
        if code is None:
            how = "for a reason that nobody has seen"
        else:
            how = f"with signal {signal_name(-code)}" if code < 0 else f"with exit code {code}"
        return f"It ended {how}. {self.last_words()}"

    def _listen(self, connection: Connection) -> None:
        while True:
            try:
                message = receive(connection, FromWorker)
            except EOFError:
                self._leave()
                return
            if isinstance(message, Appending):
                self.appending.set()
            elif isinstance(message, Appended):
                self.appending.clear()
            elif isinstance(message, Replaceable):
                self._on_replaceable(self)
            else:
                self._inbox.put(message)

    def _leave(self) -> None:
        """Nothing more is to come from it."""
        self._gone = True
        self.appending.clear()
        self._inbox.put(None)
