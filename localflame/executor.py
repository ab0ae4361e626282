"""An executor: one session's place to run tasks, one at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from typing import TYPE_CHECKING

from flamewire.failpoints import failpoint
from flamewire.stubs import shim as messages
from flamewire.stubs import types
from localflame.domain import FAILED, SUCCEED, Session, Task
from localflame.instance.errors import INSTALL_FAILED, InstanceLost
from localflame.instance.instance import Instance
from localflame.instance.plan import Plan
from localflame.node import node
from localflame.packages import InstallError
from localflame.store import StoreError

if TYPE_CHECKING:
    from localflame.scheduler import Scheduler

log = logging.getLogger("localflame.executor")

#: Seconds until a session whose least instances do not come up gets the next one.
BIND_PAUSE = 2.0


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
