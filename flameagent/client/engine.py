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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from flameagent import fork_notes, model_choice
from flameagent.client.application import FILE, SERVICE, Application, read, target_in
from flameagent.client.environment import Environment
from flameagent.client.errors import NoEngine, NotRegistered, UsageError
from flameagent.client.modules import has_module
from flameagent.flame import Endpoints, FlameError, NotFound, resolve
from flameagent.settings import SETTINGS
from localflame import Control, EngineError, default_home, find, last_addresses, offline, start, stop
from localflame.home import Home
from localflame.instance.logs import SessionLogs, sessions_logs

if TYPE_CHECKING:
    from flameagent.flame.frontend import Frontend

FIRST_CONTACT = 8.0
"""Seconds that an endpoint has to show that it is Flame."""


@dataclass(frozen=True)
class Logs:
    """The file of an engine's log, there once it has run, and those of its instances, the newest last."""

    engine: Path
    instances: list[SessionLogs]


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
    of_one_user: ClassVar = False
    """Who asks it is not known from the operating system."""

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

    def why_not_forked(self, application: Application) -> str:
        """Nothing: its nodes' logs say it."""
        return ""

    def reach(self) -> Endpoints:
        """Its addresses."""
        return self.endpoints

    def begin(self) -> None:
        """Nothing: it runs, or is somebody else's to start."""

    def register(self, application: Application, frontend: Frontend) -> None:
        """Check that the application is registered; it is not ours to do that.

        Raises `NotRegistered`, and `UsageError` where another object has the name.
        """
        try:
            found = frontend.application(application.name, timeout=FIRST_CONTACT)
        except NotFound as error:
            raise NotRegistered(self.how_to_register(application)) from error
        if application.is_object and (target := target_in(found.arguments)) not in ("", application.target):
            raise _taken(application, target)

    def find_application(self, name: str, chosen: str) -> Application | None:
        """The application of that name, of which nothing else is known here."""
        return Application(name, chosen=chosen)

    def check(self, application: Application) -> None:
        """Nothing: who registers applications there sees to it that two do not have one name."""

    def how_to_register(self, application: Application) -> str:
        """The advice about an application that it does not know."""
        unknown = f"The application {application.name} is not registered with the Flame at {self.endpoints.frontend}."
        if application.file:
            return f"{unknown} Register it first: flmctl register -f {application.file.name}"
        if application.folder is None:
            return f"{unknown} `apps` lists those that are."
        return (
            f"{unknown} Register it first, with an {FILE} whose metadata.name is {application.name}, and whose "
            f"arguments end with {SERVICE} and {application.target}; the command `new FOLDER` writes one."
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

    def logs(self) -> Logs:
        """None: they are on its nodes. Raises `UsageError`, which says where."""
        raise UsageError(
            f"The Flame at {self.endpoints.frontend} ({self.why}) keeps what an instance prints on the node that it "
            "runs on, in the application's working directory, as EXECUTOR.out and EXECUTOR.err; `flmctl list -e` "
            "names the executors. The logs of the embedded engine are in the folder `logs` of its home."
        )

    def metrics(self) -> None:
        """Nothing: what its parts count is theirs to tell."""

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
    of_one_user: ClassVar = True
    """Who asks it is the user of this process."""

    home: Path
    named: Endpoints | None = None
    """Its addresses, where the configuration names it by them."""

    @property
    def identity(self) -> str:
        """The name that tells this engine from others; its ports may change."""
        return str(self.home)

    @property
    def why(self) -> str:
        """The reason for it: nothing names a cluster, or what is named is its address."""
        if self.named:
            return f"{self.named.source} has its address"
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
            writes_socket=engine.writes_socket,
            file=self.home / offline.FILE,
        )

    def begin(self) -> None:
        """Start it where it does not run, beside what this process does meanwhile; `reach` waits for it."""
        threading.Thread(target=self._begin, name="engine", daemon=True).start()

    def _begin(self) -> None:
        with suppress(Exception):  # `reach` tries it too, and says what is wrong
            start(self.home)

    def find_application(self, name: str, chosen: str) -> Application | None:
        """The application that is registered under that name, as its project describes it now."""
        known = offline.application(self.home, name)
        if known is None or known.folder is None or not (target := target_in(known.arguments)):
            return None
        described = read(known.folder / FILE) if (known.folder / FILE).exists() else []
        found = next((each for each in described if each.name == name), Application(name, known.folder, target))
        return replace(found, chosen=chosen)

    def check(self, application: Application) -> None:
        """Raises `UsageError` where it knows another agent by that name: of another folder, or of another object.

        One that is gone has moved, and the application is what is there now.
        """
        known = offline.application(self.home, application.name)
        if known is None or known.folder is None or application.folder is None:
            return
        if known.folder.resolve() != application.folder.resolve():
            raise UsageError(
                f"{application.name} is the application of {known.folder} on this engine, and {application.folder} "
                f"has another of that name. Give one of them another name (metadata.name in {FILE}), or this one "
                "another engine (LOCALFLAME_HOME)."
            )
        target = target_in(known.arguments)
        if application.is_object and target != application.target and _is_there(target, known.folder):
            raise _taken(application, target)

    def admit(self, application: Application, environ: Mapping[str, str]) -> Endpoints:
        """Be ready for programs that know only its addresses, which it returns: run, and know the application.

        Their sessions get the model settings of this environment. Raises `NoEngine`.
        """
        where = self.reach()
        self.register(application)
        try:
            Control(self.home).default_settings(application.name, *_model_settings(application, environ))
        except EngineError as error:
            raise NoEngine(str(error)) from error
        return where

    def register(self, application: Application, frontend: Frontend | None = None) -> None:
        """Have the application run from its folder with this interpreter. Raises `NoEngine`."""
        assert application.folder, "only a cluster has applications that are nowhere"
        try:
            Control(self.home).application(
                application.name,
                folder=application.folder,
                command=sys.executable,
                arguments=["-m", SERVICE, application.target],
                environments=application.environments,
                description=application.description,
                labels=application.labels,
                delay_release=application.delay_release,
                max_instances=application.max_instances,
            )
        except EngineError as error:
            raise NoEngine(str(error)) from error

    def pass_settings(self, application: Application, session_id: str, environ: Mapping[str, str]) -> None:
        """Give the session's next task the model settings of this environment, and no others. Raises `NoEngine`."""
        try:
            Control(self.home).settings(session_id, *_model_settings(application, environ))
        except EngineError as error:
            raise NoEngine(str(error)) from error

    def why_not_forked(self, application: Application) -> str:
        """Why its conversations import the agent each by itself, where that is known of the agent's code."""
        sockets = Home(self.home).read_engine_record().get("sockets")
        notes = fork_notes.of_agent(str(sockets), application.target) if sockets else []
        return notes[0][1].reason if notes else ""

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
        """The settings of the way to it, by name: the value, and who set it; none where nobody did."""
        found: dict[str, tuple[str, str]] = {}
        if self.named:
            found["endpoint"] = (self.named.frontend, self.named.source)
            if self.named.cache_source:
                found["cache_endpoint"] = (self.named.cache, self.named.cache_source)
        return found

    def sessions_at_rest(self, application: str, timeout: float) -> list[tuple[str, bool, int]]:
        """The ID of each session, whether it is open, and when it was made (epoch ms), newest first; asks nobody."""
        return offline.sessions(self.home, application)

    def logs(self) -> Logs:
        """Its log and those of its instances, whether it runs or not."""
        folder = self.home / "logs"
        return Logs(folder / "engine.log", sessions_logs(folder))

    def status(self) -> dict[str, Any] | None:
        """Its own account of itself, or None where it does not run; starts nothing. Raises `NoEngine`."""
        try:
            return Control(self.home).status() if find(self.home) else None
        except EngineError as error:
            raise NoEngine(str(error)) from error

    def metrics(self) -> list[dict[str, Any]] | None:
        """What it has counted (`Control.metrics`), None where it does not run; starts nothing. Raises `NoEngine`."""
        try:
            return Control(self.home).metrics() if find(self.home) else None
        except EngineError as error:
            raise NoEngine(str(error)) from error

    def stop(self) -> bool:
        """End it, and wait until it is gone. False where it did not run. Raises `NoEngine`."""
        try:
            return stop(self.home)
        except EngineError as error:
            raise NoEngine(str(error)) from error


