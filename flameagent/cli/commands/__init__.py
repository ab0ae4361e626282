"""The commands, each a subject a module; here how they begin.

Importing them is cheap: gRPC and Arrow are loaded when one connects.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from flameagent.cli.commands.options import EngineOptions, QuestionOptions, TurnOptions, given
from flameagent.cli.program import program
from flameagent.cli.terminal import signals
from flameagent.client.errors import OutputError, UsageError, WaitingError
from flameagent.settings import NAMED

if TYPE_CHECKING:
    from flameagent.cli.terminal.screen import Screen
    from flameagent.cli.turn_view import TurnView
    from flameagent.client.client import Client
    from flameagent.client.environment import Environment
    from flameagent.client.reply import Reply


def session_ids(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The sessions' IDs that a shell completes."""
    from flameagent.cli import completion

    return completion.session_ids(incomplete, vars(given(context, EngineOptions)))


SessionID = Annotated[
    str,
    typer.Argument(metavar="ID", help="The session's ID, or a part that only it has.", autocompletion=session_ids),
]


def call_ids(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The IDs of calls that wait, which a shell completes."""
    from flameagent.cli import completion

    return completion.call_ids(incomplete, context.params.get("session") or "", vars(given(context, EngineOptions)))


def examples(*lines: str) -> str:
    """The epilog of a command: how it is used."""
    return "Example:\n\n```\n" + "\n".join(lines).replace("uv run client.py", program()) + "\n```"


def open_screen(*, as_json: bool = False, quiet: bool = False) -> Screen:
    """The terminal or the pipe."""
    from flameagent.cli.terminal.screen import Screen

    return Screen(as_json=as_json, quiet=quiet)


def open_client(engine: EngineOptions, user: str | None = None) -> Client:
    """The agent; `user` is who asks, where it is given."""
    from flameagent.client import environment

    return _connected(environment.gather(os.environ, {**vars(engine), "user": user}))


def agreed(screen: Screen, verb: str, question: str, about: Sequence[str] = ()) -> bool:
    """True where a human says yes to what cannot be taken back, having seen what it is `about`.

    Raises `UsageError` where nobody is there.
    """
    if not screen.asks:
        raise UsageError(f"Nobody is here to ask whether to {verb}: say --yes.")
    signals.leave_at_once(lambda: screen.warning("\nInterrupted; nothing was done."))
    for line in about:
        screen.text(line, folded=True)
    screen.part(f"{question} [y/N] ")
    answer = sys.stdin.readline()
    if not answer:
        screen.text("")
    return answer.strip().casefold() in ("y", "yes")


@contextmanager
def open_turn_view(
    engine: EngineOptions,
    options: TurnOptions,
    data: QuestionOptions | None = None,
    *,
    go_on: bool = False,
    chat: bool = False,
) -> Iterator[tuple[Client, TurnView]]:
    """The agent, and the turns of this command; `go_on`, they are of the session used last.

    Raises `NoSuchSession` where there is none, and `UsageError`, also where a model's setting does not count.
    """
    from flameagent.client import environment

    of_the_model, data = options.of_the_model(), data or QuestionOptions()
    context, told = data.context(), {"user": data.user, **options.of_waiting()}
    environ = environment.gather(os.environ, {**vars(engine), **of_the_model, **told})
    timeout, stream = environment.timeout(environ), environment.stream(environ)
    screen = open_screen(as_json=options.as_json, quiet=options.quiet)
    signals.leave_unasked(screen)
    with _connected(environ, go_on) as client:
        if of_the_model and not client.passes_settings:
            names = ", ".join(NAMED[name].variable for name in of_the_model)
            raise UsageError(f"On a cluster these are set where its executor managers run: {names}.")
        from flameagent.cli.turn_view import TurnView

        yield (
            client,
            TurnView(screen, client, timeout=timeout, stream=stream, model=options.model, context=context, chat=chat),
        )


def _connected(environ: Environment, go_on: bool = False) -> Client:
    """The agent; the embedded engine starts while this process loads what it needs to talk to it."""
    from flameagent.client import engine, last_session, project

    chosen = engine.choose(environ)
    agent = project.choose(environ, chosen)
    if go_on:
        last_session.read(chosen.identity, agent.name)  # without a session nothing is to be asked
    chosen.begin()
    from flameagent.client.client import Client  # gRPC and Arrow

    return Client(chosen, agent, environ)


@contextmanager
def done(what: str, session_id: str) -> Iterator[None]:
    """Around the output of a command that has changed something: where it cannot be written, that is said with it."""
    try:
        yield
    except OutputError as error:
        raise OutputError(error.reason, done=what, session_id=session_id) from error


def answered(reply: Reply) -> None:
    """Leave with exit code 3 where calls wait still."""
    if reply.pending is not None:
        raise typer.Exit(WaitingError.exit_code)
