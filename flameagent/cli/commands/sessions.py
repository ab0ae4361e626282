"""The commands about sessions as such: listed, named, closed, deleted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from flameagent.cli import when
from flameagent.cli.commands import SessionID, agreed, done, examples, open_client, open_screen
from flameagent.cli.commands.options import EngineOptions, Json, Since, Until, grouped
from flameagent.cli.terminal.progress import list_progress
from flameagent.client.errors import UsageError

if TYPE_CHECKING:
    from flameagent.cli.terminal.screen import Screen
    from flameagent.client.client import Client
    from flameagent.client.sessions import SessionInfo

_STATES = ("open", "waiting", "closed")

app = typer.Typer()
sessions_app = typer.Typer(
    epilog=examples(
        "uv run client.py sessions",
        "uv run client.py sessions --search Lisbon --limit 5",
        "uv run client.py sessions --failed --since 3d",
        'uv run client.py sessions rename J1E9PE "The weather in Lisbon"',
    )
)
app.add_typer(sessions_app, name="sessions", short_help="List the sessions, or name one.")


@sessions_app.callback(invoke_without_command=True)
@grouped
def sessions(
    context: typer.Context,
    state: Annotated[
        str | None,
        typer.Option(metavar="|".join(_STATES), help="Those in this state: `waiting` is for an approval."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, metavar="N", help="The newest N.")] = None,
    search: Annotated[
        str, typer.Option(metavar="TEXT", help="Those with this text in their title or history.", show_default=False)
    ] = "",
    failed: Annotated[
        bool, typer.Option("--failed", help="Those with turns that failed, and what these were.")
    ] = False,
    since: Since = None,
    until: Until = None,
    as_json: Json = False,
    *,
    engine: EngineOptions,
) -> None:
    """List the sessions, newest first. The title is the first question, or what `sessions rename` has set.

    An ID is shown without the agent's name, where no other session has the rest in its own: as such it does for every
    command. With --failed each has the turns that failed in the time, what was asked and why there was no answer.
    """
    filtered = state is not None or limit is not None or bool(search) or failed or not since is until is None
    if context.invoked_subcommand:
        if filtered or as_json:
            raise UsageError("Options of the list stand with `sessions` alone; those of `rename` stand behind it.")
        return
    if state not in (None, *_STATES):
        raise UsageError(f"--state is {', '.join(_STATES[:-1])} or {_STATES[-1]}, not {state!r}.")
    if not failed and not since is until is None:
        raise UsageError("--since and --until are of turns that failed: they stand with --failed.")
    from flameagent.cli.terminal import failed as failures
    from flameagent.cli.terminal import render

    begin, end = when.period(since, until)
    screen = open_screen(as_json=as_json)
    if failed:
        with open_client(engine) as client, list_progress(screen) as on_progress:
            those = client.failed_sessions(begin, end, state or "", limit, search, on_progress=on_progress)
        failures.sessions(screen, those)
        return
    with open_client(engine) as client, list_progress(screen) as on_progress:
        found = client.sessions(state or "", limit, search, on_progress=on_progress)
    render.sessions(screen, found, filtered=filtered)


@sessions_app.command(
    short_help="Give a session a title.",
    epilog=examples('uv run client.py sessions rename J1E9PE "The weather in Lisbon"'),
)
@grouped
def rename(
    session: SessionID,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="An empty one: the first question again.")],
    as_json: Json = False,
    *,
    engine: EngineOptions,
) -> None:
    """Give a session a title, also a closed one."""
    screen = open_screen(as_json=as_json)
    with open_client(engine) as client:
        named, title = client.rename(session, title)
    with done(f"Renamed {named}", named):
        if as_json:
            screen.data({"session_id": named, "title": title})
        else:
            screen.text(f"Renamed {named}: {title}" if title else f"{named} has its first question as title again.")


@app.command(short_help="Close a session.", epilog=examples("uv run client.py close J1E9PE"))
@grouped
def close(session: SessionID, as_json: Json = False, *, engine: EngineOptions) -> None:
    """Close a session: nothing can be added any more, and its history can still be read."""
    screen = open_screen(as_json=as_json)
    with open_client(engine) as client:
        closed = client.close_session(session)
    with done(f"Closed {closed}", closed):
        if as_json:
            screen.data({"session_id": closed, "state": "closed"})
        else:
            screen.text(f"Closed {closed}.")


@app.command(
    short_help="Delete sessions for good.",
    epilog=examples(
        "uv run client.py delete J1E9PE",
        "uv run client.py delete J1E9PE K2F0QF --yes",
        "uv run client.py delete --older-than 30d",
    ),
)
@grouped
def delete(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="Sessions: each an ID, or a part that only it has.", show_default=False),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="AGE", help="Those to which nothing was added for so long: `30d`, `12h`.", show_default=False
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
    *,
    engine: EngineOptions,
) -> None:
    """Delete sessions with all that they hold; forks and exports of them stay. Asks first.

    One in which a turn runs is not deleted. A deletion that was broken off is done by the same command again.
    """
    if bool(ids) == (older_than is not None):
        raise UsageError("Say what to delete: IDs, or --older-than AGE.")
    from flameagent.client import sessions

    before = None if older_than is None else time.time() - when.seconds(older_than)
    screen = open_screen(as_json=as_json)
    with open_client(engine) as client:
        if before is None:
            found = list({info.session_id: info for info in map(client.session, ids or [])}.values())
        else:
            with list_progress(screen) as on_progress:
                old = [info for info in client.sessions(on_progress=on_progress) if info.changed < before * 1000]
            # Of what cannot be read nobody knows when it was last added to.
            found = [info for info in old if info.problem in ("", sessions.NO_HISTORY)]
            if len(found) < len(old):
                left = ", ".join(info.short for info in old if info not in found)
                screen.warning(f"Damaged sessions are deleted by their IDs only: {left}.")
        if found and not yes and not _agreed(screen, found):
            screen.text("Nothing was deleted.")
            return
        _delete(client, screen, found)


def _delete(client: Client, screen: Screen, found: list[SessionInfo]) -> None:
    deleted = []
    try:
        for info in found:
            client.delete_session(info.session_id)
            deleted.append(info.session_id)
            if not screen.as_json:
                with done(f"Deleted {info.session_id}", info.session_id):
                    screen.text(f"Deleted {info.session_id}.")
    finally:
        if screen.as_json:
            with done(f"Deleted {', '.join(deleted)}" if deleted else "", ""):
                screen.data({"deleted": deleted})
    if not found:
        screen.notice("No session is that old.")


def _agreed(screen: Screen, found: list[SessionInfo]) -> bool:
    from flameagent.transcript import wording

    width = max(len(info.short) for info in found)
    about = [f"  {info.short:<{width}}  {wording.turns(info.turns)}  {wording.title(info.title)}" for info in found]
    count = "this session" if len(found) == 1 else f"these {len(found)} sessions"
    return agreed(screen, "delete", f"Delete {count} for good?", about)
