"""The command that begins a project."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from flameagent.cli.commands import examples, open_screen
from flameagent.cli.commands.options import Json

app = typer.Typer()


@app.command(short_help="Begin a project with an agent of your own.", epilog=examples("uv run client.py new desk"))
def new(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that is not there yet, or is empty.")],
    as_json: Json = False,
) -> None:
    """Write a small project: an agent, its test, `pyproject.toml`, and `openai-agent.yaml` for Flame.

    Its name is the folder's. uv installs this program into it from where it came from: a wheel, a folder, git, or an
    index.
    """
    from flameagent.cli import new_project

    name = new_project.create(folder)
    screen, where = open_screen(as_json=as_json), folder.resolve()
    if as_json:
        screen.data({"application": name, "folder": str(where)})
        return
    shown = str(where) if where == Path.cwd() or ".." in folder.parts else str(folder)
    screen.text(f"{name}: a project with an agent, in {where}")
    screen.notice(f'Ask it: cd {shlex.quote(shown)} && uv run flame-agent -m "hi"')
    screen.notice("On a Flame cluster: flmctl register -f openai-agent.yaml")
