"""The command that shows the trace of a turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flameagent import files
from flameagent.cli.commands import SessionID, examples, open_screen
from flameagent.cli.commands.options import Json, Output
from flameagent.client.errors import UsageError

if TYPE_CHECKING:
    from flameagent.client.traces import TurnTrace

app = typer.Typer()


@app.command(
    short_help="Show what took how long in a turn.",
    epilog=examples(
        'AGENT_TRACING=file uv run client.py -s J1E9PE -m "and tomorrow?"',
        "uv run client.py trace J1E9PE",
        "uv run client.py trace J1E9PE 3 --html -o turn.html",
    ),
)
def trace(
    session: SessionID,
    turn: Annotated[
        str | None,
        typer.Argument(
            metavar="TURN", help="Its number, or a part of its ID; without it, the newest.", show_default=False
        ),
    ] = None,
    as_html: Annotated[bool, typer.Option("--html", help="A web page of one file.")] = False,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Show the trace of a turn as a tree: what happened when, how long it took, what failed.

    Of turns that were asked with `AGENT_TRACING=file`, on this machine. The newest 32 to 64 MB are kept.
    """
    from flameagent.client import traces
    from flameagent.transcript import trace as shown

    if as_html and as_json:
        raise UsageError("--html and --json are two forms: give one of them.")
    screen = open_screen(as_json=as_json)
    if output is not None and not as_html:
        raise UsageError("-o is for the page: say --html, too.")
    found, turns = traces.find(session, turn)
    if as_json:
        screen.data(found.as_json())
    elif as_html and output is not None and not files.is_standard_output(output):
        from flameagent.transcript.export import save

        save(shown.page(found), output)
        screen.text(f"Wrote {output}, {len(found.spans)} spans.")
    elif as_html:
        screen.part(shown.page(found))
    else:
        screen.heading(shown.heading(found))
        for line in _tree(found):
            screen.text(line, folded=True)
        if len(turns) > 1:
            screen.notice(f"Traces of this session: {', '.join(_name(each) for each in turns)}.", wrapped=True)


def _tree(found: TurnTrace) -> list[str]:
    from flameagent.transcript import trace as shown

    lines = shown.lines(found)
    widest = max((len(line.branch) + len(line.name) for line in lines), default=0)
    return [
        f"{line.branch}{line.name}".ljust(widest)
        + f"  {line.after:>9}  {line.took:>9}"
        + (f"  {line.about}" if line.about else "")
        + (f"  failed: {line.error}" if line.error else "")
        for line in lines
    ]


def _name(turn: TurnTrace) -> str:
    return f"turn {turn.number}" if turn.number else f"{turn.turn_id} ({turn.outcome or 'not ended'})"
