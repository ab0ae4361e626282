"""The commands about the users of a server: who may ask over HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flameagent.cli.commands import done, examples, open_screen
from flameagent.cli.commands.options import EngineOptions, Json, grouped

if TYPE_CHECKING:
    from flameagent.client.users import NewToken, User, Users

app = typer.Typer()
users_app = typer.Typer(
    no_args_is_help=True,
    epilog=examples("uv run client.py users add ada", "uv run client.py users revoke ada"),
)
app.add_typer(users_app, name="users", short_help="Who may ask over HTTP.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]


@users_app.callback()
def users() -> None:
    """Who may ask over HTTP (`serve`): each user has a token, and sessions and memory that no other sees.

    They are kept in Flame, hashed, for every server in front of the engine.
    """


@users_app.command("add", short_help="Add a user.", epilog=examples("uv run client.py users add ada --json"))
@grouped
def add(
    name: Name,
    admin: Annotated[
        bool, typer.Option("--admin", help="Whoever has the token may look after users, and see what all use.")
    ] = False,
    as_json: Json = False,
    *,
    engine: EngineOptions,
) -> None:
    """Add a user, and print their token: it is shown this once, and only its hash is kept."""
    with _users(engine) as known:
        _tell(known.add(name, "admin" if admin else "user"), as_json)


@users_app.command(
    "renew", short_help="Give a user another token.", epilog=examples("uv run client.py users renew ada")
)
@grouped
def renew(name: Name, as_json: Json = False, *, engine: EngineOptions) -> None:
    """Give a user another token, and print it; the one before counts no more."""
    with _users(engine) as known:
        _tell(known.renew(name), as_json)


@users_app.command(
    "revoke", short_help="Take a user's token back.", epilog=examples("uv run client.py users revoke ada")
)
@grouped
def revoke(name: Name, as_json: Json = False, *, engine: EngineOptions) -> None:
    """Take a user's token back. Their sessions and what is remembered of them stay, for when they are added again."""
    with _users(engine) as known:
        gone = known.revoke(name)
    screen = open_screen(as_json=as_json)
    if as_json:
        screen.data({"user": gone.name, "revoked": True})
    else:
        screen.text(f"The token of {gone.name} counts no more.")


@users_app.command("list", short_help="List the users.", epilog=examples("uv run client.py users list --json"))
@grouped
def list_(as_json: Json = False, *, engine: EngineOptions) -> None:
    """List the users by name, with their roles."""
    with _users(engine) as known:
        found = known.list()
    screen = open_screen(as_json=as_json)
    if as_json:
        screen.data([_as_json(user) for user in found])
    elif not found:
        screen.aside("There are no users yet.")
    for user in found if not as_json else ():
        screen.text(user.name if user.role == "user" else f"{user.name} ({user.role})")


def _tell(new: NewToken, as_json: bool) -> None:
    screen = open_screen(as_json=as_json)
    with done(f"{new.user.name} has a new token", ""):
        if as_json:
            screen.data({**_as_json(new.user), "token": new.token})
        else:
            screen.text(new.token)
            screen.aside(f"This is the token of {new.user.name}; it is not shown again.")


def _as_json(user: User) -> dict[str, Any]:
    return {"user": user.name, "role": user.role, "at": user.at}


@contextmanager
def _users(engine: EngineOptions) -> Iterator[Users]:
    from flameagent.client import engine as engines
    from flameagent.client import environment

    chosen = engines.choose(environment.gather(os.environ, vars(engine)))
    chosen.begin()
    from flameagent.client.connection import Connection, translate_errors
    from flameagent.client.users import Users

    connection = Connection(chosen)
    try:
        with translate_errors():
            connection.greet()
        yield Users(connection)
    finally:
        connection.close()
