"""The commands that try a change: conversations asked again, compared with what was recorded, and judged."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flameagent.cli.commands import SessionID, examples, open_screen
from flameagent.cli.commands.options import EngineOptions, Json, TurnOptions, grouped, setting_option
from flameagent.cli.terminal import signals
from flameagent.client.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from flameagent.cli.terminal.screen import Screen
    from flameagent.client.agent_connection import AgentConnection
    from flameagent.trying.comparison import How

app = typer.Typer()


@dataclass(frozen=True)
class AskingOptions:
    """How questions are asked again."""

    model: Annotated[str, setting_option("model")] = ""
    base_url: Annotated[str | None, setting_option("base_url")] = None
    api: Annotated[str | None, setting_option("api")] = None
    model_timeout: Annotated[float | None, setting_option("model_timeout")] = None
    timeout: Annotated[float | None, setting_option("timeout")] = None
    on_own_answers: Annotated[
        bool,
        typer.Option(
            "--on-own-answers",
            help="Go on from the new answers; without it each question has the recorded conversation before it.",
        ),
    ] = False
    run_tools: Annotated[
        bool,
        typer.Option(
            "--run-tools", help="Run the calls that the record has no output of; without it no tool runs at all."
        ),
    ] = False


@app.command(
    short_help="Ask a conversation's questions again, and compare.",
    epilog=examples(
        "uv run client.py replay J1E9PE --model gpt-5.6",
        "uv run client.py replay J1E9PE --turn 2-4 --html changed.html",
        "uv run client.py replay J1E9PE --app desk.agents:new_desk --json | jq .turns",
    ),
)
@grouped
def replay(
    session: SessionID,
    turn: Annotated[
        str | None,
        typer.Option(metavar="N|N-M|N-", help="This turn, or these; without it all.", show_default=False),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a web page of one file, too.", show_default=False),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the sessions in which it was asked.")] = False,
    as_json: Json = False,
    *,
    asking: AskingOptions,
    engine: EngineOptions,
) -> None:
    """Ask a conversation's questions again, by another model or a changed agent, and show both side by side.

    It is asked in sessions of its own, which are deleted at the end; the conversation stays as it is, and nothing is
    remembered of anybody. A call of a tool gets the output that the record has for the same tool with the same
    arguments; any other is shown and not run. Exit code 1 where a question got no answer.
    """
    screen = open_screen(as_json=as_json)
    if html is not None:
        _check_place(html)
    with _opened(asking, engine) as (connection, how):
        from dataclasses import replace

        from flameagent.cli.terminal import compared
        from flameagent.client.replay import read
        from flameagent.trying.comparison import Asking, Comparison, chosen_turns

        recording = read(connection, session)
        turns = chosen_turns(recording, turn)
        if recording.conversation.damage is not None:
            screen.warning(f"Only what can be read is asked again. {recording.conversation.damage}")
        if recording.conversation.waiting is not None:
            screen.notice("The turn that waits for an approval is not asked again.")
        how = replace(how, keep=keep)
        found = Comparison(recording.session_id, connection.application.name, how)
        made = Asking(connection, recording, how)
        with _interruptible(screen, made.cancel):
            for each in made.ask(turns, lambda begun: screen.notice(f"Asking turn {begun.turn.number} …")):
                found.turns.append(each)
                if not as_json:
                    compared.turn(screen, each)
        found.left = made.left
    if as_json:
        screen.data(found.as_json())
    else:
        compared.end(screen, found)
    if html is not None:
        from flameagent.transcript import export
        from flameagent.trying.page import page

        export.save(page(found), html)
        screen.notice(f"Wrote {html}.")
    if keep:
        for kept in sorted({each.again.session_id for each in found.turns}):
            screen.notice(f"Kept: {kept}")
    for line in found.left:
        screen.warning(line)
    if found.failed:
        raise typer.Exit(1)


@app.command(
    "eval",
    short_help="Ask a folder of conversations again, and look whether the answers are as expected.",
    epilog=examples(
        "uv run client.py export J1E9PE -o cases/order.json",
        "uv run client.py eval cases --model gpt-5.6",
        "uv run client.py eval cases --judge gpt-5.6 --junit report.xml",
    ),
)
@grouped
def evaluate(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Conversations (NAME.json) with expectations (NAME.expect.yaml)."),
    ],
    judge: Annotated[
        str,
        typer.Option(metavar="MODEL", help="The model that judges what is expected in words.", show_default=False),
    ] = "",
    junit: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the outcome as JUnit's XML, too.", show_default=False),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, metavar="N", help="Ask so many turns at once.")] = 4,
    as_json: Json = False,
    *,
    asking: AskingOptions,
    engine: EngineOptions,
) -> None:
    """Ask the questions of exported conversations again, as `replay` does, and look whether the answers are right.

    Only turns of which something is expected are asked, each with the recorded conversation before it. Exit code 0
    where all of it holds, 1 where something does not or could not be looked at, 2 where a file is not right: then
    nothing is asked.
    """
    from flameagent.trying.evaluation import Evaluating, Evaluation, passed_over, read_folder

    screen = open_screen(as_json=as_json)
    if junit is not None:
        _check_place(junit)
    cases, without = read_folder(folder)
    if any(each.kind == "judge" for case in cases for turn in case.turns for each in turn.expected) and not judge:
        raise UsageError("Something is expected in words: name the model that judges it with --judge.")
    with _opened(asking, engine) as (connection, how):
        from flameagent.cli.terminal import evaluated
        from flameagent.trying.judge import Judge

        found = Evaluation(connection.application.name, how, judge, cases)
        judging = Judge(judge, connection.environ) if judge else None
        if without:
            screen.notice(f"Nothing is expected of {', '.join(without)}.")
        if inside := passed_over(folder):
            screen.warning(f"Only what is in {folder} itself is looked at, not what is in {', '.join(inside)}.")
        made = Evaluating(connection, found, judging, jobs)
        count, done = sum(len(case.turns) for case in cases), list[str]()

        def told(case: str, turn: int) -> None:
            done.append(case)
            screen.notice(f"{len(done)} of {count}: {case}, turn {turn}")

        try:
            with _interruptible(screen, made.stop):
                made.run(lambda case, turn: told(case.name, turn.number))
        finally:
            if judging is not None:
                found.judge_usage = dict(judging.usage)
                judging.close()
    if as_json:
        screen.data(found.as_json())
    else:
        evaluated.show(screen, found)
    for line in found.left:
        screen.warning(line)
    if junit is not None:
        from flameagent.transcript import export
        from flameagent.trying.junit import written

        export.save(written(found), junit)
    if not found.holds:
        raise typer.Exit(1)


def _check_place(output: Path) -> None:
    """Raise `UsageError` where no file can be, before anything is asked for it."""
    if str(output) == "-":
        raise UsageError("Standard output has the rest: name a file.")
    if output.is_dir():
        raise UsageError(f"{output} cannot be written: it is a folder.")
    if not output.parent.is_dir():
        raise UsageError(f"{output} cannot be written: there is no folder {output.parent}.")


@contextmanager
def _opened(asking: AskingOptions, engine: EngineOptions) -> Iterator[tuple[AgentConnection, How]]:
    """A connection to the agent that is to answer, and how it is asked. Raises `UsageError`."""
    from flameagent.client import engine as engines
    from flameagent.client import environment, project
    from flameagent.settings import NAMED

    given = TurnOptions(asking.model, asking.base_url, asking.api, None, asking.model_timeout, asking.timeout)
    of_the_model: Mapping[str, object] = given.of_the_model()
    environ = environment.gather(os.environ, {**vars(engine), **of_the_model, "timeout": asking.timeout})
    timeout = environment.timeout(environ)
    chosen = engines.choose(environ)
    if of_the_model and not chosen.takes_settings:
        names = ", ".join(NAMED[name].variable for name in of_the_model)
        raise UsageError(f"On a cluster these are set where its executor managers run: {names}.")
    agent = project.choose(environ, chosen)
    chosen.begin()
    from flameagent.client import sessions
    from flameagent.client.agent_connection import AgentConnection
    from flameagent.trying.comparison import How

    connection = AgentConnection(chosen, agent, environ)
    try:
        yield (
            connection,
            How(
                asking.model,
                run_tools=asking.run_tools,
                on_own_answers=asking.on_own_answers,
                timeout=timeout,
            ),
        )
    finally:
        sessions.wipe(connection)
        connection.close()


@contextmanager
def _interruptible(screen: Screen, cancel: Callable[[], None]) -> Iterator[None]:
    """While inside, Ctrl-C ends what runs, and its sessions are deleted; a second one leaves at once."""
    signals.raise_once(lambda: screen.error(Interrupted("Interrupted; a session of the replay may be left.")))
    try:
        with signals.interruptible():
            yield
    except KeyboardInterrupt:
        cancel()
        raise Interrupted("Interrupted; what is recorded is as it was.") from None