def _taken(application: Application, target: str) -> UsageError:
    return UsageError(
        f"{application.name} is {target} on this engine, and {application.target} would have the same name. "
        f"Give one of them another, with an {FILE}."
    )


def _is_there(target: str, folder: Path) -> bool:
    return bool(target) and has_module(target.partition(":")[0], folder)


def _model_settings(application: Application, environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The variables that an instance finds, and globs of those that it finds no others of."""
    names = application.variables
    return model_choice.settings(environ, names), [*model_choice.SETTINGS, *sorted(names)]


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
    return _embedded_at(endpoints, environ) or Cluster(endpoints)


def _embedded_at(endpoints: Endpoints, environ: Mapping[str, str]) -> Embedded | None:
    """The embedded engine, where these are its addresses."""
    try:
        home = default_home(environ)
    except EngineError:
        return None
    frontend, cache = last_addresses(home) or ("", "")
    named = _by_number(endpoints.frontend), _by_number(endpoints.cache) if endpoints.cache_source else cache
    return Embedded(home, endpoints) if named == (frontend, cache) else None


def _by_number(address: str) -> str:
    return address.rstrip("/").replace("//localhost:", "//127.0.0.1:")


def embedded(environ: Mapping[str, str] = os.environ) -> Embedded:
    """The embedded engine, whatever is configured beside it."""
    try:
        return Embedded(default_home(environ))
    except EngineError as error:
        raise UsageError(str(error)) from error
