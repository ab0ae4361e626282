"""The command that says who has used what."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated

import typer

from flameagent.cli.commands import examples, open_screen
from flameagent.cli.commands.options import EngineOptions, Json, grouped

if TYPE_CHECKING:
    from flameagent.client.prices import Prices
    from flameagent.client.usage import Line

app = typer.Typer()


@app.command(
    short_help="Show who has used what.",
    epilog=examples("uv run client.py usage", "uv run client.py usage --days 1 --json"),
)
@grouped
def usage(
    days: Annotated[int, typer.Option("--days", min=1, metavar="N", help="Of so many days, with today (UTC).")] = 30,
    as_json: Json = False,
    *,
    engine: EngineOptions,
) -> None:
    """Show the tokens of all agents by day, user, application and model, and what they cost by `prices`.

    They are read from the conversations, and from what is kept of turns that failed: what was deleted is not among
    them.
    """
    from flameagent.client import engine as engines
    from flameagent.client import environment
    from flameagent.client.prices import Prices

    environ = environment.gather(os.environ, vars(engine))
    prices = Prices.of(environ)
    chosen = engines.choose(environ)
    chosen.begin()
    from flameagent.client.connection import Connection
    from flameagent.client.usage import DAY, read

    now = int(time.time() * 1000)
    connection = Connection(chosen)
    try:
        lines = read(connection, now - now % DAY - (days - 1) * DAY)
    finally:
        connection.close()
    screen = open_screen(as_json=as_json)
    if as_json:
        screen.data([line.as_json(prices) for line in lines])
    elif not lines:
        screen.aside("Nothing was used.")
    else:
        screen.text(_table(lines, prices))


def _table(lines: list[Line], prices: Prices) -> str:
    head = ("day", "user", "application", "model", "turns", "failed", "input", "cached", "output", "cost")
    rows: list[tuple[str, ...]] = [head if prices else head[:-1]]
    for line in lines:
        used = line.usage
        counts = (line.turns, line.failed, used.input_tokens, used.cached_tokens, used.output_tokens)
        cost = prices.cost(line.model, used)
        row = (line.day, line.user or "-", line.application, line.model or "-", *map(str, counts))
        rows.append((*row, "-" if cost is None else f"{cost:.4f}") if prices else row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    names = 4  # those before the numbers
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at < names else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
