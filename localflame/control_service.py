"""The control socket's server: what can be asked of an engine that is not part of Flame's API."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localflame.home import EngineError

if TYPE_CHECKING:
    from localflame.controller import Controller
    from localflame.engine import Shutdown
    from localflame.scheduler import Scheduler, Settings
    from localflame.store import Store

log = logging.getLogger("localflame")


def _is_another_folder(folder: str, than: str) -> bool:
    """True if `folder` exists and is not `than` by another name."""
    return Path(folder).is_dir() and Path(folder).resolve() != Path(than).resolve()


def _checked_settings(of: str, environment: dict[str, str], clear: list[str]) -> Settings:
    """Settings, of a session or an application. Raises EngineError where no instance could be started with them."""
    from localflame.scheduler import Settings

    named = environment.items() if isinstance(environment, dict) else [(environment, None)]
    texts = [of, *clear, *(text for variable in named for text in variable)]
    if not all(isinstance(text, str) for text in texts):
        raise EngineError("Settings are texts: an ID or a name, variables and their values, and globs.")
    return Settings(environment, tuple(clear))


@dataclass
class ControlService:
    """Answers to the requests on the control socket. `about` is a part of each status."""

    about: dict[str, Any]
    started: float
    store: Store
    controller: Controller
    scheduler: Scheduler
    activity: Any
    shutdown: Shutdown

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, until it hangs up."""
        with contextlib.suppress(ConnectionError, ValueError):  # ValueError: a line beyond the limit
            while line := await reader.readline():
                with self.activity.busy():
                    answer = await self._answer(line)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        from localflame.errors import FlameError, Refused
        from localflame.store import StoreError

        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            return {"error": "A request is one JSON object on one line."}
        try:
            match request.pop("do", None):
                case "status":
                    return self.status()
                case "metrics":
                    return {"metrics": self.metrics()}
                case "application":
                    await self._application(**request)
                case "settings":
                    self._settings(**request)
                case "default settings":
                    self._default_settings(**request)
                case "stop":
                    self.shutdown.begin("asked to")
                case other:
                    return {
                        "error": f"This engine does not know the request {other!r}; it may be older than its client."
                    }
        except (EngineError, FlameError, Refused, StoreError) as error:
            return {"error": str(error)}
        except Exception as error:
            log.exception("a request on the control socket failed")
            return {"error": f"The engine could not do this: {error}; see its log."}
        return {"ok": True}

    def open_tasks(self) -> int:
        """Tasks that have not ended, and will."""
        sessions = self.controller.sessions.values()
        return sum(len(session.tasks) for session in sessions if self.controller.can_run(session))

    def status(self) -> dict[str, Any]:
        """See Control.status."""
        from localflame.domain import OPEN, STATES

        sessions = self.controller.sessions.values()
        opened = sum(session.state == OPEN for session in sessions)
        return {
            **self.about,
            "uptime": round(time.monotonic() - self.started, 3),
            "sessions": {"open": opened, "closed": len(sessions) - opened},
            "tasks": {
                name.lower(): sum(session.counts[state] for session in sessions) for state, name in STATES.items()
            },
            "instances": len(self.scheduler.executors),
            "executors": self.scheduler.max_executors,
        }

    def metrics(self) -> list[dict[str, Any]]:
        """See Control.metrics."""
        from localflame.domain import OPEN, PENDING, RUNNING
        from localflame.executor import State

        metrics, executors = self.controller.metrics, self.scheduler.executors.values()
        counts: Counter[tuple[str, ...]] = Counter()
        tasks: Counter[tuple[str, ...]] = Counter()
        for session in self.controller.sessions.values():
            application = session.spec.application
            counts[application, "open" if session.state == OPEN else "closed"] += 1
            tasks[application, "pending"] += session.counts[PENDING]
            tasks[application, "running"] += session.counts[RUNNING]
        for application in {session.spec.application for session in self.controller.sessions.values()}:
            metrics.begin(application)
        warm = {each.session for each in executors if each.state in (State.RUNNING, State.IDLE)}
        metrics.sessions.set(counts)
        metrics.tasks.set(tasks)
        metrics.warm_sessions.set(Counter((each.spec.application,) for each in warm))
        metrics.instances.set(Counter((each.session.spec.application, each.state.name.lower()) for each in executors))
        metrics.executor_limit.set({(): self.scheduler.max_executors})
        metrics.store_bytes.set({(): self.store.size()})
        return metrics.as_json()

    def _settings(self, session_id: str, environment: dict[str, str], clear: list[str]) -> None:
        self.scheduler.set_settings(session_id, _checked_settings(session_id, environment, clear))

    def _default_settings(self, application: str, environment: dict[str, str], clear: list[str]) -> None:
        self.scheduler.set_default_settings(application, _checked_settings(application, environment, clear))

    async def _application(
        self, name: str, folder: str, environments: dict[str, str], spare: bool = False, **fields: Any
    ) -> None:
        """See Control.application; `spare` is what clients of earlier versions ask for."""
        from flamewire.stubs import types
        from localflame.application_spec import full_application_spec

        spec = full_application_spec(
            types.ApplicationSpec(
                shim=types.Host,
                working_directory=folder,
                environments=[types.Environment(name=key, value=value) for key, value in environments.items()],
                **fields,
            )
        )
        known = self.controller.applications.get(name)
        if known is None:
            await self.controller.register_application(name, spec)
        elif (other := known.spec.working_directory) and _is_another_folder(other, folder):
            raise EngineError(
                f"The application {name} runs in {other} on this engine, not in {folder}; "
                "use that folder, or another LOCALFLAME_HOME for this one."
            )
        elif known.spec != spec:
            await self.controller.replace_application(name, spec)
