"""The command that says what a question would meet."""

from __future__ import annotations

import os

import typer

from flameagent.cli.commands import examples, open_screen
from flameagent.cli.commands.options import EngineOptions, Json, grouped

app = typer.Typer()


@app.command(short_help="Say what a question would meet.", epilog=examples("uv run client.py status"))
@grouped
def status(as_json: Json = False, *, engine: EngineOptions) -> None:
    """Say what a question would meet: which engine, agent and model, who set what, and what is wrong. Starts nothing.

    Exit code 2 where the configuration makes no sense; what can be said is said all the same.
    """
    from flameagent.cli.terminal import render
    from flameagent.client.status import look

    found, wrong = look(os.environ, vars(engine))
    render.status(open_screen(as_json=as_json), found)
    if wrong and as_json:
        raise wrong
    if wrong:
        raise typer.Exit(wrong.exit_code)
