"""The command line: ask the agent, and look after its sessions and the embedded engine.

Promises that each failure is one sentence on standard error and an exit code, and never a traceback. Loads gRPC and
Arrow only in the commands that need them.
"""

from __future__ import annotations

import os
import signal
import sys

if __name__ == "__main__" or sys.argv[0].endswith("flame-agent"):
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what gRPC prints of a failed connection; ours is one sentence
    from localflame import streams

    streams.complete()

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
import typer.core

from flameagent import files
from flameagent.client import interrupts
from flameagent.client.arguments import convert_quickly, hide_types
from flameagent.client.commands import (
    SessionID,
    answered,
    call_ids,
    conversations,
    examples,
    open_dialogue,
    open_screen,
    session_ids,
    sessions,
)
from flameagent.client.commands.options import EngineOptions, Json, TurnOptions, grouped
from flameagent.client.errors import ClientError, UsageError, WaitingError
from flameagent.client.program import program

if TYPE_CHECKING:
    from flameagent.client.engine import Embedded
    from flameagent.client.screen import Screen

_STANDARD_INPUT_LIMIT = 8 * 1024 * 1024  # more than any question can have

hide_types()  # not in `main`: docs/commands.md is made from the application alone


class _Commands(typer.core.TyperGroup):
    """Where a word is no command, it may be one of a group's, or a question."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except typer.TyperException as error:
            inner = [
                name
                for name, group in self.commands.items()
                if isinstance(group, typer.core.TyperGroup) and args[0] in group.commands
            ]
            if inner:
                error.message = f"No such command '{args[0]}'. Did you mean '{inner[0]} {args[0]}'?"
            elif "Did you mean" not in error.message:
                error.message += f' To ask that: {program()} -m "{args[0]}"'
            raise


app = typer.Typer(
    cls=_Commands,
    add_completion=program() == "flame-agent",  # a shell completes installed programs
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
engine_app = typer.Typer(
    help="The embedded engine: the Flame that runs on this machine when no cluster is configured.",
    epilog=examples("uv run client.py engine status"),
    no_args_is_help=True,
)
app.add_typer(engine_app, name="engine", short_help="The embedded engine.")
app.add_typer(sessions.app)
app.add_typer(conversations.app)

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
Calls = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CALL",
        help="A call's ID, or a part that only it has. Without it: all that wait.",
        show_default=False,
        autocompletion=call_ids,
    ),
]


@app.callback(
    invoke_without_command=True,
    epilog=examples(
        'uv run client.py -m "who are you?"',
        'uv run client.py -s J1E9PE -m "and what did I ask?"',
        "uv run client.py -c -q -m - < question.txt",
    ),
)
@grouped
def root(
    context: typer.Context,
    message: Annotated[
        str | None,
        typer.Option(
            "--message", "-m", metavar="TEXT", help="What to ask; `-` reads standard input.", show_default=False
        ),
    ] = None,
    session: Session = None,
    go_on: GoOn = False,
    prompt: Prompt = None,
    *,
    options: TurnOptions,
    engine: EngineOptions,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Ask an agent that remembers: each session is a conversation, kept in Flame.

    Prints the answer and the newest of the session's history; on a terminal the answer while it comes. A tool call
    that needs an approval is asked about on a terminal; elsewhere it waits, for as long as it takes, for the commands
    `approve` and `reject`.

    Exit codes: 0 answered, 1 the turn failed and nothing was added, 2 usage, 3 waits for an approval, 4 no such
    session or a closed one, 5 no engine, 6 conflict, 7 timed out (the turn may still finish), 8 the conversation is
    damaged, 9 the turn was added and its output could not be written, 130 interrupted (the turn goes on; a second
    Ctrl-C within two seconds cancels it).
    """
    if version:
        print(_version())
    elif context.invoked_subcommand:
        if context.invoked_subcommand == "engine" and engine != EngineOptions():
            raise UsageError("`engine` is the embedded one: it takes no --endpoint, --cache-endpoint or --ca-file.")
        if message is not None or session is not None or go_on or prompt is not None or options != TurnOptions():
            raise UsageError(
                f"Of the options only --endpoint, --cache-endpoint and --ca-file can stand before "
                f"`{context.invoked_subcommand}`; the others ask a question, or stand behind the command."
            )
    elif message is not None:
        if session is not None and go_on:
            raise UsageError("-s and -c both name a session: give one of them.")
        from flameagent.client.question import check

        question, prompt = check(_given(message)), _prompt(prompt)
        with open_dialogue(engine, options, go_on=go_on) as (client, dialogue):
            last = client.last_session() if go_on else session
            answered(dialogue.ask(question, last, prompt))
    else:
        if session is not None or go_on or prompt is not None or options != TurnOptions():
            raise UsageError('There is no question: give one with -m "…".')
        print(context.get_help())
        raise typer.Exit(2)


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
    prompt = _prompt(prompt)
    with open_dialogue(engine, options, go_on=go_on, chat=True) as (client, dialogue):
        from flameagent.client.chat import Chat
        from flameagent.client.typed import at_the_terminal, piped

        screen = open_screen(as_json=options.as_json, quiet=options.quiet)
        last = client.last_session() if go_on else session
        if last is not None or screen.asks:
            client.sessions()
        talk = Chat(screen, client, dialogue, last, prompt)
        if screen.asks:
            talk.at_a_terminal(at_the_terminal(talk.commands, talk.sessions))
        elif not talk.in_a_pipe(piped):
            raise typer.Exit(WaitingError.exit_code)


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

    Exit codes as for a question; 3 when other calls wait afterwards, 6 when none waited or someone else was first.
    """
    with open_dialogue(engine, options) as (_, dialogue):
        answered(dialogue.decide(session, calls or [], approve=True, always=always))


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
    with open_dialogue(engine, options) as (_, dialogue):
        answered(dialogue.decide(session, calls or [], approve=False, reason=reason))


@app.command(short_help="Say what a question would meet.", epilog=examples("uv run client.py status"))
@grouped
def status(as_json: Json = False, *, engine: EngineOptions) -> None:
    """Say what a question would meet: which engine, agent and model, who set what, and what is wrong. Starts nothing.

    Exit code 2 where the configuration makes no sense; what can be said is said all the same.
    """
    from flameagent.client import render
    from flameagent.client.status import look

    found, wrong = look(os.environ, vars(engine))
    render.status(open_screen(as_json=as_json), found)
    if wrong and as_json:
        raise wrong
    if wrong:
        raise typer.Exit(wrong.exit_code)


@engine_app.command("start", short_help="Start it, or find it.", epilog=examples("uv run client.py engine start"))
def engine_start(as_json: Json = False) -> None:
    """Start the embedded engine, or find the one that runs."""
    _show_engine(open_screen(as_json=as_json), _embedded(), start=True)


@engine_app.command("stop", short_help="Stop it.", epilog=examples("uv run client.py engine stop"))
def engine_stop(as_json: Json = False) -> None:
    """Stop the embedded engine. A turn that runs is run again when it starts; sessions are kept."""
    stopped = _embedded().stop()
    screen = open_screen(as_json=as_json)
    if as_json:
        screen.data({"stopped": stopped})
    else:
        screen.text("Stopped." if stopped else "It was not running.")


@engine_app.command(
    "status", short_help="Say whether and where it runs.", epilog=examples("uv run client.py engine status")
)
def engine_status(as_json: Json = False) -> None:
    """Say whether the embedded engine runs, and where."""
    _show_engine(open_screen(as_json=as_json), _embedded(), start=False)


@engine_app.command(
    "logs", short_help="Show its newest log lines.", epilog=examples("uv run client.py engine logs -n 50")
)
def engine_logs(
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, metavar="N", help="How many lines of each log.")] = 20,
) -> None:
    """Show the newest lines of the engine's log and of its newest instance's, which has what tools print."""
    screen, engine = open_screen(), _embedded()
    logs = engine.logs()
    if not logs:
        screen.notice(f"There are no logs in {engine.home} yet.")
    for path in logs:
        screen.heading(f"{path}:")
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in deque(file, maxlen=lines):
                screen.text(line.rstrip("\n"))


def main() -> NoReturn:
    """Run the program; exits with its exit code."""
    interrupts.leave_at_once()
    for stream in (sys.stdout, sys.stderr):
        # Text may have what the terminal's encoding lacks, or bytes that were no text.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    convert_quickly()
    as_json = "--json" in sys.argv[1:]
    try:
        code = _ran(as_json)
    except ClientError as error:
        code = _failed(error, as_json)
    except typer.TyperException as error:  # only where Typer does not show it itself
        code = _failed(UsageError(error.format_message()), as_json)
    except Exception as error:
        if sys.flags.dev_mode:  # python -X dev client.py …
            raise
        code = _failed(ClientError(f"This should not have happened: {type(error).__name__}: {error}"), as_json)
    interrupts.ignore()
    sys.exit(code)


def _ran(as_json: bool) -> int:
    """The exit code of the command. Raises what it raises, and `OutputError` for what Typer prints itself."""
    from flameagent.client.screen import finish

    try:
        left = app(standalone_mode=not as_json)  # the exit code, where Typer does not exit by itself
        code = left if isinstance(left, int) else 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except OSError as error:
        finish()
        if not isinstance(error.__context__, typer.TyperException):
            raise
        code = error.__context__.exit_code  # of a mistake that cannot be said: there is no standard error
    finish()
    return code


def _failed(error: ClientError, as_json: bool) -> int:
    open_screen(as_json=as_json).error(error)
    return error.exit_code


def _embedded() -> Embedded:
    from flameagent.client.engine import embedded

    return embedded()


def _version() -> str:
    from importlib.metadata import version

    return version("flame-openai-agent")


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


def _show_engine(screen: Screen, engine: Embedded, *, start: bool) -> None:
    if start:
        engine.reach()
    found = engine.status()
    if screen.as_json:
        screen.data(found or {"home": str(engine.home), "running": False})
    elif found is None:
        screen.text(f"The embedded engine of {engine.home} is not running; the next question starts it.")
    else:
        screen.text(f"The embedded engine of {found['home']} runs, process {found['pid']}.")
        screen.text(f"frontend {found['endpoint']}")
        screen.text(f"cache    {found['cache_endpoint']}")


if __name__ == "__main__":
    main()
