"""The routes of the Agents API: sessions, their events, items and turns, and the agents that are served."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flameagent.client.errors import ClientError
from flameagent.server import asking, sse
from flameagent.server.agents import Agents, Found
from flameagent.server.body import as_object, read_bytes
from flameagent.server.dialects.agents_api import objects, reading, requests, streaming
from flameagent.server.dialects.agents_api.changes import Changes
from flameagent.server.dialects.agents_api.inputs import Poster
from flameagent.server.dialects.agents_api.requests import Page
from flameagent.server.errors import NotFoundError, RequestError
from flameagent.server.identity import identity_of
from flameagent.server.once import Once

_ROOT = "/v1/agents"
_READERS = 16
_NONE = {
    "agents/environments": "There are no environments here: an agent runs where its engine does.",
    "agents/automations": "There are no automations here.",
    "vaults": "There are no vaults here: the keys of an agent are in its settings.",
}
"""What the dialect has and nothing here is."""
_NONE_OF_A_SESSION = ("artifacts", "subagents", "traces")

Handler = Callable[[Request], Awaitable[Response]]


def routes(agents: Agents) -> list[Route]:
    """The routes."""
    served = _Sessions(agents)
    one = f"{_ROOT}/sessions/{{session_id}}"
    made = [
        Route(f"{_ROOT}/sessions", served.create, methods=["POST"]),
        Route(f"{_ROOT}/sessions", served.listed, methods=["GET"]),
        Route(one, served.retrieve, methods=["GET"]),
        Route(one, served.update, methods=["POST"]),
        Route(one, served.delete, methods=["DELETE"]),
        Route(f"{one}/events", served.events, methods=["GET"]),
        Route(f"{one}/events", served.post, methods=["POST"]),
        Route(f"{one}/items", served.items, methods=["GET"]),
        Route(f"{one}/turns", served.turns, methods=["GET"]),
        Route(f"{one}/turns/{{turn_id}}", served.turn, methods=["GET"]),
        Route(f"{one}/turns/{{turn_id}}/items", served.items, methods=["GET"]),
        *(Route(f"{one}/{name}", served.nothing, methods=["GET"]) for name in _NONE_OF_A_SESSION),
    ]
    every = ["GET", "POST", "DELETE", "PUT", "PATCH"]
    for name, why in _NONE.items():
        made += [Route(f"/v1/{name}{rest}", _missing(name, why), methods=every) for rest in ("", "/{rest:path}")]
    return [
        *made,
        Route(_ROOT, served.agents, methods=["GET"]),
        Route(_ROOT, _missing("agents", "Agents are applications: `flame-agent new` begins one."), methods=["POST"]),
        Route(f"{_ROOT}/{{agent_id}}", served.agent, methods=["GET"]),
    ]


def _missing(name: str, why: str) -> Handler:
    async def refuse(request: Request) -> Response:
        raise RequestError(404, why, code="not_supported", param=name)

    return refuse


class _Sessions:
    """The handlers."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents
        self._changes = Changes(agents.connection)

    async def create(self, request: Request) -> Response:
        """Begin a session, and ask what comes with it."""
        data = await read_bytes(request)
        wanted = requests.creation(as_object(data))
        once, identity = Once.of(request, data), identity_of(request)
        agent = wanted.agent_id or await self._agents.first()
        async with once.alone:
            if wanted.input is not None:
                await self._admit(once, agent, identity.user)
            found = await asking.begin_session(
                self._agents,
                once,
                agent,
                identity,
                wanted.instructions,
                model=wanted.model,
                metadata=wanted.metadata,
                tools=wanted.tools,
            )
            if wanted.input is not None:
                more = wanted.input.text, identity
                await asking.ask(self._agents, once, found, *more, attachments=wanted.input.images)
        self._changes.tell(found.session_id)
        view = await reading.view(self._agents, found)
        if not wanted.stream:
            return JSONResponse(view.as_json())
        feed = streaming.Feed(self._agents, self._changes, view, 1)
        return sse.stream(feed.events(until_idle=True, created=True))

    async def listed(self, request: Request) -> Response:
        """The sessions of who asks."""
        page, pairs = Page.of(request), requests.wanted_metadata(request)
        found = await self._agents.sessions(identity_of(request).user, request.query_params.get("agent_id", ""))
        if page.ascending:
            found = found[::-1]
        if pairs:
            views = [each for each in await self._views(found) if pairs.items() <= each.conversation.metadata.items()]
            places, more = page.cut([each.session.id for each in views])
            views = [views[place] for place in places]
        else:
            places, more = page.cut([each.session_id for each in found])
            views = await self._views([found[place] for place in places])
        return JSONResponse(page.listed([each.as_json() for each in views], more=more))

    async def retrieve(self, request: Request) -> Response:
        """One session."""
        return JSONResponse((await reading.view(self._agents, await self._found(request))).as_json())

    async def update(self, request: Request) -> Response:
        """Other metadata."""
        found = await self._found(request)
        metadata = requests.update(as_object(await read_bytes(request)))
        if metadata is not None:
            await found.client.set_metadata(found.session_id, metadata)
        return JSONResponse((await reading.view(self._agents, found)).as_json())

    async def delete(self, request: Request) -> Response:
        """For good; not while a turn runs."""
        found = await self._found(request)
        await found.client.delete_session(found.session_id)
        self._changes.tell(found.session_id)
        return JSONResponse({"id": found.session_id, "deleted": True, "object": "agent.session.deleted"})

    async def events(self, request: Request) -> Response:
        """Subscribe."""
        found = await self._found(request)
        feed = await streaming.subscribe(self._agents, self._changes, found)
        return sse.stream(feed.events())

    async def post(self, request: Request) -> Response:
        """Say, decide, give results, cancel."""
        found, data = await self._found(request), await read_bytes(request)
        inputs = requests.inputs(as_object(data))
        poster = Poster(self._agents, found, identity_of(request), Once.of(request, data))
        try:
            await poster.post(inputs)
        finally:
            self._changes.tell(found.session_id)
        return Response(status_code=202)

    async def items(self, request: Request) -> Response:
        """Of all turns, or of one."""
        found, page, turn_id = await self._found(request), Page.of(request), request.path_params.get("turn_id")
        told = await reading.turns(self._agents, found)
        if turn_id is not None and turn_id not in {each.turn["id"] for each in told}:
            raise NotFoundError("turn", turn_id)
        found_items = [item for each in told if turn_id in (None, each.turn["id"]) for item in each.items]
        return _paged(page, found_items)

    async def turns(self, request: Request) -> Response:
        """All of them."""
        found, page = await self._found(request), Page.of(request)
        return _paged(page, [each.turn for each in await reading.turns(self._agents, found)])

    async def turn(self, request: Request) -> Response:
        """One of them."""
        found, turn_id = await self._found(request), request.path_params["turn_id"]
        for each in await reading.turns(self._agents, found):
            if each.turn["id"] == turn_id:
                return JSONResponse(each.turn)
        raise NotFoundError("turn", turn_id)

    async def nothing(self, request: Request) -> Response:
        """A list in which nothing ever is."""
        await self._found(request)
        return JSONResponse(Page.of(request).listed([], more=False))

    async def agents(self, request: Request) -> Response:
        """The applications that are served."""
        return _paged(Page.of(request), [objects.agent(name) for name in await self._agents.names()])

    async def agent(self, request: Request) -> Response:
        """One of them."""
        name = request.path_params["agent_id"]
        if name not in await self._agents.names():
            raise NotFoundError("agent", name)
        return JSONResponse(objects.agent(name))

    async def _found(self, request: Request) -> Found:
        return await self._agents.find(request.path_params["session_id"], identity_of(request).user)

    async def _admit(self, once: Once, agent: str, user: str) -> None:
        """Begin no session for a question that is refused; one that was begun already knows by itself."""
        try:
            await self._agents.limiter.admit(user)
        except RequestError:
            session_id = await once.session_id(self._agents.connection, agent)
            with suppress(NotFoundError):
                await self._agents.find(session_id, user)
                return
            raise

    async def _views(self, found: list[Found]) -> list[reading.View]:
        """What can be read of them, in their order."""
        reads = asyncio.Semaphore(_READERS)

        async def one(each: Found) -> reading.View | None:
            async with reads:
                try:
                    return await reading.view(self._agents, each)
                except ClientError:  # deleted just now
                    return None

        return [each for each in await asyncio.gather(*map(one, found)) if each is not None]


def _paged(page: Page, oldest_first: list[objects.Object]) -> Response:
    ordered = oldest_first if page.ascending else oldest_first[::-1]
    places, more = page.cut([each["id"] for each in ordered])
    return JSONResponse(page.listed([ordered[place] for place in places], more=more))
