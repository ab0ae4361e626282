"""Who makes a request: from a token, or by the word of a proxy that the settings name, never from what a body says.

A token comes as `Authorization: Bearer …`, or, from the page, as a cookie; one that somebody else has signed may come
in a header of its own. Promises that every path needs one, but for those that say how the server is and those by
which somebody comes in; that an open stream ends when its token counts no more; and that another site's page, which a
browser sends the cookie with, changes nothing.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flameagent.client import approvals
from flameagent.client.async_client import in_thread
from flameagent.client.errors import ClientError
from flameagent.client.users import Users
from flameagent.server.errors import RequestError, of_client
from flameagent.server.limits import Rate
from flameagent.server.signed import NotSigned, Signed

COOKIE = "flame_agent_token"
OPEN = frozenset({"/healthz", "/readyz", "/login", "/logout", "/page/page.css", "/page/page.js", "/page/icon.svg"})
"""Paths that need no token."""
_READS = frozenset({"GET", "HEAD", "OPTIONS"})

_ASKED_AGAIN = 15.0  # seconds after which the token of an open stream is looked at again

_log = logging.getLogger("flameagent.server")


@dataclass(frozen=True)
class Identity:
    """Who asks; an `admin` may look after users and see what all of them use."""

    user: str
    admin: bool = False


class Guard:
    """Who may come in: whom `Users` knows, with an `own` user whoever has the token of this process, and, where the
    settings have that, whoever has a `signed` token, or comes by a proxy that says who it is.
    """

    def __init__(self, users: Users, own: str = "", signed: Signed | None = None, requests: int = 0) -> None:
        """`requests` are those of a user in a minute; 0: as many as they like."""
        self.rate = Rate(requests)
        self.users = users
        self.own = own
        self.own_token = secrets.token_urlsafe(32) if own else ""
        self._signed = signed

    async def identify(self, connection: HTTPConnection) -> Identity:
        """Who makes the request. Raises `RequestError`: 401 for nobody."""
        if user := connection.scope.get("proxied_user"):
            return Identity(user)
        if self._signed and self._signed.header and (token := connection.headers.get(self._signed.header, "")):
            return await self._identity_signed(self._signed, token.removeprefix("Bearer ").strip())
        if not (token := token_of(connection)):
            raise _nobody("A token is needed: Authorization: Bearer TOKEN.")
        return await self.with_token(token)

    async def with_token(self, token: str) -> Identity:
        """Whose token it is. Raises `RequestError`: 401 for nobody's."""
        if self.own_token and hmac.compare_digest(token.encode(), self.own_token.encode()):
            return Identity(self.own, admin=True)
        if self._signed and not self._signed.header and token.count(".") == 2:
            return await self._identity_signed(self._signed, token)
        try:
            found = await in_thread(lambda: self.users.with_token(token))
        except ClientError as error:
            raise of_client(error) from error
        if found is None:
            raise _nobody("The token is not known, or was revoked.")
        return Identity(found.name, found.role == "admin")

    async def _identity_signed(self, signed: Signed, token: str) -> Identity:
        try:
            return Identity(await in_thread(lambda: signed.user(token)))
        except NotSigned as error:
            raise _nobody(str(error)) from None
        except ClientError as error:  # it names files and addresses, which are nobody's business
            _log.error("%s", error)
            raise RequestError(503, "The keys for signed tokens cannot be read now.", retry=True) from None


def token_of(connection: HTTPConnection) -> str:
    """The token that comes with a request; "" for none, and where two headers say different things."""
    said = connection.headers.getlist("authorization")
    scheme, _, token = said[0].partition(" ") if len(said) == 1 else ("", "", "")
    if said:
        return token.strip() if scheme.casefold() == "bearer" else ""
    return connection.cookies.get(COOKIE, "")


def from_here(request: Request) -> None:
    """See that a request of a browser comes from a page of this server. Raises `RequestError`: 403.

    Other ports of this machine are the same site, and a `SameSite` cookie goes with their requests: what counts is
    the origin. Browsers name it with whatever is no plain reading.
    """
    site = request.headers.get("sec-fetch-site")  # only over TLS and on loopback
    _, _, origin = request.headers.get("origin", "").partition("://")
    if not (site == "same-origin" if site else origin and origin == request.headers.get("host")):
        raise RequestError(403, "This does not come from a page of this server.", code="other_origin")


def identity_of(request: HTTPConnection) -> Identity:
    """Who makes a request that was let in."""
    identity: Identity = request.scope["identity"]
    return identity


class Guarded:
    """The application behind a guard: `refuse` makes the answer for whoever is not let in."""

    def __init__(self, app: ASGIApp, guard: Guard, refuse: Callable[[Request, RequestError], Awaitable[ASGIApp]]):
        self.app = app
        self._guard = guard
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"].removeprefix(scope.get("root_path", "")) not in OPEN:
            request = Request(scope, receive)
            try:
                if request.method not in _READS and _is_by_a_browser_alone(request):
                    from_here(request)
                identity = scope["identity"] = await self._guard.identify(request)
                self._guard.rate.take(identity.user)
                approvals.acting_user.set(identity.user)
            except RequestError as error:
                response = await self._refuse(request, error)
                await response(scope, receive, send)
                return
            await self._while_known(request, scope, receive, send)
            return
        await self.app(scope, receive, send)

    async def _while_known(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request for as long as its token counts: an open stream, which waits for its client to go, ends."""
        begun = is_cut = False

        async def receiving() -> Message:
            nonlocal is_cut
            coming = asyncio.ensure_future(receive())
            try:
                while not (await asyncio.wait({coming}, timeout=_ASKED_AGAIN))[0]:
                    if begun and not await self._counts(request):
                        is_cut = True
                        return {"type": "http.disconnect"}
                return coming.result()
            finally:
                coming.cancel()

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receiving, sending)
        except asyncio.CancelledError:  # the server ends: uvicorn would log where each request was, and answer 500
            is_cut = begun
            if not begun:
                ending = RequestError(503, "The server ends; a turn that was asked for goes on.", code="ending")
                await ending.response()(scope, receive, send)
        if is_cut:
            with suppress(TimeoutError):  # whoever does not read is not waited for
                async with asyncio.timeout(1):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _counts(self, request: Request) -> bool:
        """Whether who makes the request may do so still; where nobody can say, what was said before counts."""
        try:
            return await self._guard.identify(request) == identity_of(request)
        except RequestError as error:
            return error.status != 401


def _is_by_a_browser_alone(request: Request) -> bool:
    """Whether it may be a page of anybody that has made it: a browser says by itself who asks."""
    if request.scope.get("proxied_user"):
        return "origin" in request.headers or "sec-fetch-site" in request.headers
    return "authorization" not in request.headers and COOKIE in request.cookies


def _nobody(message: str) -> RequestError:
    error = RequestError(401, message, code="invalid_api_key")
    error.headers["www-authenticate"] = "Bearer"
    return error
