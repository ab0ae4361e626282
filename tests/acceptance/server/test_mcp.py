"""MCP over HTTP, driven by MCP's own client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.acceptance.program import Program
from tests.acceptance.server.conftest import Served, serving
from tests.support.model_server import Call, ModelServer, Step


@asynccontextmanager
async def connected(served: Served, token: str) -> AsyncIterator[Client]:
    headers = {"authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=100) as http:
        transport = streamable_http_client(f"{served.url}/mcp", http_client=http)
        async with Client(transport) as client:
            yield client


async def called(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert isinstance(result.structured_content, dict)
    return result.structured_content


async def test_an_agent_is_asked_and_goes_on(served: Served, ada: str) -> None:
    async with connected(served, ada) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"ask", "history", "sessions", "decide"}
        assert "ctx" not in str(tools["ask"].input_schema)
        first = await called(client, "ask", question="Who are you?")
        assert first["status"] == "answered" and first["turn"] == 1
        again = await called(client, "ask", question="And through MCP?", session_id=first["session_id"])
        assert (again["session_id"], again["turn"]) == (first["session_id"], 2)
        history = await called(client, "history", session_id=first["session_id"])
        assert [turn["question"] for turn in history["turns"]] == ["Who are you?", "And through MCP?"]
        listed = await called(client, "sessions", search="and through mcp")
        assert [each["session_id"] for each in listed["sessions"]] == [first["session_id"]]


async def test_a_turn_with_an_id_is_asked_once(served: Served, ada: str, model: ModelServer) -> None:
    async with connected(served, ada) as client:
        begun = await called(client, "ask", question="Begin")
        before = len(model.bodies)
        same = [
            await called(client, "ask", question="Once?", session_id=begun["session_id"], turn_id="t1") for _ in "ab"
        ]
        assert same[0] == same[1] and len(model.bodies) == before + 1


async def test_a_call_waits_and_another_server_is_told_the_decision(
    served: Served, ada: str, embedded: Program, model: ModelServer
) -> None:
    async with connected(served, ada) as client:
        model.steps += [Step(calls=(Call("forget", '{"key": "tea"}'),))]
        waiting = await called(client, "ask", question="Forget the tea")
        assert waiting["status"] == "awaiting_approval"
        busy = await called(client, "ask", question="And?", session_id=waiting["session_id"])
        assert busy["status"] == "awaiting_approval" and busy["pending"] == waiting["pending"]
    with serving(embedded) as another:
        async with connected(another, ada) as client:
            call = waiting["pending"][0]["id"]
            decided = await called(client, "decide", session_id=waiting["session_id"], reject=[call], reason="No.")
            assert decided["status"] == "answered"


async def test_progress_is_told(served: Served, ada: str, model: ModelServer) -> None:
    told: list[str | None] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        told.append(message)

    async with connected(served, ada) as client:
        model.steps += [Step(calls=(Call("recall", '{"key": "city"}'),)), Step("Lisbon")]
        await client.call_tool("ask", {"question": "My city?"}, progress_callback=on_progress)
    assert "calling recall" in told


async def test_what_is_anothers_or_wrong_is_a_sentence(served: Served, ada: str, bob: str) -> None:
    async with connected(served, ada) as client:
        session = (await called(client, "ask", question="Mine"))["session_id"]
    async with connected(served, bob) as client:
        for tool, more in (("ask", {"question": "x"}), ("history", {}), ("decide", {})):
            result = await client.call_tool(tool, {"session_id": session, **more})
            assert result.is_error and f'There is no session "{session}".' in str(result.content)
        assert session not in str(await called(client, "sessions"))
        nobody = await client.call_tool("ask", {"question": "x", "agent": "nobody"})
        assert nobody.is_error and 'There is no agent "nobody".' in str(nobody.content)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_without_a_token_nobody_comes_in(served: Served, method: str) -> None:
    with served.http("") as http:
        assert http.request(method, "/mcp").status_code == 401
