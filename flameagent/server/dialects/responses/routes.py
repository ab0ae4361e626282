"""The routes of the Responses dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flameagent.client.async_client import AsyncTurn, in_thread
from flameagent.client.errors import ClientError, ConflictError, NoSuchSession
from flameagent.client.events import Done, Failed
from flameagent.server import sse
from flameagent.server.agents import Agents, Found
from flameagent.server.body import as_object, read_bytes
from flameagent.server.dialects.responses import history, shapes
from flameagent.server.dialects.responses import input as inputs
from flameagent.server.dialects.responses.events import ResponseEvents
from flameagent.server.dialects.responses.ids import ResponseId
from flameagent.server.dialects.responses.input import Input
from flameagent.server.dialects.responses.passes import Standing
from flameagent.server.dialects.responses.placing import place, tools_of
from flameagent.server.dialects.responses.reading import Known, created, failed, read, settled
from flameagent.server.dialects.responses.request import Body
from flameagent.server.errors import NotFoundError, RequestError
from flameagent.server.identity import identity_of
from flameagent.server.once import Once
from flameagent.server.operations import fitting
from flameagent.server.paging import Page
from flameagent.settings import TIMEOUT

_PAST = 10.0  # seconds for the events of a pass that has ended
_OF_TURNS = (
    "failed",
    "model",
    "tool",
    "cancelled",
    "budget_reached",
    "usage",
    "waiting",
    "conflict",
    "closed",
    "no_session",
)
"""The errors with which a turn has ended: with others nobody knows, or it goes on."""


def routes(agents: Agents) -> list[Route]:
    """The routes."""
    responses = Responses(agents)
    one = "/v1/responses/{response_id}"
    return [
        Route("/v1/responses", responses.create, methods=["POST"]),
        Route(one, responses.retrieve, methods=["GET"]),
        Route(one, responses.delete, methods=["DELETE"]),
        Route(f"{one}/cancel", responses.cancel, methods=["POST"]),
        Route(f"{one}/input_items", responses.input_items, methods=["GET"]),
    ]


class Responses:
    """The endpoints. Each raises `RequestError` and `ClientError`."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def create(self, request: Request) -> Response:
        """Ask, or decide on calls; the response, its events, or with `background` how it stands."""
        data = await read_bytes(request)
        body, given = await in_thread(lambda: _read(data))
        once, identity = Once.of(request, data), identity_of(request)
        async with once.alone:
            placed = await place(self._agents, once, body, given, identity)
        found, wanted = placed.found, placed.id
        at = await created(self._agents, wanted) / 1000
        start = Standing(wanted, found.agent, "in_progress", at, placed.prompt, metadata=placed.metadata)
        if body.stream:
            events = ResponseEvents(start, clients=placed.clients)
            return sse.stream(self._events(found, placed.turn, events, start))
        if body.background:
            start = (await read(self._agents, found, wanted)).standing
        else:
            start = await self._ended(found, placed.turn, start)
        return JSONResponse(shapes.response(start, **_asked(body)))

    async def retrieve(self, request: Request) -> Response:
        """How a response stands, or with `stream` its events, those after a number if one is given."""
        found, known = await self._known(request)
        query = request.query_params
        if query.get("stream", "").casefold() not in ("true", "1"):
            return JSONResponse(shapes.response(known.standing))
        wanted = known.standing.id
        is_past = known.passes is not None and wanted.number < known.passes.last
        named = found.session_id, wanted.turn_id, 0, _PAST if is_past else TIMEOUT
        turn = found.client.attach(*named, live=True, decision_id=known.decision_id)
        at = await created(self._agents, wanted) / 1000 or known.standing.created
        said = known.standing
        start = Standing(wanted, found.agent, "in_progress", at, said.prompt, metadata=said.metadata)
        clients = tools_of(known.conversation).keys()
        events = ResponseEvents(start, _number(query.get("starting_after")), clients)
        return sse.stream(self._events(found, turn, events, start))

    async def delete(self, request: Request) -> Response:
        """Take the turn of a response back, if it is the last one of its conversation."""
        found, known = await self._known(request)
        wanted, passes = known.standing.id, known.passes
        if passes is not None and wanted.number < passes.last and not passes.answered:
            known = await read(self._agents, found, wanted.at(passes.last))  # the turn has gone on
        if known.standing.status in ("queued", "in_progress"):
            raise ConflictError("The response is at work. Wait for it, or cancel it.")
        if passes is not None:
            if passes.answered and passes.number < known.conversation.turn_count:
                raise RequestError(
                    400,
                    "Turns came after this one and build on it: only the last one can be taken back. Delete the "
                    "conversation to delete all of it.",
                    code="not_last",
                )
            await found.client.rewind(found.session_id, passes.number - 1)
        return JSONResponse({"id": str(wanted), "object": "response", "deleted": True})

    async def cancel(self, request: Request) -> Response:
        """See to it that a response adds nothing more; how it stands then."""
        found, known = await self._known(request)
        wanted, passes = known.standing.id, known.passes
        ended = known.standing.status in ("failed", "cancelled") or (passes is not None and passes.answered)
        if not ended and not (passes is not None and wanted.number < passes.last):
            turn = found.client.attach(found.session_id, wanted.turn_id, 0, TIMEOUT, live=True)
            await turn.cancel()
            known = await read(self._agents, found, wanted)
        return JSONResponse(shapes.response(known.standing))

    async def input_items(self, request: Request) -> Response:
        """What a response was made of: the question, or the decisions on calls."""
        page = Page.of(request)
        found, known = await self._known(request)
        return JSONResponse(page.of_items(await history.input_of(found, known, request)))

    async def _known(self, request: Request) -> tuple[Found, Known]:
        wanted = ResponseId.read(request.path_params["response_id"])
        try:
            found = await self._agents.find(wanted.session_id, identity_of(request).user)
        except NotFoundError:
            raise NotFoundError("response", str(wanted)) from None
        return found, await read(self._agents, found, wanted)

    async def _ended(self, found: Found, turn: AsyncTurn, start: Standing) -> Standing:
        """The response when its pass has ended. Raises `ClientError` where nobody knows how."""
        events = ResponseEvents(start)
        async with aclosing(turn.__aiter__()) as coming:
            async for event in coming:
                if isinstance(event, Done):
                    return await settled(self._agents, found, start.id, event.reply)
                if isinstance(event, Failed):
                    return await self._failed(found, start, event.error)
                for _ in events.feed(event):
                    pass
                if events.ended:
                    break
        return (await read(self._agents, found, start.id)).standing

    async def _events(
        self, found: Found, turn: AsyncTurn, events: ResponseEvents, start: Standing
    ) -> AsyncIterator[bytes]:
        for told in events.begin():
            yield _as_event(told)
        try:
            standing = None
            async with aclosing(turn.__aiter__()) as coming:
                async for event in coming:
                    if isinstance(event, Done):
                        standing = await settled(self._agents, found, start.id, event.reply)
                    elif isinstance(event, Failed):
                        standing = await self._failed(found, start, event.error)
                    else:
                        for told in events.feed(event):
                            yield _as_event(told)
                    if events.ended or standing is not None:
                        break
            standing = standing or (await read(self._agents, found, start.id)).standing
            for told in events.end(standing):
                yield _as_event(told)
        except NotFoundError:
            for told in events.broken_off(NoSuchSession("The response was deleted meanwhile.")):
                yield _as_event(told)
        except ClientError as error:
            for told in events.broken_off(error):
                yield _as_event(told)

    async def _failed(self, found: Found, start: Standing, error: ClientError) -> Standing:
        """The response whose turn has come to that error. Raises it where that says nothing of the response."""
        if error.code == "conflict" and start.id.number:  # somebody else has decided: what came of that is theirs
            return failed(start, error)
        known = None
        with suppress(NotFoundError, ClientError):
            known = await read(self._agents, found, start.id)
        if known is not None and known.standing.status in ("completed", "failed", "cancelled"):
            return known.standing
        if error.code not in _OF_TURNS:
            raise error
        return failed(start, error)


def _read(data: bytes) -> tuple[Body, Input]:
    """The body of a request. Raises `RequestError`."""
    body: Body = fitting(as_object(data), Body, strict=True)
    body.check()
    return body, inputs.read(body.input)


def _asked(body: Body) -> dict[str, Any]:
    """What only the request has said of its response: its events are the same for who comes back elsewhere."""
    asked: dict[str, Any] = {"background": bool(body.background)}
    if body.previous_response_id:
        asked["previous_response_id"] = body.previous_response_id
    return asked


def _number(text: str | None) -> int:
    """The number of the last event that was seen; -1 for none. Raises `RequestError`."""
    if text is None:
        return -1
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise RequestError(400, "The number of an event is a whole number.", param="starting_after")
    return int(text)


def _as_event(told: dict[str, Any]) -> bytes:
    return sse.event(told, told["type"])
