"""What tests of turns share: a conversation in a real cache, and an agent behind a scripted model."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

from flameagent.apis import Answer, MyContext, Question
from flameagent.conversation import Conversation, ConversationLog, context
from flameagent.flame.cache import ObjectCache
from flameagent.memory import place
from flameagent.memory.person import PersonMemory
from flamewire.object_ref import ObjectRef
from localflame import Engine
from tests.support.model_server import ModelServer
from tests.support.shim import Shim

AGENT = """
from agents import Agent, function_tool
from flameagent.apis import Answer, Question
from flameagent.service import FlameInstance, memory

@function_tool
def double(number: int) -> int:
    "Double a number."
    print("doubling", number)
    return number * 2

agent = Agent(name="tester", instructions="the agent's own instructions", tools=[double, *memory.tools()])
instance = FlameInstance()

@instance.entrypoint
async def ask(question: Question) -> Answer:
    return await instance.answer(agent, question)
"""


class Talk:
    """A session's object in the cache, and the conversation in it as a reader sees it; `user` is whose it is."""

    def __init__(
        self,
        cache: ObjectCache,
        prompt: str = "",
        messages: list[str] | None = None,
        user: str = "",
        tools: list[str] | None = None,
        model: str = "",
    ) -> None:
        self.id = f"talk-{uuid.uuid4().hex[:8]}"
        self.cache = cache
        self.ref: ObjectRef = cache.put(
            f"app/{self.id}", context.write(MyContext(prompt, messages, user, tools, model))
        )

    def log(self) -> ConversationLog:
        log = ConversationLog(self.cache, self.ref.key)
        log.load(0)
        return log

    @property
    def conversation(self) -> Conversation:
        return self.log().conversation

    def turns(self) -> list[tuple[str, str]]:
        return [(turn.question, turn.answer["answer"]) for turn, _ in self.conversation.turns()]

    def items(self) -> list[dict[str, object]]:
        return self.conversation.items()

    def kinds(self) -> list[str]:
        """The conversation's items in short: `user`, `remember(…)`, the output of a call, or what was said."""
        short = []
        for item in self.items():
            match item.get("type"):
                case "function_call":
                    short.append(
                        f"{item['name']}({', '.join(map(str, json.loads(str(item['arguments'])).values()))})"
                    )
                case "function_call_output":
                    short.append(f"= {item['output']}")
                case _:
                    short.append(str(item.get("role")))
        return short


class Person:
    """A user with a memory of their own, in sessions of one instance."""

    def __init__(self, shim: Shim, cache: ObjectCache) -> None:
        self.name = f"user-{uuid.uuid4().hex[:8]}"
        self._shim = shim
        self._cache = cache
        self.key = cache.put(place.prefix("app", self.name), context.write(MyContext(user=self.name))).key

    @property
    def memory(self) -> PersonMemory:
        """What is remembered, as another reader has it."""
        return PersonMemory(self._cache, self.key)

    def talk(self) -> Talk:
        """A new session of theirs."""
        return Talk(self._cache, user=self.name)

    def ask(self, talk: Talk, question: str, turn_id: str = "", **more: Any) -> Answer:
        """Ask in a session, as the client does."""
        asked = Question(question, turn_id or uuid.uuid4().hex, user=self.name, memory=self.key, **more)
        answer: Answer = self._shim.enter(talk.id, talk.ref.encode()).invoke(asked)
        assert not answer.error, answer.error
        return answer


def environment(engine: Engine, model: ModelServer) -> dict[str, str]:
    return {
        "FLAME_ENDPOINT": engine.endpoint,
        "FLAME_CACHE_ENDPOINT": engine.cache_endpoint,
        "OPENAI_BASE_URL": model.url,
        "AGENT_MODEL": "scripted",
    }


def fresh(folder: Path, source: str, engine: Engine, model: ModelServer, **more: str) -> Shim:
    (folder / "agent.py").write_text(source)
    return Shim(folder, **(environment(engine, model) | more))
