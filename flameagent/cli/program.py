"""The words that run this program, for the lines that say what to do next."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

_APP = "--app"


def program() -> str:
    """The program as it was started, with the agent that it was told to ask: without it, another would be asked."""
    return f"{program_name()} {_APP} {shlex.quote(app)}" if (app := app_option()) else program_name()


def program_name() -> str:
    """The installed program's name, or how a checkout is run."""
    return "flame-agent" if Path(sys.argv[0]).stem == "flame-agent" else "uv run client.py"


def app_option() -> str:
    """The agent that it was told to ask, wherever on the line; "" where nobody said."""
    arguments = sys.argv[1:]
    for position, argument in enumerate(arguments):
        if argument == _APP:
            return "".join(arguments[position + 1 : position + 2])
        if argument.startswith(f"{_APP}="):
            return argument.removeprefix(f"{_APP}=")
    return ""
