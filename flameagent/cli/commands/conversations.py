"""The commands about conversations: shown, copied, taken back, written to files and read from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flameagent.cli.commands import SessionID, answered, done, examples, open_client, open_screen, open_turn_view
from flameagent.cli.commands.options import EngineOptions, Json, Output, TurnOptions, User, grouped
from flameagent.client.errors import TurnFailed, UsageError

if TYPE_CHECKING:
    from flameagent.cli.terminal.screen import Screen
    from flameagent.client.fork import Copy

app = typer.Typer()

Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        "-f",
        metavar="md|json|html",
        help="Without it: what FILE ends with; md where it has no ending.",
        show_default=False,
    ),
]


@app.command(
    short_help="Show a conversation.",
    epilog=examples(
        "uv run client.py history J1E9PE",
        "uv run client.py history J1E9PE --turn 3",
        "uv run client.py history J1E9PE --timings",
        "uv run client.py history J1E9PE --failed",
        "uv run client.py history J1E9PE --json | jq .turns",
    ),
)
@grouped
def history(
    session: SessionID,
    turn: Annotated[int | None, typer.Option(min=1, metavar="N", help="This turn alone.", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="Turns that were rewound, or failed, too.")] = False,
    timings: Annotated[
        bool, typer.Option("--timings", help="When each turn was asked, and what took how long.")
    ] = False,
    failed: Annotated[bool, typer.Option("--failed", help="The turns that failed alone.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="The items alone, as they are stored: one JSON object a line.")
    ] = False,
    as_json: Json = False,
    *,
    engine: EngineOptions,
) -> None:
    """Show a session's conversation from its beginning, also of a closed one; on a terminal with `$PAGER` or `less`.

    Outputs of tools are shown by their beginnings; `--raw` and `--json` have all of them.
    """
    from flameagent.cli.terminal import failed as failures
    from flameagent.cli.terminal import render
    from flameagent.transcript import wording

    if raw and timings:
        raise UsageError("--raw shows the items alone: it stands without --timings.")
    if raw and as_json:
        raise UsageError("--raw and --json are two forms: give one of them.")
    if failed and (raw or every or turn is not None):
        raise UsageError("--failed shows the turns that failed alone: it stands without --raw, --all and --turn.")
    screen = open_screen(as_json=as_json)
    with open_client(engine) as client:
        found = client.history(session, failures=not raw and turn is None, timings=timings)
    if failed and not as_json:
        with screen.paged():
            failures.of_session(screen, found)
        return
    blocks = found.shown(turn=turn, every=every)
    if raw:
        for item in (item for block in blocks for item in block.items):
            screen.data(item)
    else:
        with screen.paged():
            render.history(screen, found, turn=turn, every=every, user=client.user, timings=timings)
        if found.waiting is not None and found.open and turn is None:
            screen.notice(render.how_to_decide(found.session_id, found.waiting.calls))
        if found.failures and not every:
            count = wording.failures(len(found.failures))
            screen.notice(f"{count}: {render.program()} history {found.session_id} --failed")
    if found.damage:
        found.damage.advice = f"A sound copy of what can be read: {render.program()} fork {found.session_id}"
        raise found.damage


@app.command(
    short_help="Copy a conversation.",
    epilog=examples("uv run client.py fork J1E9PE", "uv run client.py fork J1E9PE --at 3"),
)
@grouped
def fork(
    session: SessionID,
    at: Annotated[
        int | None,
        typer.Option(min=0, metavar="TURN", help="Copy up to this turn; without it, all.", show_default=False),
    ] = None,
    user: User = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the new ID alone.")] = False,
    as_json: Json = False,
    *,
    engine: EngineOptions,
) -> None:
    """Copy a conversation into a new session, which stands alone: what happens to one does not change the other.

    The copy is yours, and what it brings is not remembered of you. A closed session can be copied, and what can be
    read of a damaged one. A turn that waits for an approval is left behind.
    """
    screen = open_screen(as_json=as_json, quiet=quiet)
    with open_client(engine) as client:
        copy = client.fork(session, at, user=user)
    _copied(screen, copy, "Copied")


@app.command(
    short_help="Take turns back.",
    epilog=examples("uv run client.py rewind J1E9PE --to 3"),
)
@grouped
def rewind(
    session: SessionID,
    to: Annotated[int, typer.Option(min=0, metavar="TURN", help="The last turn to keep; 0 keeps none.")],
    force: Annotated[bool, typer.Option("--force", help="Cancel a turn that runs.")] = False,
    as_json: Json = False,
    *,
    engine: EngineOptions,
) -> None:
    """Take turns back: the conversation goes on behind an earlier one, with what was remembered then.

    Nothing is erased: `history --all` shows what was taken back. A turn that waits for an approval is taken back too.
    """
    from flameagent.cli.terminal import render
    from flameagent.transcript import wording

    screen = open_screen(as_json=as_json)
    with open_client(engine) as client:
        rewound = client.rewind(session, to, force)
    kept = f"to turn {rewound.turns}" if rewound.turns else "to its beginning"
    taken = f"{wording.turns(rewound.taken)} taken back" if rewound.taken else "nothing else to take back"
    cancelled = "The turn that ran was cancelled. " if rewound.cancelled else ""
    said = f"{cancelled}Rewound {rewound.session_id} {kept}: {taken}"
    with done(said, rewound.session_id):
        if as_json:
            screen.data(rewound.as_json())
            return
        screen.text(f"{said}.", wrapped=True)
    if rewound.taken:
        screen.notice(f"See what was taken back: {render.program()} history {rewound.session_id} --all")
    screen.notice(render.how_to_go_on(rewound.session_id))


@app.command(short_help="Ask the last question again.", epilog=examples("uv run client.py retry J1E9PE"))
@grouped
def retry(
    session: SessionID,
    *,
    options: TurnOptions,
    engine: EngineOptions,
) -> None:
    """Take the last turn back, one that waits for an approval included, and ask its question again.

    When that fails, another `retry` asks the same question: no further turn is taken back. Exit codes as for a
    question.
    """
    from flameagent.cli.terminal import render

    with open_turn_view(engine, options) as (_, view):
        try:
            answered(view.retry(session))
        except TurnFailed as error:
            error.advice = f"Ask it again: {render.program()} retry {error.session_id}"
            raise


@app.command(
    short_help="Write a conversation to a file.",
    epilog=examples(
        "uv run client.py export J1E9PE -o talk.html",
        "uv run client.py export J1E9PE --format json -o talk.json",
        "uv run client.py export J1E9PE | less",
    ),
)
@grouped
def export(
    session: SessionID,
    form: Format = None,
    output: Output = None,
    *,
    engine: EngineOptions,
) -> None:
    """Write a conversation as Markdown, as JSON that `import` reads, or as a web page of one file.

    What was attached is in it; that of Markdown in a folder beside FILE, whose name ends with `_files`, and on
    standard output it is named. A turn that waits for an approval is left out, and turns that were rewound are.
    """
    from flameagent.cli.export import write
    from flameagent.transcript import export as exports

    form = exports.form(form, output)
    screen = open_screen()
    with open_client(engine) as client:
        found = client.history(session)
        data = client.attachments(found)
    write(screen, found, form, output, data)


@app.command(
    "import",
    short_help="Begin a session with an export.",
    epilog=examples(
        "uv run client.py import talk.json",
        "uv run client.py export J1E9PE -f json | uv run client.py import - --endpoint http://flame:8080",
    ),
)
@grouped
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What `export -f json` wrote, or messages; `-` is standard input.")
    ],
    user: User = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the new ID alone.")] = False,
    as_json: Json = False,
    *,
    engine: EngineOptions,
) -> None:
    """Begin a new session with a conversation that was exported, on this engine or another.

    Turns keep their IDs, facts, usage and who decided what. What was approved for good is not taken along. A file
    from elsewhere may have messages alone, {"items": [{"role": "user", "content": "…"}, …]}: each of a user begins a
    turn. The session is the user's, and what was said in it is remembered of them.
    """
    from flameagent.transcript import document
    from flameagent.transcript import export as exports

    screen = open_screen(as_json=as_json, quiet=quiet)
    exported = document.read(exports.content(file), str(file))
    with open_client(engine, user=user) as client:
        copy = client.import_conversation(exported)
    _copied(screen, copy, "Imported")


def _copied(screen: Screen, copy: Copy, verb: str) -> None:
    from flameagent.cli.terminal import render
    from flameagent.transcript import wording

    of = f" of {copy.origin}" if copy.origin else ""
    said = f"{verb} {wording.turns(copy.turns)}{of} to {copy.session_id}"
    with done(said, copy.session_id):
        if screen.as_json:
            screen.data(copy.as_json())
            return
        screen.text(copy.session_id if screen.quiet else f"{said}.")
    if screen.quiet:
        return
    if copy.left:
        screen.warning(copy.left)
    screen.notice(render.how_to_go_on(copy.session_id))
