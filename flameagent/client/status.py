"""The status: which engine, agent and model a question would meet now, and who set what.

Promises to start nothing, and to say what can be said: what is wrong is in the result, beside what is right, with
what mends it. Keys are never shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace

from flameagent import model_choice, network
from flameagent.client import engine as engines
from flameagent.client import environment as environments
from flameagent.client import project
from flameagent.client.application import FILE, Application
from flameagent.client.connection import Connection, translate_errors
from flameagent.client.engine import FIRST_CONTACT, Engine
from flameagent.client.environment import Environment
from flameagent.client.errors import ClientError, UsageError
from flameagent.conversation import WINDOW
from flameagent.flame import Mismatch, NotFound
from flameagent.settings import NAMED, TIMEOUT
from flameagent.tracing import modes

DEFAULT = "default"


@dataclass(frozen=True)
class SetValue:
    """A value of a setting. `source` is the option, variable, file or line of a file that set it, or `default`."""

    value: str
    source: str


@dataclass(frozen=True)
class Status:
    """The engine, agent, model and settings that a question would meet now.

    `engine` is `embedded` or `cluster`, and empty where the configuration does not say; `application` is empty where
    none is named or can be read; `agent` is what it runs, as `MODULE[:OBJECT]`, in `folder`, and `application_source`
    who chose it. `problem` says what is wrong, a line each, and `advice` what to do next. `registered` is None
    where that is not known. `model` is empty on a cluster: its executor managers' environment decides. `settings` are
    those in effect, by their names in `settings_file`; `unused` those that are set and have no effect here;
    `variables` others that have a say in the model, without keys. `settings_file` is empty for a user without a home.
    """

    engine: str = ""
    endpoint: str = ""
    why: str = ""
    application: str = ""
    application_source: str = ""
    agent: str = ""
    folder: str = ""
    reachable: bool = False
    registered: bool | None = None
    model: str = ""
    model_source: str = ""
    problem: str = ""
    advice: str = ""
    settings: dict[str, SetValue] = field(default_factory=dict)
    unused: dict[str, SetValue] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    settings_file: str = ""


def look(environ: Mapping[str, str], options: Mapping[str, object]) -> tuple[Status, UsageError | None]:
    """The status with these variables and options, and the first thing that is wrong with how it is configured."""
    wrong: list[UsageError] = []
    environment = environments.gather(environ, options, wrong)
    engine = application = None
    try:
        engine = engines.choose(environment)
    except UsageError as error:
        wrong.append(error)
    try:
        application = project.choose(environment, engine)
        if engine is not None:
            engine.check(application)
    except UsageError as error:
        wrong.append(error)
    for of_the_client in (environments.timeout, environments.stream):
        try:
            of_the_client(environment)
        except UsageError as error:
            wrong.append(error)
    if engine is None:
        found = _configured(environment, None, application)
    else:
        with closing(Connection(engine)) as connection:
            found = observe(engine, application, environment, connection, wrong)
    if not wrong:
        return found, None
    # No command gets further than that: what else there is to do comes after it is mended.
    problems = [str(error) for error in wrong]
    return replace(found, problem="\n".join(filter(None, [*problems, found.problem])), advice=""), wrong[0]


def observe(
    engine: Engine,
    application: Application | None,
    environ: Environment,
    connection: Connection,
    wrong: list[UsageError] | None = None,
) -> Status:
    """The status on an engine that is chosen; `wrong` gets what is wrong with its configuration."""
    found = _configured(environ, engine, application)
    try:
        if (running := engine.running()) is None:
            return _advised(found, "The next question starts it.")
        found = replace(found, endpoint=running.identity)
        with translate_errors():
            connection.greet()
            found = replace(found, reachable=True)
            if application is not None:
                found = replace(found, registered=_registered(connection, application))
                if why := engine.why_not_forked(application):
                    found = _advised(
                        found, f"Each conversation imports the agent by itself, which takes longer: {why}."
                    )
            if engine.cache_apart:
                connection.cache.greet(FIRST_CONTACT)
    except ClientError as error:
        if isinstance(error, UsageError) and wrong is not None:
            wrong.append(error)
            return found
        found = _troubled(found, str(error))
        if isinstance(error, UsageError) or isinstance(error.__cause__, Mismatch):
            return found  # which says itself what to mend
        return _advised(found, engine.how_to_reach(reached=found.reachable))
    if found.registered is False and application is not None:
        return _advised(found, engine.how_to_register(application))
    return found


def _advised(found: Status, advice: str) -> Status:
    return replace(found, advice="\n".join(filter(None, [advice, found.advice])))


def _registered(connection: Connection, application: Application) -> bool:
    try:
        connection.frontend.application(application.name)
    except NotFound:
        return False
    return True


def _configured(environ: Environment, engine: Engine | None, application: Application | None) -> Status:
    """The part of the status that is known without asking anyone."""
    found = Status(settings_file=str(environments.settings_file() or ""))
    if application is not None:
        found = replace(
            found,
            application=application.name,
            application_source=application.chosen,
            agent=application.target if application.folder else "",
            folder=str(application.folder or ""),
        )
    in_effect: dict[str, SetValue] = {}
    if engine is not None:
        found = replace(found, engine=engine.kind, endpoint=engine.identity, why=engine.why)
        in_effect = {name: SetValue(*set_by) for name, set_by in engine.addresses().items()}
        if engine.takes_settings:
            found, of_the_model = _with_model(found, environ, application)
            in_effect |= of_the_model
    if wrong := modes.trouble(environ):
        found = _troubled(found, wrong)
    if environ.get(NAMED["app"].variable, "").strip():
        in_effect["app"] = _setting(environ, NAMED["app"].variable, "")
    in_effect["timeout"] = _setting(environ, NAMED["timeout"].variable, f"{TIMEOUT:g}")
    stream = _setting(environ, NAMED["stream"].variable, "1")
    in_effect["stream"] = replace(stream, value={"0": "false", "1": "true"}.get(stream.value, stream.value))
    others = {
        name: _setting(environ, setting.variable, "")
        for name, setting in NAMED.items()
        if setting.of != "server" and name not in in_effect and environ.get(setting.variable, "").strip()
    }
    if engine is None:  # nobody knows what has an effect
        in_effect, others = in_effect | others, {}
    ordered = {name: in_effect[name] for name in NAMED if name in in_effect}
    return replace(found, settings=ordered, unused=others)


def _with_model(
    found: Status, environ: Environment, application: Application | None
) -> tuple[Status, dict[str, SetValue]]:
    """With the model that the settings choose, and those of them that are in effect."""
    everything = _with_the_applications(environ, application)
    in_effect = {
        name: _setting(everything, setting.variable, "")
        for name, setting in NAMED.items()
        if setting.of == "model" and everything.get(setting.variable, "").strip()
    }
    if "history" not in in_effect:
        in_effect["history"] = SetValue(str(WINDOW), DEFAULT)
    elif complaint := NAMED["history"].complaint(in_effect["history"].value):
        found = _troubled(found, f"{in_effect['history'].source} {complaint}: {WINDOW} is used.")
    named = {setting.variable for setting in NAMED.values()}
    others = {name: value for name, value in model_choice.shown(everything).items() if name not in named}
    found = replace(found, variables=others)
    try:
        choice = model_choice.choose(everything)
    except model_choice.ModelError as error:
        return _troubled(found, _named(str(error), everything)), in_effect
    values = {
        "model": ("AGENT_MODEL", "local" if choice.provider == "local" else choice.name),
        "base_url": ("DEEPSEEK_BASE_URL" if choice.provider == "deepseek" else "OPENAI_BASE_URL", choice.base_url),
        "api": ("AGENT_API", choice.base_url and choice.api),
        "model_timeout": ("AGENT_MODEL_TIMEOUT", f"{choice.timeout:g}"),
    }
    for name, (variable, value) in values.items():
        if value:
            source = _setting(everything, variable, value).source
            in_effect[name] = SetValue(model_choice.without_credentials(value), source)
        else:
            in_effect.pop(name, None)
    try:
        route = network.route_to(choice.base_url, everything) if choice.base_url else network.Route()
        found = replace(found, variables={**found.variables, **route.variables})
    except model_choice.ModelError as error:
        found = _troubled(found, _named(str(error), everything))
    if missing := model_choice.what_is_missing(choice):
        found = _troubled(found, missing)
    advice = "" if missing else _how_to_choose(choice, in_effect["model"].source)
    return replace(found, model=choice.name, model_source=choice.source, advice=advice), in_effect


def _with_the_applications(environ: Environment, application: Application | None) -> Environment:
    """The variables of the client over those of the application, each with who set it."""
    own = application.resolved(environ) if application else {}
    own = model_choice.settings(own, own)  # what is set of them
    here = {name: value for name, value in environ.items() if value.strip()}
    everything = Environment({**own, **here})
    everything.sources = {**dict.fromkeys(own, FILE), **{name: environ.source(name) for name in here}}
    return everything


def _how_to_choose(choice: model_choice.Choice, source: str) -> str:
    """The advice about a model that nobody named; "" where somebody did."""
    if choice.fallback:
        return f"For a better model, {model_choice.HOW_TO_CHOOSE}."
    if choice.provider == "compatible" and source == DEFAULT:
        return (
            f"This server is asked for {choice.name}, OpenAI's default: name a model of its own with --model, "
            "in AGENT_MODEL or in the settings file."
        )
    return ""


def _troubled(found: Status, problem: str) -> Status:
    return replace(found, problem="\n".join(filter(None, [found.problem, problem])))


def _named(problem: str, environ: Environment) -> str:
    """The sentence with who set the variable that it is about."""
    return re.sub(r"\b[A-Z]+(_[A-Z]+)+\b", lambda found: environ.source(found[0]), problem, count=1)


def _setting(environ: Environment, variable: str, default: str) -> SetValue:
    value = environ.get(variable, "").strip()
    if not value:
        return SetValue(default, DEFAULT)
    return SetValue(model_choice.without_credentials(value), environ.source(variable))
