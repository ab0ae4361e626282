"""The command that tells how an agent did over a time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from flameagent import files
from flameagent.cli import when
from flameagent.cli.commands import done, examples, open_client, open_screen
from flameagent.cli.commands.options import EngineOptions, Json, Since, Until, grouped
from flameagent.cli.terminal.progress import list_progress
from flameagent.client.errors import UsageError

app = typer.Typer()

_DAYS = 30  # with today, unless something else is said


@app.command(
    short_help="Tell how an agent did.",
    epilog=examples(
        "uv run client.py report",
        "uv run client.py report --since 7d -o week.html",
        "uv run client.py report --since 2026-01-01 --until 2026-01-31 --json",
    ),
)
@grouped
def report(
    since: Since = None,
    until: Until = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write a web page: to FILE, or with `-` to standard output.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    *,
    engine: EngineOptions,
) -> None:
    """Tell how an agent did over a time, the last 30 days unless it is said: turns, failures and their reasons, how
    long turns took, tokens and cost by model, tools.

    With -o it is a web page with plots, which loads nothing. The numbers come from the conversations, and from what
    is kept of turns that failed: what was deleted is not among them. What models cost is by `prices` of the settings.
    """
    if output is not None and as_json:
        raise UsageError("-o writes a page and --json prints the numbers: give one of them.")
    begin, end = when.period(since if since is not None else _default(until), until)
    screen = open_screen(as_json=as_json)
    with open_client(engine) as client, list_progress(screen) as on_progress:
        found = client.report(begin, end, on_progress=on_progress)
    if as_json:
        screen.data(found.as_json())
        return
    from flameagent.transcript import export as exports
    from flameagent.transcript import report as reports

    if output is None:
        for line in reports.lines(found):
            screen.text(line, wrapped=True)  # in a narrow terminal, too, nothing is cut off
    elif files.is_standard_output(output):
        screen.part(reports.page(found))
    else:
        exports.save(reports.page(found), output)
        with done(f"Wrote {output}", ""):
            screen.text(f"Wrote {output}.")


def _default(until: str | None) -> str:
    """The beginning where none is said: thirty days up to the end."""
    end = time.time() if until is None else min(time.time(), when.moment(until, "--until", end=True) / 1000)
    day = time.localtime(end - (_DAYS - 1) * 86400)
    return time.strftime("%Y-%m-%d", day)
