"""The commands about tool calls that wait for an approval."""

from __future__ import annotations

from typing import Annotated

import typer

from flameagent.cli.commands import SessionID, answered, call_ids, examples, open_turn_view
from flameagent.cli.commands.options import EngineOptions, TurnOptions, grouped
from flameagent.client.errors import WaitingError

app = typer.Typer()

Calls = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CALL",
        help="A call's ID, or a part that only it has. Without it: all that wait.",
        show_default=False,
        autocompletion=call_ids,
    ),
]


@app.command(
    short_help="Approve calls that wait.",
    epilog=examples("uv run client.py approve J1E9PE", "uv run client.py approve J1E9PE call_1 --always"),
)
@grouped
def approve(
    session: SessionID,
    calls: Calls = None,
    always: Annotated[
        bool, typer.Option("--always", help="Approve later calls of these tools in this session, too.")
    ] = False,
    *,
    options: TurnOptions,
    engine: EngineOptions,
) -> None:
    """Approve tool calls that wait, and go on with their turn. The tools run, and the answer is printed.

    Without a CALL and without --always it asks about each on a terminal, and approves all that wait elsewhere.

    Exit codes as for a question; 3 when other calls wait afterwards, 6 when none waited or someone else was first.
    """
    with open_turn_view(engine, options) as (_, view):
        if view.asks and not (calls or always):
            if (reply := view.ask_what_waits(session)) is None:
                raise typer.Exit(WaitingError.exit_code)
            answered(reply)
        else:
            answered(view.decide(session, calls or [], approve=True, always=always))


@app.command(
    short_help="Reject calls that wait.",
    epilog=examples("uv run client.py reject J1E9PE", 'uv run client.py reject J1E9PE --reason "Not on a Friday."'),
)
@grouped
def reject(
    session: SessionID,
    calls: Calls = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="What the model is told about it.")] = "",
    *,
    options: TurnOptions,
    engine: EngineOptions,
) -> None:
    """Reject tool calls that wait, and go on with their turn. The tools do not run, and the answer is printed.

    Exit codes as for a question; 3 when other calls wait afterwards, 6 when none waited or someone else was first.
    """
    with open_turn_view(engine, options) as (_, view):
        answered(view.decide(session, calls or [], approve=False, reason=reason))
