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
import fnmatch
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from flamewire.failpoints import failpoint
from localflame.controller import Controller
from localflame.domain import OPEN, RUNNING, Application, Session
from localflame.executor import Executor
from localflame.instance.instance import Instance
from localflame.instance.plan import Plan
from localflame.packages import ApplicationManager, make_flame_home
from localflame.warm_pool import Spares

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localflame.home import Home

log = logging.getLogger("localflame.scheduler")

#: Turns of an agent wait for the network, so there are more executors than cores.
LEAST_EXECUTORS = 8
#: Set in the environment of an instance that has no session yet, and may have to wait for one for long.
SPARE = "LOCALFLAME_SPARE"


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
