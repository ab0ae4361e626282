"""The commands that ask: one question, and a chat of many."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from flameagent import files
from flameagent.cli.commands import answered, examples, open_screen, open_turn_view, session_ids
from flameagent.cli.commands.options import EngineOptions, QuestionOptions, TurnOptions, grouped
from flameagent.client.errors import UsageError, WaitingError

app = typer.Typer()

_STANDARD_INPUT_LIMIT = 8 * 1024 * 1024  # more than any question can have

Prompt = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT|@FILE",
        help="The system prompt of a new session, or the file that has it; without it, the agent's own.",
        show_default=False,
    ),
]
Session = Annotated[
    str | None,
    typer.Option(
        "--session",
        "-s",
        metavar="ID",
        help="Go on in this session: its ID, or a part that only it has. Without it a new one begins.",
        show_default=False,
        autocompletion=session_ids,
    ),
]
GoOn = Annotated[
    bool,
    typer.Option(
        "--continue",
        "-c",
        help="Go on in the session that you used last on this engine, from any folder: asked in, decided on, forked "
        "or imported.",
    ),
]


Steer = Annotated[
    bool,
    typer.Option(
        "--steer",
        help="Put the message into the turn that runs, before its next call of the model. Where none runs, or it "
        "ends without the message, that is a question of its own.",
    ),
]
Interrupt = Annotated[
    bool,
    typer.Option("--interrupt", help="Cancel the turn that runs, and ask. Those that wait behind it come before."),
]
Running = Literal["wait", "steer", "interrupt"]


def while_one_runs(*, steer: bool, interrupt: bool, names: bool) -> Running:
    """What is to become of a turn that runs. Raises `UsageError`."""
    if steer and interrupt:
        raise UsageError("--steer and --interrupt exclude each other: give one of them.")
    if not (steer or interrupt):
        return "wait"
    if not names:
        option = "--steer" if steer else "--interrupt"
        raise UsageError(f"{option} is about a turn that runs: name its session with -s or -c.")
    return "steer" if steer else "interrupt"


def attach(session: str | None, *, go_on: bool, options: TurnOptions, engine: EngineOptions) -> None:
    """Show the turn that runs in a session until its end: what the program does without a question."""
    if session is not None and go_on:
        raise UsageError("-s and -c both name a session: give one of them.")
    with open_turn_view(engine, options, go_on=go_on) as (client, view):
        answered(view.attach(client.last_session() if session is None else session))


def ask(
    message: str,
    session: str | None,
    prompt: str | None,
    *,
    go_on: bool,
    running: Running,
    data: QuestionOptions,
    options: TurnOptions,
    engine: EngineOptions,
) -> None:
    """Ask one question and print the answer: what the program does without a command."""
    if session is not None and go_on:
        raise UsageError("-s and -c both name a session: give one of them.")
    from flameagent.client.question import check

    attached = data.attachments(input_is_asked=message == "-")
    question, prompt = check(_given(message)), _prompt(prompt)
    with open_turn_view(engine, options, data, go_on=go_on) as (client, view):
        last = client.last_session() if go_on else session
        view.attached = attached
        answered(view.ask(question, last, prompt, running))


@app.command(
    short_help="Talk: one question after another.",
    epilog=examples(
        "uv run client.py chat",
        "uv run client.py chat -c",
        "uv run client.py chat -s J1E9PE",
        "uv run client.py chat -q < questions.txt",
    ),
)
@grouped
def chat(
    session: Session = None,
    go_on: GoOn = False,
    prompt: Prompt = None,
    *,
    data: QuestionOptions,
    options: TurnOptions,
    engine: EngineOptions,
) -> None:
    """Talk with the agent: one question after another, with editing, a history of what was typed, and commands.

    Answers are shown as Markdown while they come, and calls that need an approval are asked about. Ctrl-C stops
    waiting for an answer, twice it cancels the turn; Ctrl-D leaves; `/help` lists the commands.

    In a pipe each line is a question; one that ends with a backslash goes on in the next line. The first turn that
    fails, or waits for an approval, is the last, and its exit code the chat's. `--json` prints one value a line.
    """
    if session is not None and go_on:
        raise UsageError("-s and -c both name a session: give one of them.")
    if (session is not None or go_on) and prompt is not None:
        raise UsageError("A prompt is for a new session; this one has its own from its beginning.")
    prompt, attached = _prompt(prompt), data.attachments(input_is_asked=True)
    with open_turn_view(engine, options, data, go_on=go_on, chat=True) as (client, view):
        from flameagent.cli.chat import Chat
        from flameagent.cli.terminal.line_input import at_the_terminal, piped

        screen = open_screen(as_json=options.as_json, quiet=options.quiet)
        last = client.last_session() if go_on else session
        if last is not None or screen.asks:
            client.sessions()
        view.attached = attached
        talk = Chat(screen, client, view, last, prompt)
        if screen.asks:
            talk.at_a_terminal(at_the_terminal(talk.commands, talk.sessions))
        elif not talk.in_a_pipe(piped):
            raise typer.Exit(WaitingError.exit_code)


def _given(message: str) -> str:
    if message != "-":
        return message
    try:
        data = sys.stdin.buffer.read(_STANDARD_INPUT_LIMIT)
    except OSError as error:
        raise UsageError(f"Standard input cannot be read: {error.strerror}.") from error
    try:
        return files.decoded(data, "replace").rstrip("\n")
    except files.NotText as error:
        raise UsageError(f"Standard input cannot be asked: {error}.") from error


def _prompt(given: str | None) -> str | None:
    if given is None or not given.startswith("@"):
        return given
    try:
        return files.read(Path(given[1:]))
    except (OSError, ValueError) as error:
        raise UsageError(f"The prompt's file {given[1:]} cannot be read: {files.why(error)}.") from error
