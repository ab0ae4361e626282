"""The agent as Flame's own example keeps it: the context is read whole, and after the turn written back whole.

A service of flamepy 0.6.0, as `examples/agents/openai` of Flame, with two changes without which it fails or stays
alone: the model's client is made in each task, because flamepy runs each in an event loop of its own, and tracing is
off.
"""

from __future__ import annotations

import json
from typing import Any

from agents import OpenAIChatCompletionsModel, RunConfig, Runner, set_tracing_disabled
from agents.memory import SessionABC
from flamepy import service
from openai import AsyncOpenAI

from agent import agent
from benchmarks.model import NAME
from flameagent.apis import Answer, MyContext, Question

instance = service.FlameInstance()


class _ContextSession(SessionABC):
    def __init__(self, context: MyContext) -> None:
        self.session_id = "context"
        self._items = [json.loads(message) for message in context.messages or []]

    async def get_items(self, limit: int | None = None) -> list[Any]:
        return self._items[-limit:] if limit else list(self._items)

    async def add_items(self, items: list[Any]) -> None:
        self._items.extend(items)

    async def pop_item(self) -> Any:
        return self._items.pop() if self._items else None

    async def clear_session(self) -> None:
        self._items.clear()

    def history(self) -> list[str]:
        return [json.dumps(item) for item in self._items]


@instance.entrypoint  # type: ignore[untyped-decorator]
async def ask(question: Question) -> Answer:
    """Answer a question."""
    context = instance.context()
    session = _ContextSession(context)
    config = RunConfig(model=OpenAIChatCompletionsModel(NAME, AsyncOpenAI()))
    result = await Runner.run(agent, question.question, session=session, run_config=config)
    context.messages = session.history()
    instance.update_context(context)
    return Answer(str(result.final_output))


if __name__ == "__main__":
    set_tracing_disabled(True)
    instance.run()
