"""The Conversations dialect: `client.conversations` of OpenAI's clients.

A conversation is a session, and has its ID.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flameagent.client.async_client import in_thread
from flameagent.conversation import Conversation
from flameagent.server.agents import Agents, Found
from flameagent.server.asking import begin_session
from flameagent.server.body import as_object, read_bytes
from flameagent.server.dialects.responses import history
from flameagent.server.dialects.responses import input as inputs
from flameagent.server.dialects.responses.reading import whole
from flameagent.server.dialects.responses.request import check_metadata
from flameagent.server.errors import NotFoundError, RequestError
from flameagent.server.identity import identity_of
from flameagent.server.once import Once
from flameagent.server.operations import fitting
from flameagent.server.paging import Page

_MOST = 20
"""Items that OpenAI takes in one request."""


class NewConversation(msgspec.Struct, forbid_unknown_fields=True):
    """A conversation that begins. `model` is its agent, where there are several: OpenAI's have none."""

    items: list[dict[str, Any]] | None = None
    metadata: dict[str, str] | None = None
    model: str | None = None


class Changed(msgspec.Struct, forbid_unknown_fields=True):
    """Other metadata, in place of those that there are."""

    metadata: dict[str, str] | None


class NewItems(msgspec.Struct, forbid_unknown_fields=True):
    """Items that are added."""

    items: list[dict[str, Any]]


def routes(agents: Agents) -> list[Route]:
    """The routes."""
    conversations = Conversations(agents)
    one = "/v1/conversations/{conversation_id}"
    return [
        Route("/v1/conversations", conversations.create, methods=["POST"]),
        Route(one, conversations.retrieve, methods=["GET"]),
        Route(one, conversations.update, methods=["POST"]),
        Route(one, conversations.delete, methods=["DELETE"]),
        Route(f"{one}/items", conversations.list_items, methods=["GET"]),
        Route(f"{one}/items", conversations.create_items, methods=["POST"]),
        Route(f"{one}/items/{{item_id:path}}", conversations.retrieve_item, methods=["GET"]),
        Route(f"{one}/items/{{item_id:path}}", conversations.delete_item, methods=["DELETE"]),
    ]


class Conversations:
    """The endpoints. Each raises `RequestError` and `ClientError`."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def create(self, request: Request) -> Response:
        """A new conversation, which begins with items."""
        data = await read_bytes(request)
        asked, items = await in_thread(lambda: _read_new(data))
        once, identity = Once.of(request, data), identity_of(request)
        agent = asked.model or await self._only_agent()
        async with once.alone:
            found = await begin_session(self._agents, once, agent, identity, "", items, metadata=asked.metadata)
        return JSONResponse(_shape(found, asked.metadata or {}))

    async def retrieve(self, request: Request) -> Response:
        """A conversation."""
        found = await self._find(request)
        return JSONResponse(_shape(found, (await self._newest(found)).metadata))

    async def update(self, request: Request) -> Response:
        """Give it other metadata."""
        asked: Changed = fitting(as_object(await read_bytes(request)), Changed, strict=True)
        check_metadata(asked.metadata)
        found = await self._find(request)
        await found.client.set_metadata(found.session_id, asked.metadata or {})
        return JSONResponse(_shape(found, asked.metadata or {}))

    async def delete(self, request: Request) -> Response:
        """Delete it with all that it holds, for good."""
        found = await self._find(request)
        await found.client.delete_session(found.session_id)
        return JSONResponse({"id": found.session_id, "object": "conversation.deleted", "deleted": True})

    async def list_items(self, request: Request) -> Response:
        """Its items, the newest first unless it is asked otherwise."""
        page = Page.of(request)
        found = await self._find(request)
        return JSONResponse(page.of_items(await self._items(found, request)))

    async def create_items(self, request: Request) -> Response:
        """Add items, which are not answered."""
        data = await read_bytes(request)
        items = await in_thread(lambda: _read_items(data))
        found, once = await self._find(request), Once.of(request, data)
        async with once.alone:
            edit_id = await self._edit_id(once, found)
            block = await found.client.add_items(found.session_id, items, edit_id=edit_id)
        return JSONResponse(Page(limit=len(items), descending=False).of_items(history.added(block)))

    async def retrieve_item(self, request: Request) -> Response:
        """One of its items."""
        found = await self._find(request)
        return JSONResponse(await self._item(found, request))

    async def delete_item(self, request: Request) -> Response:
        """Nothing is deleted out of the middle: say so."""
        found = await self._find(request)
        await self._item(found, request)
        raise RequestError(
            400,
            "An item cannot be deleted alone, since what came after it builds on it. Delete the last response, or "
            "the conversation.",
            code="unsupported",
        )

    async def _find(self, request: Request) -> Found:
        named = request.path_params["conversation_id"]
        try:
            return await self._agents.find(named, identity_of(request).user)
        except NotFoundError:
            raise NotFoundError("conversation", named) from None

    async def _only_agent(self) -> str:
        names = await self._agents.names()
        if len(names) == 1:
            return names[0]
        raise RequestError(
            400,
            f"Name the agent in the field model (extra_body): one of {', '.join(names[:20])}.",
            code="missing_required_parameter",
            param="model",
        )

    async def _newest(self, found: Found) -> Conversation:
        return await found.client.conversation(found.session_id)

    async def _items(self, found: Found, request: Request) -> list[dict[str, Any]]:
        conversation = await whole(found)
        return history.items(conversation, found.agent, await history.images(found, conversation, request))

    async def _item(self, found: Found, request: Request) -> dict[str, Any]:
        wanted = request.path_params["item_id"]
        for item in await self._items(found, request):
            if item["id"] == wanted:
                return item
        raise NotFoundError("item", wanted)

    async def _edit_id(self, once: Once, found: Found) -> str:
        """The ID of the edit that a request makes, of the one that it has made, if it has."""
        records = (await self._newest(found)).newest_records
        return once.edit_id(found.session_id, records)


def _read_new(data: bytes) -> tuple[NewConversation, list[dict[str, Any]]]:
    asked: NewConversation = fitting(as_object(data), NewConversation, strict=True)
    check_metadata(asked.metadata)
    return asked, inputs.items(_few(asked.items or []))


def _read_items(data: bytes) -> list[dict[str, Any]]:
    asked: NewItems = fitting(as_object(data), NewItems, strict=True)
    items = inputs.items(_few(asked.items))
    if not items:
        raise RequestError(400, "There is no item to add.", code="invalid_value", param="items")
    return items


def _few(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(items) > _MOST:
        raise RequestError(400, f"There are at most {_MOST} items in a request.", code="invalid_value", param="items")
    return items


def _shape(found: Found, metadata: dict[str, str]) -> dict[str, Any]:
    return {
        "id": found.session_id,
        "object": "conversation",
        "created_at": found.created // 1000,
        "metadata": metadata,
    }
