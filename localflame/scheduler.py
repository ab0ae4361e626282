"""Executors, and which session each of them works for.

An executor is one coroutine: it binds to a session (starts an instance), runs that session's tasks one
at a time, and leaves when none has come for the application's `delay_release`, when the session is
closed, when what it was started with has changed, or when a session that waits has no other to get.
Sessions are served by priority, then those that have no executor before those that have some, then the
one that waits longer. Nothing starts for a session while one of a higher priority has pending tasks, and
executors of a session start in multiples of its `batch_size`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import logging
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from flamewire.failpoints import failpoint
from flamewire.stubs import shim as messages
from flamewire.stubs import types
from localflame.applications import Application
from localflame.controller import FAILED, OPEN, RUNNING, SUCCEED, Controller, Session, Task
from localflame.packages import ApplicationManager, InstallError, make_flame_home
from localflame.shim import INSTALL_FAILED, Instance, InstanceLost, Plan
from localflame.store import StoreError
from localflame.warm_pool import Spares

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localflame.home import Home

log = logging.getLogger("localflame.scheduler")

#: Turns of an agent wait for the network, so there are more executors than cores.
LEAST_EXECUTORS = 8
#: Set in the environment of an instance that has no session yet, and may have to wait for one for long.
SPARE = "LOCALFLAME_SPARE"
#: Seconds until a session whose least instances do not come up gets the next one.
BIND_PAUSE = 2.0


@dataclass(frozen=True)
class Settings:
    """What a client wants in the environment of a session's instances. In memory only: it holds keys."""

    environment: Mapping[str, str]
    clear: tuple[str, ...]


class Scheduler:
    """Starts and ends executors as the sessions need them."""

    def __init__(
        self, controller: Controller, home: Home, sockets: Path, endpoints: Mapping[str, str], umask: int
    ) -> None:
        self.controller = controller
        self.spares = Spares(self._launch_spare)
        self._home, self._sockets, self._endpoints, self._umask = home, sockets, endpoints, umask
        self.limit = max(LEAST_EXECUTORS, 2 * (os.cpu_count() or 1))
        self.executors: dict[str, Executor] = {}
        own_home = home.flame
        if not os.environ.get("FLAME_HOME"):
            make_flame_home(own_home)
        self.flame_home = Path(os.environ.get("FLAME_HOME") or own_home)
        self.appmgr = ApplicationManager(self.flame_home)
        self._base = {**os.environ, "FLAME_HOME": str(self.flame_home)}
        self._settings: dict[str, Settings] = {}
        self._wanting: set[Session] = set()
        self._stopping = False
        controller.changed = self.changed
        controller.unregistered = self.appmgr.forget
        for session in list(controller.sessions.values()):
            self.changed(session)

    def settings(self, session_id: str, settings: Settings) -> None:
        """Take effect before the next task of the session."""
        self._settings[session_id] = settings

    def settings_of(self, session_id: str) -> Settings | None:
        """What a client has said for the session."""
        return self._settings.get(session_id)

    def plan(self, application: Application, session_id: str) -> Plan:
        """What an instance for this session would be started with now."""
        settings = self.settings_of(session_id) or Settings({}, ())
        base = {
            name: value
            for name, value in self._base.items()
            if not any(fnmatch.fnmatchcase(name, pattern) for pattern in settings.clear)
        }
        installed = self.appmgr.environment(application.name, application.spec)
        return Plan.make(application.name, application.spec, base, settings.environment, installed)

    async def launch(self, executor: str, plan: Plan, more: Mapping[str, str] = MappingProxyType({})) -> Instance:
        """Start an instance. Raises InstanceLost."""
        failpoint("engine: before an instance")
        endpoints = {**self._endpoints, **more}
        return await Instance.launch(self._home, self._sockets, executor, plan, endpoints, self._umask)

    async def _launch_spare(self, executor: str, plan: Plan) -> Instance:
        return await self.launch(executor, plan, {SPARE: "1"})

    def changed(self, session: Session) -> None:
        """The session has something new: tasks, an end, an executor less."""
        held = self.held(session)
        if not session.runs:
            self._wanting.discard(session)
            for executor in held:
                executor.release()
            if session.state != OPEN:
                self._settings.pop(session.id, None)
            return
        for executor in held:
            if executor.idle and session.waits:
                executor.hand()
        if self._need(session) > 0:
            self._wanting.add(session)
            self.allocate()
        else:
            self._wanting.discard(session)

    def held(self, session: Session) -> list[Executor]:
        """The executors of a session, those included that are leaving it."""
        return [executor for executor in self.executors.values() if executor.session is session]

    def _need(self, session: Session) -> int:
        """How many executors more the session could use: whole batches only (compute_demand and the gang plugin)."""
        if not self.controller.runs_here(session):
            return 0
        held = self.held(session)
        staying = sum(not executor.leaving for executor in held)
        batch = session.batch_size
        demand = (session.waits + session.counts[RUNNING]) // batch * batch
        wanted = max(min(demand, session.max_instances), int(session.spec.min_instances))
        if staying >= wanted or len(held) >= session.max_instances:
            return 0
        missing = wanted - staying
        return missing + -(staying + missing) % batch

    def allocate(self) -> None:
        """Give executors to the sessions that want them, as far as there are any."""
        while self._wanting and not self._stopping:
            session = min(self._wanting, key=self._turn)
            if self._need(session) <= 0:
                self._wanting.discard(session)
                continue
            if session.spec.priority < self._needy_priority():
                return
            count = min(self._need(session), session.batch_size - self._staying(session) % session.batch_size)
            if not self._room(session, count):
                return
            for _ in range(count):
                executor = Executor(self, session)
                self.executors[executor.id] = executor
                executor.start()

    def _staying(self, session: Session) -> int:
        return sum(not executor.leaving for executor in self.held(session))

    def _needy_priority(self) -> int:
        """The highest priority of a session with pending tasks: nothing starts below it, even where there is room."""
        needy = {executor.session for executor in self.executors.values()} | self._wanting
        return max((int(session.spec.priority) for session in needy if session.runs and session.waits), default=0)

    def _turn(self, session: Session) -> tuple[bool, int, int, int]:
        # One that only wants to keep its least instances comes last.
        return not session.waits, -int(session.spec.priority), len(self.held(session)), session.oldest

    def _room(self, session: Session, count: int) -> bool:
        """Whether so many executors can be had: free ones, and such as have nothing to do in another session."""
        lacking = count - self._free()
        if lacking <= 0:
            return True
        idle = [executor for executor in self.executors.values() if executor.idle and executor.session is not session]
        if len(idle) < lacking or not session.waits:
            return False
        for executor in sorted(idle, key=lambda executor: executor.idle_since)[:lacking]:
            executor.release()
        return True

    def _free(self) -> int:
        return self.limit - sum(not executor.leaving for executor in self.executors.values())

    def must_yield(self, session: Session) -> bool:
        """Whether one of the session's executors should go to a session that waits and has none."""
        if not self._wanting or len(self.held(session)) < 2 or self._free() > 0:
            return False
        least = session.spec.priority
        return any(other.waits and not self.held(other) and other.spec.priority >= least for other in self._wanting)

    def taken(self, session: Session) -> None:
        """A task of the session has started; sessions of a lower priority may have waited for its last."""
        if session.spec.priority and not session.waits:
            self.allocate()

    def gone(self, executor: Executor) -> None:
        """An executor has left."""
        del self.executors[executor.id]
        self.changed(executor.session)
        self.allocate()

    async def stop(self) -> None:
        """End all instances. What runs is pending again in the next engine."""
        self._stopping = True
        await asyncio.gather(self.spares.stop(), *(executor.stop() for executor in list(self.executors.values())))


