"""The tables of the documentation that are made from tables of the program.

    uv run python docs/tables.py

writes them anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from flameagent import outcomes, settings

ROOT = Path(__file__).resolve().parent.parent


def errors() -> list[str]:
    """The table of exit codes and code words in docs/terminal.md."""
    rows = [("0", "", outcomes.EXIT_CODES[0])]
    rows += [(str(error.exit_code), f"`{error.code}`", error.meaning) for error in outcomes.ERRORS.values()]
    return _table(("exit code", "`code`", "what it means"), rows)


def variables() -> list[str]:
    """The table of all settings in README.md, but for those of the server."""
    rows = [
        (f"`{each.variable}`", f"`{each.option}`" if each.option else "", each.about)
        for each in settings.SETTINGS
        if each.of != "server"
    ]
    return _table(("variable", "option", "what it is"), rows)


def of_the_server() -> list[str]:
    """The table of what a server reads, in docs/http.md."""
    rows = [(f"`{each.variable}`", each.about) for each in settings.SETTINGS if each.of == "server"]
    return _table(("variable of `serve`", "what it is"), rows)


def names() -> list[str]:
    """The table of what the settings file may have, in docs/terminal.md."""
    rows = [
        (f"`{name}` (`true`, `false`)", f"`{each.variable}` (`1`, `0`)", f"`{each.option}`")
        if each.kinds == (bool,)
        else (f"`{name}`", f"`{each.variable}`", f"`{each.option}`" if each.option else "")
        for name, each in settings.NAMED.items()
    ]
    return _table(("setting", "variable", "option"), rows)


TABLES = {
    ROOT / "README.md": [variables],
    ROOT / "docs" / "terminal.md": [errors, names],
    ROOT / "docs" / "http.md": [of_the_server],
}


def updated(page: Path) -> str:
    """The page with its tables as they are to be; each is found by its first line."""
    lines = page.read_text(encoding="utf-8").split("\n")
    for made in TABLES[page]:
        table = made()
        start = lines.index(table[0])
        end = lines.index("", start)
        lines[start:end] = table
    return "\n".join(lines)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    written = [head, *rows]
    lines = [f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in written]
    return [lines[0], f"|{'---|' * len(head)}", *lines[1:]]


if __name__ == "__main__":
    for page in TABLES:
        page.write_text(updated(page), encoding="utf-8")
