"""`FlameSession` in a Flame instance that says what it likes: `Runner.run`, and no Question or Answer."""

from __future__ import annotations

from pathlib import Path

from localflame import Engine
from tests.integration.service.talk import Talk, fresh
from tests.support.model_server import ModelServer

SHOUTS = """
from agents import Agent, Runner
from agents.models.openai_chatcompletions import OpenAIChatCompletionsModel
from openai import AsyncOpenAI
from flameagent.service import FlameInstance

agent = Agent(name="a", instructions="be loud", model=OpenAIChatCompletionsModel("m", AsyncOpenAI(api_key="none")))
instance = FlameInstance()

@instance.entrypoint
async def shout(text: str) -> str:
    result = await Runner.run(agent, text.upper(), session=instance.session)
    return result.final_output
"""


def test_a_service_of_another_kind_keeps_its_conversation_too(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk
) -> None:
    with fresh(tmp_path, SHOUTS, engine, model) as shim:
        shim.enter(talk.id, talk.ref.encode())
        assert shim.invoke("hello", "1") == "answer 1: HELLO"
    with fresh(tmp_path, SHOUTS, engine, model) as shim:
        shim.enter(talk.id, talk.ref.encode())
        assert shim.invoke("again", "2") == "answer 2: AGAIN"
    assert [item["role"] for item in talk.items()] == ["user", "assistant"] * 2
