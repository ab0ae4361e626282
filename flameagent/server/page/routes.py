"""The pages, and the parts of pages that their script asks for. All that changes something goes by our own routes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flameagent.client.errors import ClientError
from flameagent.client.question import name_of
from flameagent.client.sessions import SessionInfo
from flameagent.conversation import attachments
from flameagent.conversation.attachments import IMAGES, UNKNOWN
from flameagent.server import sse
from flameagent.server.agents import Agents, Found
from flameagent.server.errors import NotFoundError, RequestError, of_client, sentence
from flameagent.server.identity import identity_of
from flameagent.server.page import conversation, live
from flameagent.server.page.rendering import HEADERS, page
from flameagent.transcript import wording
from flameagent.transcript.steps import heading

_LISTED = 30  # conversations
_SHOWN = 30  # turns of one, until somebody asks for all
_HASH = re.compile("[0-9a-f]{64}")
_UNTITLED = "New conversation"
_FILE = "sandbox; default-src 'none'; frame-ancestors 'none'"  # for what others made


@dataclass(frozen=True)
class _Listed:
    """A conversation in the list."""

    session_id: str
    title: str
    about: str


class Page:
    """The handlers."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def begin(self, request: Request) -> Response:
        """A conversation that begins."""
        names = await self._agents.names()
        return page(request, "begin", agents=names, user=identity_of(request).user)

    async def chat(self, request: Request) -> Response:
        """A conversation: its last turns, or with `?all` every one."""
        found = await self._found(request)
        history = await found.client.history(found.session_id)
        running = await live.running_turn(found)
        shows_all = "all" in request.query_params
        count = len(history.parts)
        last = count if shows_all else _SHOWN
        kept = history.conversation
        first = history.waiting.question if history.waiting else running.question
        return page(
            request,
            "chat",
            session=found.session_id,
            agent=found.agent,
            user=identity_of(request).user,
            title=heading(history) if kept and (kept.title or kept.turn_count) else wording.title(first) or _UNTITLED,
            state=history.state,
            turns=conversation.shown(history, running, last),
            earlier=max(count - last, 0),
            prompt=kept.prompt if kept else "",
            again=kept.retry_question if kept and not running.turn_id else "",
            damage=str(history.damage or ""),
        )

    async def events(self, request: Request) -> Response:
        """A turn while it runs."""
        found = await self._found(request)
        coming = live.events(found, request.path_params["turn"])
        first = await anext(coming)  # what is wrong is told by a status

        async def all_of_them() -> AsyncIterator[bytes]:
            yield first
            async for event in coming:
                yield event

        return sse.stream(all_of_them())

    async def file(self, request: Request) -> Response:
        """An attachment of a conversation, by its hash."""
        found = await self._found(request)
        name = request.path_params["name"]
        data = await found.client.attachment(found.session_id, name) if _HASH.fullmatch(name) else None
        if data is None:
            raise NotFoundError("file", name)
        kind = attachments.media_type("", data)  # what it is, not what somebody says that it is
        headers = {**HEADERS, "content-security-policy": _FILE, "cache-control": "private, max-age=86400"}
        if kind not in IMAGES:
            kind, headers["content-disposition"] = UNKNOWN, "attachment"
        return Response(data, headers=headers, media_type=kind)

    async def listed(self, request: Request) -> Response:
        """The newest conversations, or those with a text."""
        search = request.query_params.get("search", "").strip()
        told = request.query_params.get("limit", "")
        limit = min(int(told), 10_000) if told.isascii() and told.isdigit() and len(told) < 6 else _LISTED
        found = await self._agents.listed(name_of(identity_of(request).user), limit + 1, search=search)
        listed = [_listed(info, each.agent) for each, info in found]
        return page(
            request,
            "list",
            listed=listed[:limit],
            more=limit + _LISTED if len(listed) > limit else 0,
            current=request.query_params.get("current", ""),
            search=search,
        )

    async def memory(self, request: Request) -> Response:
        """What an agent remembers of who asks; with `?text=` the turns that fit."""
        names = await self._agents.names()
        agent = request.query_params.get("agent", "") or (names[0] if names else "")
        memory = (await self._agents.client(agent)).memory(name_of(identity_of(request).user))
        text = request.query_params.get("text", "").strip()
        problem, facts, count, found = "", [], 0, []
        try:
            facts, count = await memory.facts(), len(await memory.turns())
            found = await memory.search(text, 20) if text else []
        except ClientError as error:
            problem = sentence(error)
        return page(
            request,
            "memory",
            user=identity_of(request).user,
            agents=names,
            agent=agent,
            facts=facts,
            count=wording.turns(count),
            text=text,
            found=found,
            problem=problem,
        )

    async def _found(self, request: Request) -> Found:
        return await self._agents.find(request.path_params["session"], name_of(identity_of(request).user))


def routes(agents: Agents) -> list[Route]:
    """All of them."""
    shown = Page(agents)
    chat = "/chat/{session}"
    return [
        Route("/", _for_people(shown.begin), methods=["GET"]),
        Route("/memory", _for_people(shown.memory), methods=["GET"]),
        Route(chat, _for_people(shown.chat), methods=["GET"]),
        Route(f"{chat}/files/{{name}}", shown.file, methods=["GET"]),
        Route(f"{chat}/turns/{{turn:path}}/events", shown.events, methods=["GET"]),
        Route("/page/list", shown.listed, methods=["GET"]),
    ]


def _for_people(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """The handler of a page, whose errors are pages."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except (RequestError, ClientError) as error:
            refused = of_client(error) if isinstance(error, ClientError) else error
            user = identity_of(request).user
            return page(request, "problem", refused.status, message=str(refused), user=user)

    return answer


def _listed(info: SessionInfo, agent: str) -> _Listed:
    about = {"waiting": ["waits for you"], "closed": ["closed"]}.get(info.state, [])
    about += [info.problem or wording.turns(info.turns), f"{wording.age(info.changed or info.created)} ago"]
    return _Listed(info.session_id, info.title or _UNTITLED, " · ".join(about))
