"""The commands, each a subject a module; here what they share: their options, and how they begin.

Importing them is cheap: gRPC and Arrow are loaded when one connects.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from flameagent.client.errors import UsageError, WaitingError
from flameagent.client.program import program

if TYPE_CHECKING:
    from flameagent.client.api import Client
    from flameagent.client.dialogue import Dialogue
    from flameagent.client.screen import Screen
    from flameagent.client.turn import Reply

Endpoint = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The Flame to use, such as `http://127.0.0.1:8080`. Without it: `FLAME_ENDPOINT`, then "
        "`~/.flame/flame.yaml`, then the embedded engine, which starts by itself.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON; an error is JSON on standard error.")]
Timeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="How long to wait for the answer; otherwise `FLAME_AGENT_TIMEOUT`, or 330.",
        show_default=False,
    ),
]
Model = Annotated[
    str, typer.Option(metavar="NAME", help="Ask this model; `local` is the small one that needs no key.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the answer alone.")]
NoStream = Annotated[
    bool,
    typer.Option(
        "--no-stream",
        help="Print the answer when it is complete, as `FLAME_AGENT_STREAM=0`; otherwise a terminal shows it come.",
    ),
]


def session_ids(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """What a shell completes a session's ID by."""
    from flameagent.client import completion

    given = context.params.get("endpoint") or context.find_root().params.get("endpoint")
    return completion.session_ids(incomplete, given)


SessionID = Annotated[
    str,
    typer.Argument(metavar="ID", help="The session's ID, or a part that only it has.", autocompletion=session_ids),
]


def examples(*lines: str) -> str:
    """The epilog of a command: how it is used."""
    return "Example:\n\n```\n" + "\n".join(lines).replace("uv run client.py", program()) + "\n```"


def open_screen(*, as_json: bool = False, quiet: bool = False) -> Screen:
    """The terminal or the pipe."""
    from flameagent.client.screen import Screen

    return Screen(as_json=as_json, quiet=quiet)


def open_client(endpoint: str | None, settings: Mapping[str, str] | None = None) -> Client:
    """The agent, with model settings beside those of the environment. Raises `UsageError` where they do not count."""
    from flameagent.client import connect

    client = connect(endpoint, {**_environment(), **(settings or {})})
    if settings and not client.passes_settings:
        names = ", ".join(settings)
        raise UsageError(f"On a cluster these are set where its executor managers run: {names}.")
    return client


@contextmanager
def open_dialogue(
    endpoint: str | None,
    timeout: float | None,
    as_json: bool,
    quiet: bool,
    no_stream: bool,
    model: str,
    settings: Mapping[str, str] | None = None,
    *,
    chat: bool = False,
) -> Iterator[tuple[Client, Dialogue]]:
    """The agent, and the turns of this command."""
    environment = _environment()
    timeout = _seconds(environment) if timeout is None else timeout
    if not (math.isfinite(timeout) and timeout > 0):
        raise UsageError("--timeout is a number of seconds above 0.")
    no_stream = no_stream or environment.get("FLAME_AGENT_STREAM") == "0"
    from flameagent.client.dialogue import Dialogue

    with open_client(endpoint, settings) as client:
        screen = open_screen(as_json=as_json, quiet=quiet)
        yield client, Dialogue(screen, client, timeout=timeout, stream=not no_stream, model=model, chat=chat)


def answered(reply: Reply) -> None:
    """Leave with exit code 3 where calls wait still."""
    if reply.pending is not None:
        raise typer.Exit(WaitingError.exit_code)


def _environment() -> dict[str, str]:
    """The variables that are set, here or in the settings file."""
    from flameagent.client import settings

    return settings.environment(os.environ)


def _seconds(environment: Mapping[str, str]) -> float:
    value = environment.get("FLAME_AGENT_TIMEOUT") or "330"
    try:
        return float(value)
    except ValueError as error:
        raise UsageError(f"FLAME_AGENT_TIMEOUT is a number of seconds, not {value!r}.") from error
