"""The command line: ask the agent, and look after its sessions and the embedded engine.

Promises that each failure is one sentence on standard error and an exit code, and never a traceback. Loads gRPC and
Arrow only in the commands that need them.
"""

from __future__ import annotations

import os
import sys
import textwrap
from typing import Annotated, Any, NoReturn

import typer
import typer.core

from flameagent import outcomes, tracing
from flameagent.cli.commands import (
    approvals,
    apps,
    ask,
    conversations,
    examples,
    memory,
    new,
    open_screen,
    report,
    serve,
    sessions,
    status,
    trace,
    trying,
    usage,
    users,
)
from flameagent.cli.commands import engine as engines
from flameagent.cli.commands.options import EngineOptions, QuestionOptions, TurnOptions, grouped
from flameagent.cli.program import app_option, program, program_name
from flameagent.cli.terminal import signals
from flameagent.cli.typer_compat import convert_quickly, hide_types
from flameagent.client.errors import ClientError, UsageError

hide_types()  # not in `main`: docs/commands.md is made from the application alone


class _Commands(typer.core.TyperGroup):
    """The whole program. Where a word is no command, it may be one of a group's, or a question."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Say first whom a question would go to."""
        print(_who_answers())
        super().format_help(ctx, formatter)

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
    add_completion=program_name() == "flame-agent",  # a shell completes installed programs
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for subject in (ask.app, approvals.app, status.app):
    app.add_typer(subject)
app.add_typer(engines.app, name="engine", short_help="The embedded engine.")
for subject in (
    sessions.app,
    conversations.app,
    trying.app,
    memory.app,
    apps.app,
    new.app,
    serve.app,
    users.app,
    usage.app,
    report.app,
):
    app.add_typer(subject)
app.add_typer(trace.app)


_ALONE = {"engine": "`engine` is the embedded one", "new": "`new` asks nobody", "trace": "`trace` reads a file"}
"""The commands that are about no agent on some engine."""

_EXIT_CODES = "Exit codes: " + ", ".join(f"{code} {meaning}" for code, meaning in outcomes.EXIT_CODES.items())
_HELP = f"""
Ask an agent that remembers: each session is a conversation, kept in Flame.

Prints the answer and the newest of the session's history; on a terminal the answer while it comes. A tool call
that needs an approval is asked about on a terminal; elsewhere it waits, for as long as it takes, for the commands
`approve` and `reject`.

{textwrap.fill(_EXIT_CODES, 112, break_on_hyphens=False)}.
"""


@app.callback(
    invoke_without_command=True,
    help=_HELP,
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
    session: ask.Session = None,
    go_on: ask.GoOn = False,
    prompt: ask.Prompt = None,
    steer: ask.Steer = False,
    interrupt: ask.Interrupt = False,
    *,
    data: QuestionOptions,
    options: TurnOptions,
    engine: EngineOptions,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Ask, or run the command that is named: its options may stand before it, where they name an engine."""
    names = session is not None or go_on
    asks = (prompt, steer, interrupt, data) != (None, False, False, QuestionOptions())
    given = names or asks or options != TurnOptions()
    if version:
        print(_version())
    elif context.invoked_subcommand:
        if (alone := _ALONE.get(context.invoked_subcommand)) and engine != EngineOptions():
            raise UsageError(f"{alone}: it takes no --app, --endpoint, --cache-endpoint or --ca-file.")
        if message is not None or given:
            raise UsageError(
                f"Of the options only --app, --endpoint, --cache-endpoint and --ca-file can stand before "
                f"`{context.invoked_subcommand}`; the others ask a question, or stand behind the command."
            )
    elif message is not None:
        running = ask.while_one_runs(steer=steer, interrupt=interrupt, names=names)
        ask.ask(message, session, prompt, go_on=go_on, running=running, data=data, options=options, engine=engine)
    elif names and not asks and options.only_show:
        ask.attach(session, go_on=go_on, options=options, engine=engine)
    else:
        if given:
            raise UsageError('There is no question: give one with -m "…".')
        print(context.get_help())
        raise typer.Exit(2)


def _who_answers() -> str:
    from flameagent.client import environment, project

    try:
        environ = environment.gather(os.environ, {"app": app_option()})
        agent = project.choose(environ, None)
    except UsageError as error:
        return str(error)
    return f"Asks {agent.name}: {agent.target} in {agent.folder} ({agent.chosen})."


def main() -> NoReturn:
    """Run the program; exits with its exit code."""
    signals.leave_at_once()
    if not sys.flags.dev_mode:
        # Ctrl-C in the middle of what makes an object, such as a call of gRPC, leaves one half made. That it cannot
        # be taken down helps nobody.
        sys.unraisablehook = lambda _: None
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
    signals.ignore()
    tracing.stop()  # while there can still be threads
    sys.exit(code)


def _ran(as_json: bool) -> int:
    """The exit code of the command. Raises what it raises, and `OutputError` for what Typer prints itself."""
    from flameagent.cli.terminal.screen import finish

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


def _version() -> str:
    from importlib.metadata import version

    return version("flame-openai-agent")
