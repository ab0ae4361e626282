"""The commands about the embedded engine."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from flameagent.cli import logs
from flameagent.cli.commands import examples, open_screen, session_ids
from flameagent.cli.commands.options import App, Json
from flameagent.client.errors import UsageError

if TYPE_CHECKING:
    from flameagent.cli.terminal.screen import Screen
    from flameagent.client.engine import Embedded

app = typer.Typer(
    help="The embedded engine: the Flame that runs on this machine when no cluster is configured.",
    epilog=examples("uv run client.py engine status"),
    no_args_is_help=True,
)


@app.command("start", short_help="Start it, or find it.", epilog=examples("uv run client.py engine start"))
def engine_start(as_json: Json = False) -> None:
    """Start the embedded engine, or find the one that runs."""
    _show_engine(open_screen(as_json=as_json), _embedded(), start=True)


@app.command("stop", short_help="Stop it.", epilog=examples("uv run client.py engine stop"))
def engine_stop(as_json: Json = False) -> None:
    """Stop the embedded engine. A turn that runs is run again when it starts; sessions are kept."""
    stopped = _embedded().stop()
    screen = open_screen(as_json=as_json)
    if as_json:
        screen.data({"stopped": stopped})
    else:
        screen.text("Stopped." if stopped else "It was not running.")


@app.command("status", short_help="Say whether and where it runs.", epilog=examples("uv run client.py engine status"))
def engine_status(as_json: Json = False) -> None:
    """Say whether the embedded engine runs, and where."""
    _show_engine(open_screen(as_json=as_json), _embedded(), start=False)


@app.command(
    "metrics",
    short_help="Print what it has counted, for Prometheus.",
    epilog=examples(
        "uv run client.py engine metrics",
        "uv run client.py engine metrics > engine.prom.new && mv engine.prom.new engine.prom",
    ),
)
def engine_metrics(as_json: Json = False) -> None:
    """Print what the embedded engine has counted since it started: tasks, waits, instances, its cache. In the text
    format of Prometheus, such as its node exporter takes from a file; exit code 5 where the engine does not run.

    Where `serve` runs, its `/metrics` has the same.
    """
    from flameagent.client.errors import NoEngine
    from localflame.metrics import text

    engine = _embedded()
    found = engine.metrics()
    if found is None:
        raise NoEngine(f"The embedded engine of {engine.home} is not running.")
    screen = open_screen(as_json=as_json)
    if as_json:
        screen.data(found)
    else:
        screen.text(text(found).rstrip("\n"))


@app.command(
    "logs",
    short_help="Show what its instances say.",
    epilog=examples(
        "uv run client.py engine logs -s J1E9PE",
        "uv run client.py engine logs --follow",
        "uv run client.py engine logs -n 100 | grep -A20 Traceback",
    ),
)
def engine_logs(
    session: Annotated[
        str | None,
        typer.Option(
            "--session",
            "-s",
            metavar="ID",
            help="The log of this session's newest instance: its ID, or a part that only it has.",
            show_default=False,
            autocompletion=session_ids,
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is added, also by other instances, until Ctrl-C.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=1, metavar="N", help="How many lines of each log.")
    ] = logs.LINES,
) -> None:
    """Show the newest lines of a session's instance: what the agent and its tools print, and the traceback of a tool
    that failed. Without -s, of the engine and of the newest instance that served a session.

    Also of an engine that does not run. On a cluster the nodes keep them (exit code 2 says where).
    """
    from flameagent.client import environment, project
    from flameagent.client.engine import choose
    from flameagent.client.session_id import the_one

    environ = environment.gather(os.environ)
    engine, wanted = choose(environ), ""
    known = [each.session_id for each in engine.logs().instances]
    if session is not None:
        name = "this engine"
        with suppress(UsageError):  # no project: of its sessions those count that have a log
            name = project.choose(environ, engine).name
            known += [session_id for session_id, *_ in engine.sessions_at_rest(name, 0.0)]
        wanted = the_one(session, list(dict.fromkeys(known)), name)
    (logs.follow if follow else logs.show)(open_screen(), engine, wanted, lines)


@app.command(
    "env",
    short_help="Print where it is, for other programs.",
    epilog=examples('eval "$(uv run client.py engine env)"', "uv run client.py engine env --json"),
)
def engine_env(named: App = None, as_json: Json = False) -> None:
    """Print the variables by which flamepy, and any other program of Flame, finds the embedded engine, for a shell.

    Starts it, and registers the agent. Sessions that such programs begin have the model settings of this environment,
    keys included, until this command is run in another one, or the engine ends.
    """
    from flameagent.client import environment, project

    engine, environ = _embedded(), environment.gather(os.environ, {"app": named})
    where = engine.admit(project.choose(environ, engine), environ)
    variables = {"FLAME_ENDPOINT": where.frontend, "FLAME_CACHE_ENDPOINT": where.cache}
    screen = open_screen(as_json=as_json)
    if as_json:
        screen.data(variables)
    else:
        for name, value in variables.items():
            screen.text(f"export {name}={shlex.quote(value)}")


def _embedded() -> Embedded:
    from flameagent.client.engine import embedded

    return embedded()


def _show_engine(screen: Screen, engine: Embedded, *, start: bool) -> None:
    if start:
        engine.reach()
    found = engine.status()
    if screen.as_json:
        screen.data(found or {"home": str(engine.home), "running": False})
    elif found is None:
        screen.text(f"The embedded engine of {engine.home} is not running; the next question starts it.")
    else:
        screen.text(f"The embedded engine of {found['home']} runs, process {found['pid']}.")
        screen.text(f"frontend {found['endpoint']}")
        screen.text(f"cache    {found['cache_endpoint']}")
