"""Running the server: on which address, for whom, until somebody ends it."""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import uvicorn

from flameagent import tracing
from flameagent.client import approvals
from flameagent.client.application import Application
from flameagent.client.engine import Engine
from flameagent.client.environment import Environment
from flameagent.client.errors import ClientError, UsageError
from flameagent.client.question import name_of
from flameagent.client.users import Users
from flameagent.server import app
from flameagent.server.agents import Agents
from flameagent.server.connections import Connection
from flameagent.server.identity import Guard
from flameagent.server.proxies import Believed, Proxies
from flameagent.server.signed import Signed

_log = logging.getLogger("flameagent.server")

_ENDS_IN = 30  # seconds for running answers to end, once somebody has said that the server is to
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?|https?://\[[0-9a-fA-F:]+\](:\d{1,5})?")
_BACKLOG = 2048
_IDLE = 75  # seconds for which a connection without a request is kept: longer than proxies keep theirs


@dataclass(frozen=True)
class Serving:
    """Where it listens, and how. `insecure` says that somebody wants it without users or TLS for other machines.

    `certificate` and `key` are files in PEM; `root_path` is where a proxy has put the server; pages of the `origins`
    may ask from a browser.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    insecure: bool = False
    certificate: str = ""
    key: str = ""
    root_path: str = ""
    origins: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """True where only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def serve(
    engine: Engine,
    applications: Sequence[Application],
    environ: Environment,
    serving: Serving,
    ready: Callable[[str, str], None],
) -> None:
    """Serve until the process is told to end; `ready` is told the address and the token of this run, if it has one.

    Raises `ClientError`; `UsageError` for an address that cannot be listened on, and settings that make no sense.
    """
    proxies, signed = Proxies.of(environ), Signed.of(environ)
    _check(serving)
    tracing.start("flame-agent-server", _log.warning)
    agents = Agents(engine, applications, environ)
    agents.connection.greet()
    users = Users(agents.connection)
    own = "" if signed or proxies.header or users.any() else _person(environ)
    if not serving.is_local and not serving.insecure and (own or not serving.certificate):
        if own:
            raise UsageError(
                f"On {serving.host} anybody may come: add a user first (`users add NAME`), or say --insecure."
            )
        raise UsageError(
            f"On {serving.host} tokens would cross the network in the clear: give --tls-cert, put a proxy with TLS "
            "before it, or say --insecure."
        )
    guard = Guard(users, own, signed, agents.limiter.limits.requests)
    listening = _listen(serving)
    configuration = uvicorn.Config(
        Believed(app.make(agents, guard, serving.origins), proxies),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_ENDS_IN,
        timeout_keep_alive=_IDLE,
        proxy_headers=False,
        lifespan="on",
        http=Connection,
        ws="none",
        root_path=serving.root_path,
        ssl_certfile=serving.certificate or None,
        ssl_keyfile=serving.key or None,
    )
    host = f"[{serving.host}]" if ":" in serving.host else serving.host
    way = "https" if serving.certificate else "http"
    ready(f"{way}://{host}:{listening.getsockname()[1]}", guard.own_token)
    server = uvicorn.Server(configuration)
    server.run(sockets=[listening])
    if not server.started:
        raise ClientError("The server could not start; its log says why.")


def _check(serving: Serving) -> None:
    """Raises `UsageError` for a certificate that cannot be used, and a path or origin that is none."""
    if serving.key and not serving.certificate:
        raise UsageError("--tls-key is for the certificate of --tls-cert, which is not given.")
    if serving.certificate:

        def no_password() -> str:
            raise ValueError("the key has a password")

        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(serving.certificate, serving.key or None, no_password)
        except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError
            reason = "they are no certificate and its key in PEM" if isinstance(error, ssl.SSLError) else str(error)
            raise UsageError(f"--tls-cert and --tls-key cannot be used: {reason}.") from error
    if serving.root_path and not (serving.root_path.startswith("/") and serving.root_path.rstrip("/")):
        raise UsageError(f"--root-path is a path such as /agents, not {serving.root_path!r}.")
    for origin in serving.origins:
        if not _ORIGIN.fullmatch(origin):
            raise UsageError(f"--cors-origin is an origin such as https://chat.example, not {origin!r}.")


def _person(environ: Environment) -> str:
    """Who has started this."""
    return name_of(environ.get("FLAME_AGENT_USER", "")) or approvals.current_user() or "owner"


def _listen(serving: Serving) -> socket.socket:
    family = socket.AF_INET6 if ":" in serving.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((serving.host, serving.port))
        listening.listen(_BACKLOG)  # whoever comes before the server is there waits, and is not refused
    except OSError as error:
        listening.close()
        raise UsageError(
            f"The address {serving.host}:{serving.port} cannot be listened on: {error.strerror}."
        ) from error
    return listening
