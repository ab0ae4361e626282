"""The route of chat completions: which of the three kinds of request it is, and its answer."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flameagent.client.async_client import AsyncTurn, in_thread
from flameagent.client.connection import translate_errors
from flameagent.client.errors import ClientError
from flameagent.client.events import ignore
from flameagent.flame.frontend import Session
from flameagent.server import sse
from flameagent.server.agents import Agents, Found, new_session_id
from flameagent.server.asking import ask, begin_session
from flameagent.server.body import as_object, read_bytes
from flameagent.server.dialects.chat_completions.answer import Completion, waiting_text
from flameagent.server.dialects.chat_completions.chat import Chat, Held
from flameagent.server.dialects.chat_completions.request import Asked, read
from flameagent.server.errors import NotFoundError
from flameagent.server.identity import Identity, identity_of
from flameagent.server.once import Once

_OF_A_TASK = "Do what the message says, and answer with nothing else. Call no tools."

_MARK = "-task"
_IS_A_TASK = re.compile(rf"-[a-z2-7]{{24}}{_MARK}$")
_LEFT = 3_600_000  # milliseconds after which nobody is about to delete it any more

_ending: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly


def routes(agents: Agents) -> list[Route]:
    """The route."""

    async def create(request: Request) -> Response:
        body = await read_bytes(request)
        asked, identity = read(as_object(body), request.headers), identity_of(request)
        if asked.model not in await agents.names():
            raise NotFoundError("model", asked.model)
        once = Once.of(request, body)
        chat = Chat(agents, asked.model, identity, asked.chat) if asked.chat else None
        if asked.task or (chat and await chat.is_about(asked)):
            return await _about(agents, asked, identity)
        if chat is None:
            async with once.alone:
                if not (once.key or once.repeated):  # otherwise its turn may be there already
                    await agents.limiter.admit(identity.user)
                found = await begin_session(agents, once, asked.model, identity, asked.prompt, asked.history)
                last = asked.exchanges[-1]
                turn = await ask(agents, once, found, last.text, identity, attachments=last.attachments)
            return await _answer(asked, found.session_id, turn)
        async with replace(once, key=f"chat {asked.chat}").alone:
            placed = await chat.ask(asked, once)
        if isinstance(placed, Held):
            completion = Completion(asked, placed.found.session_id, placed.pending.turn_id)
            text = waiting_text(placed.found.session_id, placed.pending.calls)
            return _streamed(completion, completion.known(text)) if asked.stream else completion.text(text)
        return await _answer(asked, placed[0].session_id, placed[1])

    return [Route("/v1/chat/completions", create, methods=["POST"])]


async def delete_left(agents: Agents) -> None:
    """Delete what servers have left that were killed while they answered something about a chat."""

    def read() -> list[Session]:
        with translate_errors():
            return agents.connection.frontend.sessions()

    before = int(time.time() * 1000) - _LEFT
    with suppress(ClientError, NotFoundError):
        served = await agents.names()
        for each in await in_thread(read):
            if each.application in served and _IS_A_TASK.search(each.id) and each.created < before:
                client = await agents.client(each.application)
                with suppress(ClientError):
                    if not await client.owner(each.id):
                        await client.delete_session(each.id)


async def _answer(asked: Asked, session_id: str, turn: AsyncTurn) -> Response:
    completion = Completion(asked, session_id, turn.turn_id)
    return _streamed(completion, completion.chunks(turn)) if asked.stream else await completion.whole(turn)


def _streamed(completion: Completion, events: AsyncIterator[bytes]) -> Response:
    response = sse.stream(events)
    response.headers.update(completion.headers)
    return response


async def _about(agents: Agents, asked: Asked, identity: Identity) -> Response:
    """The answer to what a program wants to know about a chat: from a session of nobody, which is deleted then."""
    budget = await agents.limiter.admit(identity.user)
    client = await agents.client(asked.model)
    session_id = await client.begin_session(
        new_session_id(asked.model, _MARK), asked.prompt or _OF_A_TASK, asked.history, user=""
    )
    found = Found(session_id, asked.model, client, 0)
    last = asked.exchanges[-1]
    more: dict[str, Any] = {"user": identity.user, "attachments": last.attachments, "budget": budget}
    turn = client.prepare(last.text, session_id, listen=ignore, **more)
    try:
        await turn.send()
        completion = Completion(asked, session_id, turn.turn_id)
        text, usage = await completion.ended(turn)
        return _streamed(completion, completion.known(text, usage)) if asked.stream else completion.text(text, usage)
    finally:
        _delete(found, turn)


def _delete(found: Found, turn: AsyncTurn) -> None:
    """Delete the session when its turn has ended, whoever has gone meanwhile."""

    async def delete() -> None:
        with suppress(ClientError):
            await turn.reply()
        with suppress(ClientError):
            await found.client.delete_session(found.session_id)

    task = asyncio.ensure_future(delete())
    _ending.add(task)
    task.add_done_callback(_ending.discard)
