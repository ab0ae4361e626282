"""What is sent to a model's server: JSON for JSON what the openai client alone would have sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from agents import Agent, Model, ModelSettings, Runner, function_tool
from agents.models.openai_chatcompletions import OpenAIChatCompletionsModel

from flameagent.service.models.build import build
from flameagent.service.models.responses import ResponsesModel
from tests.integration.service.test_model_answers import choice_of
from tests.support.model_server import ModelServer

FAKE = "__fake_id__"
PIXEL = "data:image/png;base64,iVBORw0KGgo="

ITEMS: dict[str, list[dict[str, Any]]] = {
    "text": [{"role": "user", "content": "¿qué? \u2028 <b>"}, {"role": "assistant", "content": "sí"}],
    "system": [{"role": "system", "content": "be kind"}, {"role": "developer", "content": "be brief"}],
    "parts": [{"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": ""}]}],
    "image": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "what is it?"},
                {"type": "input_image", "image_url": PIXEL, "detail": "low"},
                {"type": "input_image", "image_url": PIXEL},
            ],
        }
    ],
    "answer": [
        {
            "id": FAKE,
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "provider_data": {"model": "m", "response_id": "chatcmpl-1"},
            "content": [{"type": "output_text", "text": "hello", "annotations": [], "logprobs": []}],
        }
    ],
    "calls": [
        {"type": "function_call", "id": FAKE, "call_id": "c1", "name": "add", "arguments": '{"a": 1, "b": 2}'},
        {
            "type": "function_call",
            "call_id": "c2",
            "name": "add",
            "arguments": '{"a": 3}',
            "provider_data": {"x": None},
        },
        {"type": "function_call_output", "call_id": "c1", "output": "3"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "no"}]},
    ],
    "reasoning": [
        {
            "id": FAKE,
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "they greet"}],
            "content": [{"type": "reasoning_text", "text": "they greet me"}],
            "provider_data": {"model": "deepseek-reasoner", "response_id": "r"},
        },
        {"role": "assistant", "content": "hello"},
    ],
}


@function_tool
def sum_up(a: int, b: list[int], note: str | None = None) -> int:
    """Add numbers.

    Args:
        a: The first.
        b: The others.
    """
    return a + sum(b)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


async def ask(model: Model, items: list[Any], stream: bool, **options: Any) -> None:
    agent = Agent(name="a", instructions="be brief", model=model, tools=[sum_up], **options)
    if not stream:
        await Runner.run(agent, items)
        return
    async for _ in Runner.run_streamed(agent, items).stream_events():
        pass


def models(server: ModelServer, api: str = "chat") -> tuple[Model, Model]:
    """The SDK's own model with openai's own client, and ours; on the Responses API ours with either client."""
    choice = choice_of(server.url, api=api)
    client = openai.AsyncOpenAI(base_url=server.url, api_key=choice.api_key)
    if api == "chat":
        return OpenAIChatCompletionsModel(choice.name, client), build(choice)
    plain = ResponsesModel(choice)
    plain._client = client
    return plain, build(choice)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("kind", [*ITEMS, "all of them"])
@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_what_is_sent_is_what_the_sdk_sends(server: ModelServer, api: str, kind: str, stream: bool) -> None:
    items = ITEMS.get(kind) or [item for items in ITEMS.values() for item in items]
    for model in models(server, api):
        await ask(
            model,
            [*items, {"role": "user", "content": "go on"}],
            stream,
            model_settings=ModelSettings(
                include_usage=True if api == "chat" else None,
                temperature=0.5,
                tool_choice="auto",
                parallel_tool_calls=False,
                metadata={"a": "b"},
                extra_body={"top_k": 3},
                extra_args={"seed": 7} if api == "chat" else {"user": "u"},
            ),
        )
    theirs, ours = server.bodies
    assert ours == theirs
    assert ours["top_k"] == 3
    assert ours["messages" if api == "chat" else "input"][-1] == {"role": "user", "content": "go on"}
    assert "sum_up" in json.dumps(ours["tools"])


async def test_an_agents_extra_body_wins(server: ModelServer) -> None:
    mine = [{"role": "user", "content": "mine"}]
    for model in models(server):
        await ask(
            model,
            [{"role": "user", "content": "yours"}],
            stream=False,
            model_settings=ModelSettings(include_usage=True, extra_body={"messages": mine}),
        )
    theirs, ours = server.bodies
    assert ours == theirs
    assert ours["messages"] == mine


async def test_the_messages_do_not_pass_through_the_clients_walk(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes nine tenths of a long turn; a new version of openai may move it."""
    from openai.resources.chat.completions import completions

    walked: list[Any] = []
    walk = completions.async_maybe_transform

    async def watched(data: Any, expected_type: object) -> Any:
        walked.append(data)
        return await walk(data, expected_type)

    monkeypatch.setattr(completions, "async_maybe_transform", watched)
    for model in models(server):
        await ask(model, [{"role": "user", "content": "hi"}], stream=False)
    theirs, ours = walked
    assert isinstance(theirs["messages"], list)
    assert isinstance(theirs["tools"], list)
    assert isinstance(ours["messages"], openai.Omit)
    assert isinstance(ours["tools"], openai.Omit)