class Executor:
    """One session's place to run tasks, one at a time."""

    def __init__(self, scheduler: Scheduler, session: Session) -> None:
        self.id = str(uuid.uuid4())
        self.session = session
        self.state = types.ExecutorBinding
        self.task: Task | None = None
        self.idle_since = 0.0
        self._scheduler = scheduler
        self._controller = scheduler.controller
        self._plan: Plan | None = None
        self._instance: Instance | None = None
        self._made_of: tuple[object, ...] = ()
        self._work: asyncio.Future[Task | None] | None = None
        self._releasing = False
        self._life: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether it waits for a task."""
        return self._work is not None and not self._work.done()

    @property
    def leaving(self) -> bool:
        """Whether its place may be given to another already."""
        return bool(self.state == types.ExecutorUnbinding)

    def start(self) -> None:
        """Begin to live."""
        self._life = asyncio.create_task(self._live(), name=f"executor-{self.id}")

    def hand(self) -> None:
        """Give an idle executor its next task, or let it go where its instance is of yesterday."""
        if self._current():
            assert self._work is not None
            self._work.set_result(self.session.take())
            self._scheduler.taken(self.session)
        else:
            self.release()

    def release(self) -> None:
        """Leave the session after the task that runs, at once where none does."""
        self._releasing = True
        self.state = types.ExecutorUnbinding if self.idle else self.state
        if self._work is not None and not self._work.done():
            self._work.set_result(None)

    async def stop(self) -> None:
        """The engine leaves: end the instance, also in the middle of a task."""
        assert self._life is not None
        if not self.idle and not self.leaving:
            self._life.cancel()
        self.release()
        await asyncio.wait((self._life,))

    async def _live(self) -> None:
        instance: Instance | None = None
        served = False
        try:
            instance = await self._bind()
            if instance is None:
                return
            self.state = types.ExecutorBound
            self._instance = instance
            instance.on_death(self.release)  # an idle one's death is nobody's loss
            while (task := await self._next()) is not None:
                self.task = task
                try:
                    await self._run(instance, task)
                except InstanceLost as lost:
                    log.warning("executor %s: %s", self.id, lost)
                    self.state = types.ExecutorUnbinding
                    await instance.end(leave=False)
                    instance = None
                    await self._controller.lose(self.session, task, str(lost))
                    return
                except StoreError as error:  # a task that is nobody's would run for ever
                    await self._controller.lose(self.session, task, str(error))
                finally:
                    self.task = None
                if not served:
                    served = True
                    self._prepare_spare()
        except Exception:
            log.exception("executor %s", self.id)
            await asyncio.sleep(1.0)  # whatever it is, not in a hot loop
        finally:
            self.state = types.ExecutorUnbinding
            self._scheduler.allocate()
            if instance is not None:
                await asyncio.shield(asyncio.ensure_future(instance.end(leave=True)))
            self._scheduler.gone(self)

    async def _bind(self) -> Instance | None:
        application = self._controller.applications[self.session.spec.application]
        place = self._scheduler
        common_data, _ = await self._controller.session_details(self.session.id)
        spec = application.spec
        described = messages.ApplicationContext(name=application.name, shim=spec.shim)
        for part in ("image", "command", "working_directory", "url", "installer"):
            if spec.HasField(part):
                setattr(described, part, getattr(spec, part))
        context = messages.SessionContext(session_id=self.session.id, application=described, common_data=common_data)
        try:
            try:
                await place.appmgr.install(application.name, spec)
            except InstallError as error:
                raise InstanceLost(f"application installation failed: {error}", INSTALL_FAILED) from None
            self._made_of = self._ingredients()
            self._plan = place.plan(application, self.session.id)
            with contextlib.suppress(InstanceLost):  # one that had been waiting may have died; that is nobody's loss
                if (spare := await place.spares.take(self._plan)) is not None:
                    await spare.enter(self.id, context)
                    return spare
            instance = await place.launch(self.id, self._plan)
            await instance.enter(self.id, context)
            return instance
        except InstanceLost as lost:
            log.warning("executor %s: %s", self.id, lost)
            self.state = types.ExecutorUnbinding
            await self._controller.bind_failed(self.session, self.id, node().metadata.name, lost.code, str(lost))
            task = self.session.take()  # the one that it was started for
            if task is not None:
                await self._controller.lose(self.session, task, str(lost))
            else:
                await asyncio.sleep(BIND_PAUSE)
            return None

    async def _next(self) -> Task | None:
        """The next task, or None when it is time to leave."""
        while not self._releasing and self.session.runs:
            if not self._current() or self._scheduler.must_yield(self.session):
                return None
            task = self.session.take()
            if task is not None:
                self._scheduler.taken(self.session)
                return task
            loop = asyncio.get_running_loop()
            self._work, self.idle_since = loop.create_future(), loop.time()
            application = self._controller.applications[self.session.spec.application]
            timer = loop.call_later(application.delay_release, self._expire)
            self._scheduler.allocate()
            try:
                task = await self._work
            finally:
                timer.cancel()
                self._work = None
            if task is not None:
                return task
        return None

    def _prepare_spare(self) -> None:
        """The next session is likely to be like this one. Not before it has been served: that would slow it down."""
        application = self._controller.applications.get(self.session.spec.application)
        if application is not None and self._plan is not None:
            self._scheduler.spares.prepare(self._plan, application.delay_release)

    def _expire(self) -> None:
        if len(self._scheduler.held(self.session)) > self.session.spec.min_instances:
            self.release()
        elif self._work is not None and not self._work.done():
            self._work.set_result(None)  # the session wants to keep it: wait anew

    async def _run(self, instance: Instance, task: Task) -> None:
        payload = await self._controller.payload(task, "input")
        context = messages.TaskContext(task_id=str(task.id), session_id=self.session.id, input=payload)
        result = await instance.invoke(context)
        failpoint("engine: a task was answered")
        output = result.output or None  # Flame keeps no empty ones
        message = result.message if result.HasField("message") else None
        state = SUCCEED if result.return_code == 0 else FAILED
        await self._controller.finish(self.session, task, state, output, message)

    def _ingredients(self) -> tuple[object, ...]:
        """Cheap to compare: where these are the same, so is the plan."""
        application = self._controller.applications.get(self.session.spec.application)
        return application, application and application.version, self._scheduler.settings_of(self.session.id)

    def _current(self) -> bool:
        """Whether the instance is what would be started now, and where it was."""
        if self._instance is not None and not self._instance.has_its_folder():
            return False
        ingredients = self._ingredients()
        if ingredients != self._made_of:
            application = self._controller.applications.get(self.session.spec.application)
            if application is None or self._scheduler.plan(application, self.session.id) != self._plan:
                return False
            self._made_of = ingredients
        return True


def node() -> Any:
    """This machine, as Flame describes a node (flame.v1.Node)."""
    uname = os.uname()
    cores = os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    room = types.ResourceRequirement(cpu=cores, memory=memory)
    return types.Node(
        metadata=types.Metadata(id=uname.nodename, name=uname.nodename),
        spec=types.NodeSpec(hostname=uname.nodename),
        status=types.NodeStatus(
            state=types.Ready,
            capacity=room,
            allocatable=room,
            info=types.NodeInfo(arch=uname.machine, os=uname.sysname.lower()),
        ),
    )
