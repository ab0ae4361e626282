"""The command that serves the agents over HTTP."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Annotated

import typer

from flameagent.cli.commands import examples, open_screen
from flameagent.cli.commands.options import EngineOptions, grouped
from flameagent.cli.terminal import signals
from flameagent.client.errors import UsageError

app = typer.Typer()


@app.command(
    short_help="Serve the agents over HTTP.",
    epilog=examples(
        "uv run client.py serve",
        "uv run client.py users add ada",
    ),
)
@grouped
def serve(
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes a free one.")] = 8000,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen for other machines without TLS, or without users.")
    ] = False,
    tls_cert: Annotated[
        str, typer.Option("--tls-cert", metavar="FILE", help="A certificate in PEM, with those above it: TLS.")
    ] = "",
    tls_key: Annotated[
        str, typer.Option("--tls-key", metavar="FILE", help="Its key, where that is in a file of its own.")
    ] = "",
    root_path: Annotated[
        str, typer.Option("--root-path", metavar="PATH", help="Where a proxy that takes it away has put the server.")
    ] = "",
    cors_origin: Annotated[
        list[str] | None,
        typer.Option("--cors-origin", metavar="ORIGIN", help="Pages of this origin may ask; can be repeated."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print address and token as a line of JSON; an error is JSON, too.")
    ] = False,
    *,
    engine: EngineOptions,
) -> None:
    """Serve the agents of this project over HTTP, to clients of OpenAI's API and others, until Ctrl-C.

    Each request has a token: that of a user (`users add`), or, while there are none, the one that is printed. Any
    number of servers may stand in front of one engine: what they know is in Flame.
    """
    from flameagent.client import engine as engines
    from flameagent.client import environment, project

    try:
        from flameagent.server.serve import Serving
        from flameagent.server.serve import serve as run
    except ImportError as error:
        raise UsageError(
            f"There is no module {error.name}: install what the server needs, flame-openai-agent[serve]."
        ) from error
    environ = environment.gather(os.environ, vars(engine))
    os.environ.pop("FLAME_AGENT_JWT_SECRET", None)  # an engine that is started here, its agents and tools inherit it
    chosen = engines.choose(environ)
    applications = project.served(environ, chosen)
    screen = open_screen(as_json=as_json)
    named = [each.name for each in applications]

    def ready(address: str, token: str) -> None:
        if as_json:
            screen.data({"url": address, "token": token, "agents": named, "link": _link(address, token)})
            return
        screen.text(f"{', '.join(named) or 'All agents'} at {address}/v1; Ctrl-C ends it.")
        if token:
            screen.text(f"There are no users yet (`users add NAME`). Until then this token is yours: {token}")
        screen.text(f"In a browser: {_link(address, token)}")

    serving = Serving(host, port, insecure, tls_cert, tls_key, root_path.rstrip("/"), tuple(cors_origin or ()))
    signals.raise_from_now_on()
    with suppress(KeyboardInterrupt):
        run(chosen, applications, environ, serving, ready)


def _link(address: str, token: str) -> str:
    """Where the page is; with a token, the way in with it."""
    return f"{address}/login?token={token}" if token else f"{address}/"
