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
from flameagent.conversation import BudgetReachedError, ConversationError, Spent, Usage
from flameagent.service.clock import Clock
from flameagent.service.failures import failed_answer
from flameagent.service.models.call_ids import NamingModel
from flameagent.service.spending import Limits, SettingError, Spending
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
    fake = SimpleNamespace(
        session=session, staged=SimpleNamespace(resumed=None), call_ids=set(), spending=Spending(), clock=Clock()
    )
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


PRICES = '{"dear": {"input": 1000000, "cached": 0, "output": 1000000}}'


def limited(used: Usage = Usage(), model: str = "", **variables: str) -> Spending:  # noqa: B008 - frozen
    named = {name if name.startswith("FLAME") else f"AGENT_{name}": value for name, value in variables.items()}
    return Spending.of(None, used, model, Limits.of(named))


@pytest.mark.parametrize("streamed", [False, True])
def test_a_turn_asks_no_model_once_its_tokens_are_used_up(turn: Any, streamed: bool) -> None:
    turn.spending, model = limited(TOKENS_A_TURN="12"), Counting()
    ask(model, streamed=streamed)
    ask(model, streamed=streamed)
    with pytest.raises(BudgetReachedError) as reached:
        ask(model, streamed=streamed)
    assert model.calls == 2
    answer = failed_answer(reached.value, Question("?"))
    assert answer.error == "This turn may use 12 tokens (AGENT_TOKENS_A_TURN), and has used 12."
    assert answer.code == "budget_reached"


def test_the_money_of_a_turn_is_counted_by_the_price_of_its_model() -> None:
    used = Usage(input_tokens=3, cached_tokens=1, output_tokens=1)
    limited(used, "cheap", MONEY_A_TURN="0.5", FLAME_AGENT_PRICES=PRICES).check()
    limited(used, "dear", MONEY_A_TURN="3.5", FLAME_AGENT_PRICES=PRICES).check()
    with pytest.raises(BudgetReachedError, match=r"may cost 3 \(AGENT_MONEY_A_TURN\), and has cost 3\."):
        limited(used, "dear", MONEY_A_TURN="3", FLAME_AGENT_PRICES=PRICES).check()


def test_a_model_without_a_price_is_said_not_to_count() -> None:
    said = limited(model="cheap", MONEY_A_TURN="3", MONEY_A_SESSION="9", FLAME_AGENT_PRICES=PRICES).unpriced()
    assert said == (
        "AGENT_MONEY_A_TURN and AGENT_MONEY_A_SESSION cannot count this turn: there is no price for cheap."
    )
    assert limited(model="dear", MONEY_A_TURN="3", FLAME_AGENT_PRICES=PRICES).unpriced() == ""
    assert limited(model="cheap", TOKENS_A_TURN="3").unpriced() == ""


def test_what_a_session_used_before_counts_for_it_by_the_model_of_each_turn() -> None:
    before = [
        Spent("1", 0, "", "dear", Usage(input_tokens=2)),
        Spent("2", 0, "", "cheap", Usage(input_tokens=5)),
        Spent("s", 0, "", "dear", Usage(output_tokens=1), "summary"),
    ]
    spending = limited(Usage(input_tokens=1), "dear", TOKENS_A_SESSION="11", TOKENS_A_TURN="2")
    spending.begin_behind(before)
    spending.check()
    spending.used += Usage(input_tokens=1)
    with pytest.raises(BudgetReachedError, match="This turn may use 2 tokens"):
        spending.check()
    spending.check(in_turn=False)
    spending.summaries += Usage(input_tokens=1)
    with pytest.raises(BudgetReachedError, match=r"This session may use 11 tokens .* has used 11\."):
        spending.check(in_turn=False)
    money = limited(Usage(input_tokens=1), "dear", MONEY_A_SESSION="4", FLAME_AGENT_PRICES=PRICES)
    money.begin_behind(before)
    with pytest.raises(BudgetReachedError, match=r"This session may cost 4 \(AGENT_MONEY_A_SESSION\)"):
        money.check()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"TOKENS_A_TURN": "many"}, "AGENT_TOKENS_A_TURN is a whole number of tokens above 0, not 'many'."),
        ({"TOKENS_A_SESSION": "0"}, "AGENT_TOKENS_A_SESSION is a whole number of tokens above 0, not '0'."),
        ({"TOKENS_A_TURN": "1e3"}, "AGENT_TOKENS_A_TURN is a whole number of tokens above 0, not '1e3'."),
        ({"MONEY_A_TURN": "nan", "FLAME_AGENT_PRICES": PRICES}, "AGENT_MONEY_A_TURN is a number above 0, not 'nan'."),
        ({"MONEY_A_SESSION": "-1"}, "AGENT_MONEY_A_SESSION is a number above 0, not '-1'."),
        (
            {"MONEY_A_TURN": "1"},
            "AGENT_MONEY_A_TURN is set, and the settings have no `prices` (FLAME_AGENT_PRICES).",
        ),
        ({"MONEY_A_TURN": "1", "FLAME_AGENT_PRICES": "[1]"}, "FLAME_AGENT_PRICES is no table of models."),
        (
            {"MONEY_A_TURN": "1", "FLAME_AGENT_PRICES": '{"a": {"input": 1}}'},
            "FLAME_AGENT_PRICES: the price of a has `input` and `output`, and maybe `cached`.",
        ),
    ],
)
def test_a_budget_that_makes_no_sense_is_named(variables: dict[str, str], said: str) -> None:
    with pytest.raises(SettingError) as wrong:
        limited(**variables)
    assert str(wrong.value) == said and wrong.value.code == "usage"


def test_a_name_that_a_node_has_not_expanded_is_not_set() -> None:
    assert limited(TOKENS_A_TURN="${AGENT_TOKENS_A_TURN}").limits == Limits()
