"""The commands about the embedded engine."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Annotated

import typer

from flameagent.cli.commands import examples, open_screen
from flameagent.cli.commands.options import Json

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


@app.command("logs", short_help="Show its newest log lines.", epilog=examples("uv run client.py engine logs -n 50"))
def engine_logs(
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, metavar="N", help="How many lines of each log.")] = 20,
) -> None:
    """Show the newest lines of the engine's log and of its newest instance's, which has what tools print."""
    screen, engine = open_screen(), _embedded()
    logs = engine.logs()
    if not logs:
        screen.notice(f"There are no logs in {engine.home} yet.")
    for path in logs:
        screen.heading(f"{path}:")
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in deque(file, maxlen=lines):
                screen.text(line.rstrip("\n"))


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
