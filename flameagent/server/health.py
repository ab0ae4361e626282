"""How the server is: for who starts it and looks after it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flameagent.client.async_client import in_thread
from flameagent.client.connection import translate_errors
from flameagent.client.errors import ClientError
from flameagent.server.agents import Agents


def routes(agents: Agents) -> list[Route]:
    """`/healthz`: it runs; `/readyz`: and so does its engine."""

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        def greet() -> None:
            with translate_errors():
                agents.connection.greet()

        try:
            await in_thread(greet)
        except ClientError:  # its sentence names addresses, and is for who may ask
            return JSONResponse({"status": "no engine"}, 503)
        return JSONResponse({"status": "ok"})

    return [Route("/healthz", healthz), Route("/readyz", readyz)]
