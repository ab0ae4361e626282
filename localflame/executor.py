"""An executor: one session's place to run tasks, one at a time, with an instance of its own.

It is one coroutine: it binds to its session (starts an instance), runs that session's tasks, and leaves when none has
come for the application's `delay_release`, when the session is closed, when what it was started with has changed, or
when the scheduler needs its place for another session. `State` says what it is doing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from enum import Enum
from typing import TYPE_CHECKING

from flamewire.failpoints import failpoint
from flamewire.stubs import shim as messages
from localflame.domain import FAILED, SUCCEED, Session, Task
from localflame.instance.errors import INSTALL_FAILED, InstanceLost
from localflame.node import node
from localflame.packages import InstallError
from localflame.store import StoreError

if TYPE_CHECKING:
    from localflame.instance.host_shim import Instance
    from localflame.instance.plan import Plan
    from localflame.scheduler import Scheduler

log = logging.getLogger("localflame.executor")

#: Seconds until a session whose least instances do not come up gets the next one.
BIND_RETRY_INTERVAL = 2.0

#: Seconds that an idle instance of a session's least ones waits before it looks again.
MINIMUM_WAIT = 1.0


class State(Enum):
    """The four things that an executor does."""

    BINDING = "starts an instance"
    RUNNING = "runs a task, or writes its end"
    IDLE = "waits for a task"
    LEAVING = "ends its instance; its place may be given to another"


_TRANSITIONS = {
    State.BINDING: {State.RUNNING, State.IDLE, State.LEAVING},
    State.RUNNING: {State.RUNNING, State.IDLE, State.LEAVING},
    State.IDLE: {State.RUNNING, State.IDLE, State.LEAVING},
    State.LEAVING: {State.LEAVING},
}


class Executor:
    """One session's place to run tasks. `start` begins its life, which ends by itself."""

    def __init__(self, scheduler: Scheduler, session: Session) -> None:
        self.id = str(uuid.uuid4())
        self.session = session
        self.state = State.BINDING
        #: When it became idle, on the loop's clock.
        self.idle_since = 0.0
        self._scheduler = scheduler
        self._controller = scheduler.controller
        self._metrics = scheduler.controller.metrics
        self._application: str = session.spec.application
        self._plan: Plan | None = None
        self._plan_inputs: tuple[object, ...] = ()
        self._instance: Instance | None = None
        #: The task of an executor that is RUNNING.
        self._task: Task | None = None
        self._not_idle = asyncio.Event()
        self._release_requested = False
        self._settled = False
        self._life: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """It waits for a task."""
        return self.state is State.IDLE

    @property
    def unsettled(self) -> bool:
        """It has answered nothing yet: what it will weigh is not taken from the memory."""
        return not self._settled

    @property
    def leaving(self) -> bool:
        """Its place may be given to another already."""
        return self.state is State.LEAVING

    def start(self) -> None:
        """Begin to live."""
        self._life = asyncio.create_task(self._live(), name=f"executor-{self.id}")

    def assign(self) -> None:
        """Have an idle executor run the session's next task, or leave where its instance is not up to date."""
        if self._is_current():
            self._start_next()
        else:
            self.release()

    def release(self) -> None:
        """Leave the session: at once where it is idle, else after the task that runs."""
        self._release_requested = True
        if self.idle:
            self._set_state(State.LEAVING)

    async def stop(self) -> None:
        """The engine leaves: end the instance, also in the middle of a task."""
        assert self._life is not None
        if self.state in (State.BINDING, State.RUNNING):
            self._life.cancel()
        self.release()
        await asyncio.wait((self._life,))

    def _set_state(self, state: State) -> None:
        assert state in _TRANSITIONS[self.state], f"{self.state} to {state}"
        self.state = state
        if state is State.IDLE:
            self.idle_since = asyncio.get_running_loop().time()
            self._not_idle.clear()
        else:
            self._not_idle.set()

    def _start_next(self) -> bool:
        """Take the session's next task, if there is one."""
        self._task = self.session.start_next()
        if self._task is None:
            return False
        self._set_state(State.RUNNING)
        if not self._task.losses:  # one that lost its instance has waited before
            self._metrics.task_wait.observe((self._task.started - self._task.created) / 1000, self._application)
        self._scheduler.task_started(self.session)
        return True

    async def _live(self) -> None:
        came_up = False
        try:
            began = time.monotonic()
            self._instance = await self._bind()
            if self._instance is not None:
                came_up = True
                self._metrics.instances_started.count(self._application)
                self._metrics.start_seconds.observe(time.monotonic() - began, self._application)
                self._instance.on_death(self._note_death)
                await self._serve(self._instance)
        except Exception:
            log.exception("executor %s", self.id)
            self._set_state(State.LEAVING)  # before the pause: nobody is to give it a task meanwhile
            await asyncio.sleep(1.0)  # whatever it is, not in a hot loop
        finally:
            self._set_state(State.LEAVING)
            self._scheduler.allocate()
            if self._instance is not None:
                await asyncio.shield(asyncio.ensure_future(self._instance.end(leave=True)))
            if came_up:
                self._metrics.instances_ended.count(self._application)
            self._scheduler.executor_left(self)

    def _note_death(self) -> None:
        if not self.leaving:  # else it was told to
            self._metrics.instances_died.count(self._application)
        self.release()  # an idle one's death is nobody's loss

    async def _serve(self, instance: Instance) -> None:
        """Run tasks until it is time to leave."""
        while (task := await self._next_task()) is not None:
            try:
                await self._run(instance, task)
            except InstanceLost as lost:
                log.warning("executor %s: %s", self.id, lost)
                self._set_state(State.LEAVING)
                await instance.end(leave=False)
                self._instance = None
                await self._controller.retry_or_fail(self.session, task, str(lost))
                return
            except StoreError as error:  # a task that is nobody's would run for ever
                await self._controller.retry_or_fail(self.session, task, str(error))
            if not self._settled:
                self._settled = True
                self._scheduler.allocate()  # there may be room for more now

    async def _bind(self) -> Instance | None:
        """An instance that has entered the session, or None where there is none: the session and a task know why."""
        application = self._controller.applications[self.session.spec.application]
        scheduler = self._scheduler
        common_data, _ = await self._controller.session_details(self.session.id)
        spec = application.spec
        described = messages.ApplicationContext(name=application.name, shim=spec.shim)
        for part in ("image", "command", "working_directory", "url", "installer"):
            if spec.HasField(part):
                setattr(described, part, getattr(spec, part))
        context = messages.SessionContext(session_id=self.session.id, application=described, common_data=common_data)
        try:
            try:
                await scheduler.packages.install(application.name, spec)
            except InstallError as error:
                raise InstanceLost(f"application installation failed: {error}", INSTALL_FAILED) from None
            self._plan_inputs = self._current_inputs()
            self._plan = scheduler.plan(application, self.session)
            scheduler.note_session(self)
            instance = await scheduler.launch(self.id, self._plan)
            await instance.enter(context)
            return instance
        except InstanceLost as lost:
            log.warning("executor %s: %s", self.id, lost)
            self._metrics.instances_not_started.count(self._application)
            self._set_state(State.LEAVING)
            await self._give_up_binding(lost)
            return None

    async def _give_up_binding(self, lost: InstanceLost) -> None:
        """Note it on the session, and on the task that the instance was to be started for."""
        name = node().metadata.name
        await self._controller.record_bind_failure(self.session, self.id, name, lost.code, str(lost))
        # A session that is being closed cancels what is pending: nothing of it may be made pending again behind that.
        task = self.session.start_next() if self.session.can_start_tasks else None
        if task is not None:
            await self._controller.retry_or_fail(self.session, task, str(lost))
        else:
            await asyncio.sleep(BIND_RETRY_INTERVAL)

    async def _next_task(self) -> Task | None:
        """The next task, or None when it is time to leave."""
        while not self._release_requested and self.session.can_start_tasks:
            if not self._is_current() or self._scheduler.should_yield(self.session):
                return None
            if not self._start_next():
                await self._wait_idle()
            if self.state is State.RUNNING:
                return self._task
        return None

    async def _wait_idle(self) -> None:
        """Be idle until `assign` or `release`, for the application's `delay_release` at most."""
        application = self._controller.applications[self.session.spec.application]
        self._set_state(State.IDLE)
        self._scheduler.allocate()  # which may take the place away at once
        # One of the session's least instances waits anew, and not without a pause where `delay_release` is 0.
        least = MINIMUM_WAIT if self._is_kept() else 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(application.delay_release, least)):
                await self._not_idle.wait()
        if self.idle and not self._is_kept():
            self.release()

    def _is_kept(self) -> bool:
        return len(self._scheduler.executors_of(self.session)) <= int(self.session.spec.min_instances)

    async def _run(self, instance: Instance, task: Task) -> None:
        payload = await self._controller.payload(task, "input")
        context = messages.TaskContext(task_id=str(task.id), session_id=self.session.id, input=payload)
        result = await instance.invoke(context)
        failpoint("engine: a task was answered")
        output = result.output or None  # Flame keeps no empty ones
        message = result.message if result.HasField("message") else None
        state = SUCCEED if result.return_code == 0 else FAILED
        await self._controller.finish(self.session, task, state, output, message)

    def _current_inputs(self) -> tuple[object, ...]:
        """All that the plan is made of, cheap to compare: where these are the same, so is the plan."""
        application = self._controller.applications.get(self.session.spec.application)
        return application, application and application.version, self._scheduler.settings_of(self.session)

    def _is_current(self) -> bool:
        """True if the instance is what would be started now, and its folder is still there."""
        if self._instance is not None and not self._instance.has_directory():
            return False
        inputs = self._current_inputs()
        if inputs != self._plan_inputs:
            application = self._controller.applications.get(self.session.spec.application)
            if application is None or self._scheduler.plan(application, self.session) != self._plan:
                return False
            self._plan_inputs = inputs
        return True
