"""What is left of a user's day is looked at before each call of a model, whichever way that is called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from agents import Model, ModelResponse
from agents.usage import Usage as Counted

from flameagent.apis import Question
from flameagent.conversation import BudgetReachedError, ConversationError, Usage
from flameagent.service.failures import failed_answer
from flameagent.service.models.call_ids import NamingModel
from flameagent.service.spending import Spending
from flameagent.service.turn import RunningTurn, running

TOKENS = {"tokens": 10, "of_tokens": 50}
MONEY = {"money": 1.0, "of_money": 2.5, "prices": {"dear": {"input": 1e6, "cached": 0.0, "output": 1e6}}}


class Counting:
    """A model each of whose answers costs 6 tokens, of which 2 were cached."""

    def __init__(self) -> None:
        self.calls = 0
        self._usage = Counted(input_tokens=4, output_tokens=2)
        self._usage.input_tokens_details.cached_tokens = 2

    async def get_response(self, *_: Any) -> ModelResponse:
        self.calls += 1
        return ModelResponse([], self._usage, None)

    async def stream_response(self, *_: Any) -> AsyncIterator[Any]:
        self.calls += 1
        yield SimpleNamespace(type="response.completed", response=SimpleNamespace(output=[], usage=self._usage))


@pytest.fixture
def turn() -> Iterator[Any]:
    session = SimpleNamespace(names_attachments=False, shows_all=True)
    fake = SimpleNamespace(session=session, staged=SimpleNamespace(resumed=None), call_ids=set(), spending=Spending())
    token = running.set(cast("RunningTurn", fake))
    yield fake
    running.reset(token)


def ask(model: Counting, *, streamed: bool) -> None:
    async def run() -> None:
        naming: Any = NamingModel(cast("Model", model))
        if not streamed:
            await naming.get_response(None, [])
            return
        async for _ in naming.stream_response(None, []):
            pass

    asyncio.run(run())


@pytest.mark.parametrize("streamed", [False, True])
def test_a_model_is_not_asked_where_the_tokens_are_used_up(turn: Any, streamed: bool) -> None:
    turn.spending, model = Spending.of(TOKENS, Usage(), ""), Counting()
    ask(model, streamed=streamed)
    ask(model, streamed=streamed)
    with pytest.raises(BudgetReachedError) as reached:
        ask(model, streamed=streamed)
    assert model.calls == 2
    answer = failed_answer(reached.value, Question("?"))
    assert (answer.error, answer.code) == ("You have used your 50 tokens of today (UTC).", "budget_reached")


def test_money_is_counted_by_the_price_of_the_turns_model(turn: Any) -> None:
    model = Counting()
    turn.spending = Spending.of(MONEY, Usage(), "cheap")
    ask(model, streamed=True)
    turn.spending.model = "dear"
    with pytest.raises(BudgetReachedError, match=r"your money of today \(UTC\), 2.5\."):
        ask(model, streamed=True)
    assert model.calls == 1


def test_what_a_turn_used_before_a_decision_counts() -> None:
    Spending.of(TOKENS, Usage(input_tokens=9), "").check()
    with pytest.raises(BudgetReachedError):
        Spending.of(TOKENS, Usage(input_tokens=8, output_tokens=2), "").check()


def test_without_a_budget_nothing_is_limited(turn: Any) -> None:
    for _ in range(3):
        ask(Counting(), streamed=False)
    Spending.of(None, Usage(input_tokens=10**12), "").check()


@pytest.mark.parametrize("given", [{"tokens": "many"}, {"money": 1, "prices": {"a": {}}}, [1]])
def test_what_is_no_budget_is_named(given: Any) -> None:
    with pytest.raises(ConversationError, match="budget cannot be read"):
        Spending.of(given, Usage(), "")
