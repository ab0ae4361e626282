"""The scheduler: which session gets an executor, and with what its instances are started.

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
from typing import TYPE_CHECKING

from flamewire.failpoints import failpoint
from localflame.controller import Controller
from localflame.domain import OPEN, RUNNING, Application, Session
from localflame.executor import Executor
from localflame.instance.host_shim import Instance
from localflame.instance.logs import drop_session_logs, note_session
from localflame.instance.plan import Plan
from localflame.node import free_memory, memory
from localflame.packages import PackageInstaller, make_flame_home

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localflame.home import Home

log = logging.getLogger("localflame.scheduler")

#: Turns of an agent wait for the network, so memory bounds how many executors there are, not cores. So many there may
#: always be; LOCALFLAME_EXECUTORS says how many at most.
MIN_EXECUTORS = 8
#: What a session may come to weigh, instance and worker together, as long as too few were answered to tell: bytes.
MOST_WEIGHT = 220 * 1024 * 1024
#: What it weighs at least, with workers that share most of their memory: it bounds the number of all.
LEAST_WEIGHT = 30 * 1024 * 1024
#: The share of the machine's memory that stays free for others.
RESERVE = 0.25


@dataclass(frozen=True)
class Settings:
    """The environment that a client wants for a session's instances. In memory only: it holds keys."""

    environment: Mapping[str, str]
    clear: tuple[str, ...]


