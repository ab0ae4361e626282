"""The application: every route, and what holds for all of them.

Promises an answer in the form of the dialect to any request, and never a traceback.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp

from flameagent.client.errors import ClientError
from flameagent.server import health, metrics, operations, own
from flameagent.server.agents import Agents
from flameagent.server.dialects import agents_api, chat_completions, conversations, models, responses
from flameagent.server.dialects.mcp import MCP
from flameagent.server.errors import RequestError, of_client, one_line
from flameagent.server.identity import Guard, Guarded
from flameagent.server.metrics import Measured
from flameagent.server.page import routes as page
from flameagent.server.page import sign_in
from flameagent.server.traced import Traced

_log = logging.getLogger("flameagent.server")

_METHODS = ("GET", "POST", "PATCH", "DELETE")
_EXPOSED = ("retry-after", "x-should-retry", "x-flame-agent-session", "x-flame-agent-turn")


def make(agents: Agents, guard: Guard, origins: Sequence[str] = ()) -> ASGIApp:
    """The server of these agents, for those whom the guard lets in, and for pages of these `origins`, too."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[Mapping[str, Any]]:
        clearing = asyncio.ensure_future(chat_completions.delete_left(agents))
        yield {}
        clearing.cancel()
        await mcp.close()
        await agents.close()

    mcp, measured = MCP(agents), metrics.Metrics(agents, guard)
    routes: list[Route] = [
        *health.routes(agents),
        *metrics.routes(agents, measured),
        *models.routes(agents),
        *agents_api.routes(agents),
        *chat_completions.routes(agents),
        *responses.routes(agents),
        *conversations.routes(agents),
        *operations.routes(own.operations(agents)),
        Route("/mcp", mcp),
        Route("/mcp/", mcp),
        *page.routes(agents),
        *sign_in.routes(guard),
    ]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={
            RequestError: _refused,
            ClientError: _failed,
            HTTPException: _no_route,
            Exception: _unexpected,
        },
    )
    # A path with a slash too many is none: a redirect would name the host and the way that the request names.
    app.router.redirect_slashes = False
    guarded = Measured(Traced(Guarded(app, guard, _refuse)), measured)
    if not origins:
        return guarded
    # Without cookies: a page of elsewhere has a token of its own, or none.
    return CORSMiddleware(
        guarded, origins, allow_methods=_METHODS, allow_headers=["*"], expose_headers=_EXPOSED, max_age=600
    )


async def _refuse(request: Request, error: RequestError) -> ASGIApp:
    return sign_in.form(request, error) if sign_in.is_for_people(request) else error.response()


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return error.response()


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, ClientError)
    return of_client(error).response()


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = {404: "There is no such path.", 405: f"{request.method} is not for this path."}
    refused = RequestError(error.status_code, what.get(error.status_code, error.detail), code="no_route")
    refused.headers.update(error.headers or {})
    if error.status_code == 405:  # Starlette names those of the first route of the path alone
        refused.headers["Allow"] = ", ".join(sorted(_methods(request)))
    return refused.response()


def _methods(request: Request) -> set[str]:
    matching = (each for each in request.app.routes if each.matches(request.scope)[0] is not Match.NONE)
    return {method for route in matching for method in route.methods or ()}


async def _unexpected(request: Request, error: Exception) -> Response:
    _log.error(
        "This should not have happened: %s %s: %s", request.method, one_line(request.url.path), type(error).__name__
    )
    return RequestError(500, "This should not have happened; the server's log says where.").response()
