"""The worker: the process of an instance that imports the agent and runs its turns.

`python -m flameagent.service.process.worker TARGET FD`, or forked by a nursery, which has imported the agent already.
One process, one event loop for its whole life (an `AsyncOpenAI` client belongs to the loop that it was first used
in). Promises to end with its instance, whatever it is doing, except inside a write to the cache, which it finishes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flameagent import tracing
from flameagent.network import find_mistake
from flameagent.service import garbage, metrics
from flameagent.service.containment import ContainingThreads
from flameagent.service.process import target
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
from flameagent.service.process.nursery import Brood, Founding, has_children
from flameagent.service.process.nursery_place import members
from flameagent.service.process.sources import Sources
from flameagent.text import closed
from flameagent.tracing import modes
from flamewire.failpoints import failpoint

if TYPE_CHECKING:
    from flameagent.service.entrypoint import FlameInstance


def main() -> None:
    """Serve the instance at the other end of the given file descriptor, until it goes.

    With a third argument, that of `Place.argument`, found a nursery on the way.
    """
    named, connection = sys.argv[1], Connection(int(sys.argv[2]))
    # Only the instance ends us. A handler, not SIG_IGN, which tools' own children would inherit.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Arrow's own allocator keeps 4 MB in each worker, which asks for little; who wishes another says so.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    founding = Founding.parse(sys.argv[3]) if len(sys.argv) > 3 else None
    sources = Sources()
    sources.watch()
    try:
        instance = _import(named)
    except target.TargetError as error:
        send(connection, Failed(str(error), "usage"))
        return
    except BaseException as error:
        traceback.print_exc()
        send(connection, Failed(_import_failure(named, error)))
        return
    nursery = None
    if founding is not None:
        brood = Brood(named, sources, _rehearse, lambda given: serve(given, instance, sources, "forked"))
        nursery = founding.found(connection, brood)
    serve(connection, instance, sources, "spawned", nursery)


def serve(
    connection: Connection,
    instance: FlameInstance,
    sources: Sources,
    how: str,
    nursery: socket.socket | None = None,
) -> None:
    """Run the turns that the instance at the other end asks for, until it goes. This process began in that way.

    `nursery` is what `Founding.found` has returned, of a worker that has founded one.
    """
    _Worker(connection, instance, sources, how).run(nursery)


def _import(named: str) -> FlameInstance:
    instance = target.load(named)
    metrics.prepare()
    if "agents" in sys.modules:
        from flameagent.service import tool_errors
        from flameagent.service.models import build

        build.prepare()
        tool_errors.prepare()
    garbage.collect_seldom()
    return instance


def _rehearse() -> None:
    """Have what a first turn needs there before it: where the agent is one of the SDK."""
    if "agents" in sys.modules:
        from flameagent.service.process import rehearsal

        rehearsal.rehearse()
    if modes.OTLP in modes.chosen(os.environ) and not modes.trouble(os.environ):
        from flameagent.tracing import otlp

        otlp.load()


_QUIET = 1.0
"""Seconds after a turn in which what it has begun may end, before its worker can be replaced."""
_TRACES_PATIENCE = 0.5
"""Seconds that a worker outlives its instance for what it has noted of turns that have ended."""


class _Worker:
    def __init__(self, connection: Connection, instance: FlameInstance, sources: Sources, how: str) -> None:
        self._how = how
        self._application = ""
        self._connection = connection
        self._instance = instance
        self._sources = sources
        self._appending = threading.Lock()
        self._sending = threading.Lock()
        self._idle = True  # no turn runs
        self._replaceable = False  # a nursery has one that weighs less
        self._loop = _event_loop()
        self._threads = ContainingThreads()
        self._inbox: asyncio.Queue[ToWorker] = asyncio.Queue()

    def run(self, nursery: socket.socket | None) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_default_executor(self._threads)
        self._instance.guard = self._guard
        self._listener = threading.Thread(target=self._listen, name="instance", daemon=True)
        self._listener.start()
        self._send(Ready())
        failpoint("worker: ready")
        serving = self._serving = self._loop.create_task(self._serve())
        if nursery is not None:
            self._loop.add_reader(nursery, self._hear, nursery)
        while not serving.done():
            # A `SystemExit` in a task of the agent's is that task's outcome and leaves the loop too, as `loop.stop()`
            # does: the loop goes on, and whoever waits for the task hears of it.
            with contextlib.suppress(BaseException):
                self._loop.run_until_complete(serving)
        serving.result()

    def _listen(self) -> None:
        while True:
            try:
                message = receive(self._connection, ToWorker)
            except EOFError:
                if self._idle:
                    tracing.flush(_TRACES_PATIENCE)
                with self._appending:
                    # Tools may have children: we lead the process group that they are in.
                    os.killpg(0, signal.SIGKILL)
            self._loop.call_soon_threadsafe(self._inbox.put_nowait, message)

    async def _serve(self) -> None:
        instance, not_entered, lost = self._instance, "", list[str]()
        while True:
            message = await self._inbox.get()
            if isinstance(message, Lost):
                lost.append(message.cause)
            elif isinstance(message, Enter):
                self._application = message.application
                try:
                    instance.enter(message)
                except BaseException as error:  # a CommonData that is none of ours, or the agent's own code
                    traceback.print_exc()
                    not_entered = f"The session cannot be served: {error}"
            elif not_entered:
                self._send(Failed(not_entered))
            elif self._sources.changed:
                self._send(Stale())
            else:
                failpoint("worker: asked")
                self._idle = False
                metrics.start(self._application, self._how)
                while lost:
                    metrics.lost(lost.pop())
                answer = await self._answer(instance, message)
                self._idle = True
                failpoint("worker: before its answer")
                self._send(answer)
                failpoint("worker: after its answer")
                if self._replaceable:
                    self._loop.call_later(_QUIET, self._step_aside)

    def _hear(self, nursery: socket.socket) -> None:
        """The nursery that this worker has founded has rehearsed, or has ended."""
        self._replaceable = bool(nursery.recv(1))
        if self._replaceable:
            self._step_aside()
        else:
            self._loop.remove_reader(nursery)
            nursery.close()

    def _step_aside(self) -> None:
        """Let a forked worker take this one's place, if nothing goes on here."""
        if self._replaceable and not self._goes_on():
            with contextlib.suppress(OSError):  # it has gone: the listener hears of it
                self._send(Replaceable())

    def _goes_on(self) -> bool:
        """True while there is a turn, or something that the agent or this program has begun in one."""
        if not self._idle or asyncio.all_tasks(self._loop) != {self._serving} or self._instance.has_unwritten:
            return True
        ours = {threading.main_thread(), self._listener, *self._threads.threads}
        if self._threads.busy or set(threading.enumerate()) - ours:
            return True
        try:
            return has_children() or len(members(os.getpgrp())) > 1
        except OSError:
            return True  # nobody tells

    def _send(self, message: FromWorker) -> None:
        with self._sending:  # writes to the cache are announced from other threads
            send(self._connection, message)

    async def _answer(self, instance: FlameInstance, task: Invoke) -> Done | Failed:
        try:
            return Done(await instance.invoke(task))
        except BaseException as error:
            traceback.print_exc()
            return Failed(f"{type(error).__name__}: {error}")

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """Around a write to the cache: nobody ends the process inside."""
        with self._appending:
            self._send(Appending())  # an instance that is gone: fail before anything is written
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    self._send(Appended())


def _event_loop() -> asyncio.AbstractEventLoop:
    """The loop that the agent's module has got while it was imported, or a new one."""
    with warnings.catch_warnings(), contextlib.suppress(RuntimeError):
        warnings.simplefilter("ignore", DeprecationWarning)
        return asyncio.get_event_loop()
    return asyncio.new_event_loop()


def _import_failure(named: str, error: BaseException) -> str:
    module = named.partition(":")[0]
    path = f"/{module.replace('.', '/')}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.endswith((f"{path}.py", f"{path}/__init__.py"))
    ]
    where = f" (line {frames[-1].lineno})" if frames else ""
    text = str(error).strip().splitlines() or [""]
    said = f"The agent's module {module!r}{where} cannot be imported: {type(error).__name__}: {text[0]}"
    # A client of HTTP that the module makes reads them all, and does not say which is wrong.
    environment = find_mistake(os.environ)
    return f"{closed(said)} {environment}" if environment else said


if __name__ == "__main__":
    main()