class Scheduler:
    """Starts and ends executors as the sessions need them."""

    def __init__(
        self, controller: Controller, home: Home, sockets: Path, endpoints: Mapping[str, str], umask: int
    ) -> None:
        self.controller = controller
        self._home, self._sockets, self._endpoints, self._umask = home, sockets, endpoints, umask
        self._unused_memory = free_memory()
        self.max_executors = _limit(os.environ.get("LOCALFLAME_EXECUTORS", ""))
        self.executors: dict[str, Executor] = {}
        own_home = home.flame
        if not os.environ.get("FLAME_HOME"):
            make_flame_home(own_home)
        self.flame_home = Path(os.environ.get("FLAME_HOME") or own_home)
        self.packages = PackageInstaller(self.flame_home)
        self._base = {**os.environ, "FLAME_HOME": str(self.flame_home)}
        self._settings: dict[str, Settings] = {}
        self._defaults: dict[str, Settings] = {}
        self._queued: set[Session] = set()
        self._stopping = False
        controller.on_session_changed = self.session_changed
        controller.on_unregistered = self.packages.forget
        for session in list(controller.sessions.values()):
            self.session_changed(session)

    def set_settings(self, session_id: str, settings: Settings) -> None:
        """Keep the settings of a session; they take effect before its next task."""
        self._settings[session_id] = settings

    def set_default_settings(self, application: str, settings: Settings) -> None:
        """Keep the settings of those sessions of an application that no client makes any for."""
        self._defaults[application] = settings

    def settings_of(self, session: Session) -> Settings | None:
        """The settings of a session, if a client has made any for it, or for its application."""
        return self._settings.get(session.id) or self._defaults.get(session.spec.application)

    def plan(self, application: Application, session: Session) -> Plan:
        """The plan by which an instance for this session would be started now."""
        settings = self.settings_of(session) or Settings({}, ())
        base = {
            name: value
            for name, value in self._base.items()
            if not any(fnmatch.fnmatchcase(name, pattern) for pattern in settings.clear)
        }
        installed = self.packages.environment(application.name, application.spec)
        return Plan.make(application.name, application.spec, base, settings.environment, installed)

    async def launch(self, executor: str, plan: Plan) -> Instance:
        """Start an instance. Raises InstanceLost."""
        failpoint("engine: before an instance")
        return await Instance.launch(self._home, self._sockets, executor, plan, self._endpoints, self._umask)

    def note_session(self, executor: Executor) -> None:
        """Note whose logs the executor's instance writes."""
        note_session(self._home.logs, executor.id, executor.session.id)

    def drop_logs(self, session_id: str) -> None:
        """Remove what the instances of a session have printed."""
        drop_session_logs(self._home.logs, session_id)

    def session_changed(self, session: Session) -> None:
        """The session has something new: tasks, an end, an executor less."""
        executors = self.executors_of(session)
        if not session.can_start_tasks:
            self._queued.discard(session)
            for executor in executors:
                executor.release()
            if session.state != OPEN:
                self._settings.pop(session.id, None)
            return
        for executor in executors:
            if executor.idle and session.pending_count:
                executor.assign()
        if self._missing(session) > 0:
            self._queued.add(session)
            self.allocate()
        else:
            self._queued.discard(session)

    def executors_of(self, session: Session) -> list[Executor]:
        """The executors of a session, those included that are leaving it."""
        return [executor for executor in self.executors.values() if executor.session is session]

    def _missing(self, session: Session) -> int:
        """The number of executors that the session lacks: whole batches only (compute_demand and the gang plugin)."""
        if not self.controller.can_run(session):
            return 0
        executors = self.executors_of(session)
        staying = sum(not executor.leaving for executor in executors)
        batch = session.batch_size
        demand = (session.pending_count + session.counts[RUNNING]) // batch * batch
        wanted = max(min(demand, session.max_instances), int(session.spec.min_instances))
        if staying >= wanted or len(executors) >= session.max_instances:
            return 0
        missing = wanted - staying
        return missing + -(staying + missing) % batch

    def allocate(self) -> None:
        """Give executors to the queued sessions, as far as there are any."""
        if not self.executors:
            self._unused_memory = free_memory()
        while self._queued and not self._stopping:
            session = min(self._queued, key=self._rank)
            if self._missing(session) <= 0:
                self._queued.discard(session)
                continue
            if session.spec.priority < self._highest_waiting_priority():
                return
            count = min(self._missing(session), session.batch_size - self._staying(session) % session.batch_size)
            if not self._make_room(session, count):
                return
            for _ in range(count):
                executor = Executor(self, session)
                self.executors[executor.id] = executor
                executor.start()

    def _staying(self, session: Session) -> int:
        return sum(not executor.leaving for executor in self.executors_of(session))

    def _highest_waiting_priority(self) -> int:
        """The highest priority of a session with pending tasks: nothing starts below it, even where there is room."""
        sessions = {executor.session for executor in self.executors.values()} | self._queued
        waiting = [session for session in sessions if session.can_start_tasks and session.pending_count]
        return max((int(session.spec.priority) for session in waiting), default=0)

    def _rank(self, session: Session) -> tuple[bool, int, int, int]:
        """The place of a session in the queue: the lowest is served first."""
        only_keeps_its_least = not session.pending_count
        executors = len(self.executors_of(session))
        return only_keeps_its_least, -int(session.spec.priority), executors, session.waiting_since

    def _make_room(self, session: Session, count: int) -> bool:
        """Free so many places, where need be those of idle executors of other sessions. False where it cannot be."""
        lacking = count - self._free_places()
        if lacking <= 0:
            return True
        if self._will_know_more():
            return False
        idle = [executor for executor in self.executors.values() if executor.idle and executor.session is not session]
        if len(idle) < lacking or not session.pending_count:
            return False
        for executor in sorted(idle, key=lambda executor: executor.idle_since)[:lacking]:
            executor.release()
        return True

    def _free_places(self) -> int:
        taken = sum(not executor.leaving for executor in self.executors.values())
        if taken < MIN_EXECUTORS:
            return min(self.max_executors, MIN_EXECUTORS) - taken
        unsettled = sum(executor.unsettled for executor in self.executors.values())
        room = int((free_memory() - RESERVE * memory()) / self._weight()) - unsettled
        return min(self.max_executors - taken, max(room, 0))

    def _weight(self) -> float:
        """What one more will weigh: as much as those weigh that there are, from what is not free any more."""
        if not self._knows_weight():
            return MOST_WEIGHT
        taken = (self._unused_memory - free_memory()) / len(self.executors)
        return min(max(taken, LEAST_WEIGHT), MOST_WEIGHT)

    def _knows_weight(self) -> bool:
        return sum(not executor.unsettled for executor in self.executors.values()) >= MIN_EXECUTORS

    def _will_know_more(self) -> bool:
        """True if there may be room for more as soon as some of those that begin are answered: nobody has to go."""
        begin = any(executor.unsettled and not executor.leaving for executor in self.executors.values())
        is_full = sum(not executor.leaving for executor in self.executors.values()) >= self.max_executors
        return begin and not is_full and not self._knows_weight() and free_memory() > RESERVE * memory()

    def should_yield(self, session: Session) -> bool:
        """True if one of the session's executors should make room for a session that waits and has none."""
        if not self._queued or len(self.executors_of(session)) < 2 or self._free_places() > 0:
            return False
        waiting = [other for other in self._queued if other.pending_count and not self.executors_of(other)]
        return any(other.spec.priority >= session.spec.priority for other in waiting)

    def task_started(self, session: Session) -> None:
        """A task of the session has started; sessions of a lower priority may have waited for its last."""
        if session.spec.priority and not session.pending_count:
            self.allocate()

    def executor_left(self, executor: Executor) -> None:
        """The executor has ended its instance."""
        del self.executors[executor.id]
        self.session_changed(executor.session)
        self.allocate()

    async def stop(self) -> None:
        """End all instances. What runs is pending again in the next engine."""
        self._stopping = True
        await asyncio.gather(*(executor.stop() for executor in list(self.executors.values())))


def _limit(wanted: str) -> int:
    """How many executors there may be at most: so many, or as many as the memory has room for."""
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    return max(MIN_EXECUTORS, int(memory() * (1 - RESERVE) / LEAST_WEIGHT))
