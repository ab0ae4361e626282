"""The list of models of OpenAI's dialects: the agents."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flameagent.server.agents import Agents
from flameagent.server.errors import NotFoundError


def routes(agents: Agents) -> list[Route]:
    """The routes."""

    async def list_models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_model(name) for name in await agents.names()]})

    async def retrieve_model(request: Request) -> Response:
        name = request.path_params["model"]
        if name not in await agents.names():
            raise NotFoundError("model", name)
        return JSONResponse(_model(name))

    return [Route("/v1/models", list_models), Route("/v1/models/{model:path}", retrieve_model)]


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "flame-openai-agent"}
