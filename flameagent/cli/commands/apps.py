"""The command about applications: those that are registered on an engine."""

from __future__ import annotations

import os
from contextlib import closing

import typer

from flameagent.cli.commands import examples, open_screen
from flameagent.cli.commands.options import EngineOptions, Json, grouped

app = typer.Typer()


@app.command(
    short_help="List the agents of the engine.",
    epilog=examples("uv run client.py apps", 'uv run client.py --app desk -m "Where is order 1002?"'),
)
@grouped
def apps(as_json: Json = False, *, engine: EngineOptions) -> None:
    """List the agents that are registered on the engine: the name of each, its sessions, what is run, and where.

    `--app NAME` asks one of them, and reaches its sessions from any folder.
    """
    from flameagent.client import engine as engines
    from flameagent.client import environment

    chosen = engines.choose(environment.gather(os.environ, vars(engine)))
    chosen.begin()
    from flameagent.cli.terminal import render
    from flameagent.client.connection import Connection
    from flameagent.client.registered import list_applications

    with closing(Connection(chosen)) as connection:
        found = list_applications(connection)
    render.applications(open_screen(as_json=as_json), found)
