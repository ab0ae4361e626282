"""Which engine, and how to reach it: a Flame cluster that is configured, or the embedded engine.

Promises that both look alike to a turn: `reach` gives addresses that answer or a sentence why not, `register`
sees to it that the agent is there, `pass_settings` hands on how to reach the model.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from flameagent import model_choice
from flameagent.client.application import FILE, Application
from flameagent.client.errors import NoEngine, NotRegistered, UsageError
from flameagent.client.settings import Environment
from flameagent.flame import Endpoints, FlameError, NotFound, resolve
from flameagent.flame.endpoints import VARIABLES
from localflame import Control, EngineError, default_home, find, offline, start, stop

if TYPE_CHECKING:
    from flameagent.flame.frontend import Frontend

FIRST_CONTACT = 8.0
"""Seconds that an endpoint has to show that it is Flame."""


@dataclass(frozen=True)
class Cluster:
    """A Flame that someone runs for us."""

    endpoints: Endpoints

    @property
    def identity(self) -> str:
        """What tells this engine from others."""
        return self.endpoints.frontend

    @property
    def why(self) -> str:
        """Who chose it."""
        return self.endpoints.source

    @property
    def contact(self) -> str:
        """What is done to reach it."""
        return "connecting"

    def reach(self) -> Endpoints:
        """Its addresses."""
        return self.endpoints

    def begin(self) -> None:
        """Nothing: it runs, or is somebody else's to start."""

    def register(self, application: Application, frontend: Frontend) -> None:
        """Check that the application is registered; it is not ours to do that. Raises `NotRegistered`."""
        try:
            frontend.application(application.name, timeout=FIRST_CONTACT)
        except NotFound as error:
            raise NotRegistered(not_registered(application, self)) from error

    def pass_settings(self, application: Application, session_id: str, environ: Mapping[str, str]) -> None:
        """Nothing: on a cluster the executor managers' environment decides."""


@dataclass(frozen=True)
class Embedded:
    """The engine of this machine, in a home of its own."""

    home: Path

    @property
    def identity(self) -> str:
        """What tells this engine from others; its ports may change."""
        return str(self.home)

    @property
    def why(self) -> str:
        """Who chose it."""
        return "no --endpoint, FLAME_ENDPOINT or ~/.flame/flame.yaml"

    @property
    def contact(self) -> str:
        """What is done to reach it."""
        with suppress(EngineError):
            if find(self.home):
                return "connecting"
        return "starting the engine"

    def reach(self) -> Endpoints:
        """Its addresses; it is started where it does not run. Raises `NoEngine`."""
        try:
            engine = start(self.home)
        except EngineError as error:
            raise NoEngine(f"The embedded engine cannot start. {error}") from error
        return Endpoints(
            engine.endpoint,
            engine.cache_endpoint,
            source="the embedded engine",
            frontend_socket=engine.frontend_socket,
            cache_socket=engine.cache_socket,
        )

    def begin(self) -> None:
        """Start it where it does not run, beside what this process does meanwhile; `reach` waits for it."""
        threading.Thread(target=self._begin, name="engine", daemon=True).start()

    def _begin(self) -> None:
        with suppress(Exception):  # `reach` tries it too, and says what is wrong
            start(self.home)

    def register(self, application: Application, frontend: Frontend) -> None:
        """Have the application run from its folder with this interpreter. Raises `NoEngine`."""
        try:
            Control(self.home).application(
                application.name,
                folder=application.folder,
                command=sys.executable,
                arguments=["-m", "flameagent.service", "agent"],
                environments=application.environments,
                description=application.description,
                labels=application.labels,
                delay_release=application.delay_release,
                max_instances=application.max_instances,
                spare=True,
            )
        except EngineError as error:
            raise NoEngine(str(error)) from error

    def pass_settings(self, application: Application, session_id: str, environ: Mapping[str, str]) -> None:
        """Give the session's next task the model settings of this environment, and no others. Raises `NoEngine`."""
        names = application.variables
        try:
            Control(self.home).settings(
                session_id, model_choice.settings(environ, names), clear=[*model_choice.SETTINGS, *sorted(names)]
            )
        except EngineError as error:
            raise NoEngine(str(error)) from error

    def sessions_at_rest(self, application: str) -> list[tuple[str, bool, int]]:
        """The ID of each session, whether it is open, and when it was made (epoch ms), newest first; asks nobody."""
        return offline.sessions(self.home, application)

    def logs(self) -> list[Path]:
        """Its own log, and those of the instance that wrote last: what there is, the newest last."""
        folder = self.home / "logs"
        instances = sorted(folder.glob("*.out"), key=_written)[-1:]
        logs = [folder / "engine.log", *(path for out in instances for path in (out, out.with_suffix(".err")))]
        return sorted((path for path in logs if path.is_file()), key=_written)

    def status(self) -> dict[str, Any] | None:
        """What it says of itself, or None where it does not run; starts nothing. Raises `NoEngine`."""
        try:
            return Control(self.home).status() if find(self.home) else None
        except EngineError as error:
            raise NoEngine(str(error)) from error

    def stop(self) -> bool:
        """End it, and wait until it is gone. False where it did not run. Raises `NoEngine`."""
        try:
            return stop(self.home)
        except EngineError as error:
            raise NoEngine(str(error)) from error


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # removed meanwhile
        return 0.0


Engine: TypeAlias = Cluster | Embedded


def choose(environ: Mapping[str, str]) -> Engine:
    """The engine that these variables or `~/.flame/flame.yaml` name; otherwise the embedded one.

    Reaches nothing. Raises `UsageError` for a configuration that makes no sense.
    """
    told = Environment(environ)
    try:
        endpoints = resolve(told, sources=told.sources)
    except FlameError as error:
        raise UsageError(str(error)) from error
    if endpoints is None:
        if idle := [told.source(name) for name in VARIABLES if told.source(name).startswith("--")]:
            raise UsageError(
                f"{' and '.join(idle)}: only a Flame cluster has that, and none is named. Give --endpoint."
            )
        return embedded(environ)
    return Cluster(endpoints)


def embedded(environ: Mapping[str, str] = os.environ) -> Embedded:
    """The embedded engine, whatever is configured beside it."""
    try:
        return Embedded(default_home(environ))
    except EngineError as error:
        raise UsageError(str(error)) from error


def not_registered(application: Application, engine: Cluster) -> str:
    """The sentence about an application that a cluster does not know."""
    return (
        f"The application {application.name} is not registered with the Flame at {engine.endpoints.frontend}. "
        f"Register it first: flmctl register -f {FILE}"
    )
