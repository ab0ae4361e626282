"""The engine, and how to reach it: a Flame cluster that is configured, or the embedded engine.

Promises that both look alike to whoever uses them, and that what differs is a method or an attribute of theirs:
`reach` gives addresses that answer or a sentence why not, `register` sees to it that the agent is there,
`pass_settings` hands on how to reach the model.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from flameagent import model_choice
from flameagent.client.application import FILE, Application
from flameagent.client.environment import Environment
from flameagent.client.errors import NoEngine, NotRegistered, UsageError
from flameagent.flame import Endpoints, FlameError, NotFound, resolve
from flameagent.settings import SETTINGS
from localflame import Control, EngineError, default_home, find, offline, start, stop

if TYPE_CHECKING:
    from flameagent.flame.frontend import Frontend

FIRST_CONTACT = 8.0
"""Seconds that an endpoint has to show that it is Flame."""


@dataclass(frozen=True)
class Cluster:
    """A Flame that someone runs for us."""

    kind: ClassVar = "cluster"
    comes_back: ClassVar = False
    """Reaching it again does not start it."""
    takes_settings: ClassVar = False
    """Its executor managers' environment decides on the model."""
    cache_apart: ClassVar = True
    """Its object cache is a server of its own, which may be away while the frontend answers."""

    endpoints: Endpoints

    @property
    def identity(self) -> str:
        """The name that tells this engine from others."""
        return self.endpoints.frontend

    @property
    def why(self) -> str:
        """The option, variable or file that chose it."""
        return self.endpoints.source

    @property
    def contact(self) -> str:
        """Words for reaching it."""
        return "connecting"

    def running(self) -> Cluster | None:
        """The engine by its address, where it runs, as far as that can be known without asking: itself."""
        return self

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
            raise NotRegistered(self.how_to_register(application)) from error

    def how_to_register(self, application: Application) -> str:
        """The advice about an application that it does not know."""
        return (
            f"The application {application.name} is not registered with the Flame at {self.endpoints.frontend}. "
            f"Register it first: flmctl register -f {FILE}"
        )

    def how_to_reach(self, *, reached: bool) -> str:
        """The advice where it does not answer, or, with `reached`, its object cache alone does not."""
        if not reached:
            return (
                f"Start that Flame, or name another: {self.endpoints.source} says where it is. "
                "Where nothing names one, the embedded engine answers."
            )
        if self.endpoints.cache_source:
            return f"{self.endpoints.cache_source} says where it is."
        by_hand = "say where it is with --cache-endpoint, or in FLAME_CACHE_ENDPOINT"
        return f"It was looked for beside the frontend: {by_hand}."

    def addresses(self) -> dict[str, tuple[str, str]]:
        """The settings of the way to it, by name: the value, and who set it."""
        where = self.endpoints
        found = {
            "endpoint": (where.frontend, where.source),
            "cache_endpoint": (where.cache, where.cache_source or "beside the frontend"),
        }
        files = " and ".join(dict.fromkeys(filter(None, (where.ca_file, where.cache_ca_file))))
        return found | {"ca_file": (files, where.ca_source)} if files else found

    def sessions_at_rest(self, application: str, timeout: float) -> list[tuple[str, bool, int]]:
        """The ID of each session, whether it is open, and when it was made (epoch ms), newest first.

        Raises `FlameError`, after `timeout` seconds at the latest.
        """
        from flameagent.flame.frontend import Frontend

        frontend = Frontend(self.endpoints)
        try:
            found = [session for session in frontend.sessions(timeout=timeout) if session.application == application]
        finally:
            frontend.close()
        found.sort(key=lambda session: (session.created, session.id), reverse=True)
        return [(session.id, session.open, session.created) for session in found]

    def pass_settings(self, application: Application, session_id: str, environ: Mapping[str, str]) -> None:
        """Nothing: on a cluster the executor managers' environment decides."""


@dataclass(frozen=True)
class Embedded:
    """The engine of this machine, in a home of its own."""

    kind: ClassVar = "embedded"
    comes_back: ClassVar = True
    """Reaching it again starts it, maybe on other ports."""
    takes_settings: ClassVar = True
    """Its turns get the model settings of the client's environment."""
    cache_apart: ClassVar = False
    """Its object cache comes and goes with it."""

    home: Path

    @property
    def identity(self) -> str:
        """The name that tells this engine from others; its ports may change."""
        return str(self.home)

    @property
    def why(self) -> str:
        """The reason for it: nothing names a cluster."""
        return "no --endpoint, FLAME_ENDPOINT or ~/.flame/flame.yaml"

    @property
    def contact(self) -> str:
        """Words for reaching it."""
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

    def running(self) -> Cluster | None:
        """The engine by its address, where it runs; it would not start again there. Raises `NoEngine`."""
        found = self.status()
        return None if found is None else Cluster(Endpoints(found["endpoint"], found["cache_endpoint"]))

    def how_to_register(self, application: Application) -> str:
        """The advice about an application that it does not know."""
        return "The next question registers the agent."

    def how_to_reach(self, *, reached: bool) -> str:
        """No advice: it starts by itself, and says itself why it cannot."""
        return ""

    def addresses(self) -> dict[str, tuple[str, str]]:
        """None: nobody sets the way to it."""
        return {}

    def sessions_at_rest(self, application: str, timeout: float) -> list[tuple[str, bool, int]]:
        """The ID of each session, whether it is open, and when it was made (epoch ms), newest first; asks nobody."""
        return offline.sessions(self.home, application)

    def logs(self) -> list[Path]:
        """Its own log, and those of the instance that wrote last: what there is, the newest last."""
        folder = self.home / "logs"
        instances = sorted(folder.glob("*.out"), key=_written)[-1:]
        logs = [folder / "engine.log", *(path for out in instances for path in (out, out.with_suffix(".err")))]
        return sorted((path for path in logs if path.is_file()), key=_written)

    def status(self) -> dict[str, Any] | None:
        """Its own account of itself, or None where it does not run; starts nothing. Raises `NoEngine`."""
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
        sources = [told.source(setting.variable) for setting in SETTINGS if setting.of == "flame"]
        if idle := [source for source in sources if source.startswith("--")]:
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
