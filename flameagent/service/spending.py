"""What a turn has used of models, beside what may be used: of its user's day, of the turn, and of its session.

Promises that no model is asked once that is used up: it is looked at before each call, of nested runs and summaries,
too. What is asked at the same time may go beyond.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from flameagent.conversation import Budget, BudgetReachedError, ConversationError, Price, Spent, Usage, read_prices
from flameagent.conversation.codec import convert
from flameagent.model_choice import settings
from flameagent.service import metrics
from flameagent.settings import NAMED

_PRICES = NAMED["prices"].variable


class SettingError(ConversationError):
    """A budget in the settings makes no sense: mend it; nothing was added."""

    code = "usage"


class Limit(NamedTuple):
    """The most that a turn, or a session with all its turns, may use: tokens, or money. A `variable` sets it."""

    variable: str
    most: float
    of_session: bool
    is_money: bool

    def reached(self, used: float) -> str:
        """Why no more may be used, in a sentence; "" where more may be."""
        if used < self.most:
            return ""
        what = "session" if self.of_session else "turn"
        if self.is_money:
            return f"This {what} may cost {self.most:g} ({self.variable}), and has cost {used:.4g}."
        return f"This {what} may use {self.most:.0f} tokens ({self.variable}), and has used {used:.0f}."


class Limits(NamedTuple):
    """All limits of the settings, and the `prices` of models, where one of them is of money."""

    limits: tuple[Limit, ...] = ()
    prices: Mapping[str, Price] = {}

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Limits:
        """As the variables have them. Raises `SettingError`."""
        found = [limit for name in ("turn", "session") for limit in _limits(environ, name)]
        if not any(limit.is_money for limit in found):
            return cls(tuple(found))
        text = environ.get(_PRICES, "")
        try:
            prices = _read_prices(text)
        except ValueError as error:
            raise SettingError(f"{_PRICES}{error}") from error
        if not prices:
            money = next(limit.variable for limit in found if limit.is_money)
            raise SettingError(f"{money} is set, and the settings have no `prices` ({_PRICES}).")
        return cls(tuple(found), prices)

    @property
    def of_session(self) -> bool:
        """True where one of them is of the session."""
        return any(limit.of_session for limit in self.limits)

    def cost(self, usage: Usage, model: str) -> float:
        """What that costs; nothing where the model has no price."""
        price = self.prices.get(model)
        return price.cost(usage) if price else 0.0


_NONE = Limits()


class Sum(NamedTuple):
    """Tokens, and what they cost."""

    tokens: int = 0
    money: float = 0.0


@dataclass
class Spending:
    """What one turn has `used`, under the name of its `model`, by which it is recorded and priced.

    Beside the `budget` of its user's day it has the `limits` of the settings; `before` is what its session had used
    before it, where one of them is of the session, and `summaries` what was used for those that were made since it
    began. `resumed` is what of `used` it had used before a human's decision.
    """

    budget: Budget = field(default_factory=Budget)
    used: Usage = field(default_factory=Usage)
    model: str = ""
    limits: Limits = _NONE
    before: Sum = field(default_factory=Sum)
    summaries: Usage = field(default_factory=Usage)
    resumed: Usage = field(default_factory=Usage)

    @classmethod
    def of(cls, budget: dict[str, Any] | None, used: Usage, model: str, limits: Limits = _NONE) -> Spending:
        """Of a turn that has used something before a human's decision. Raises `ConversationError` for no budget."""
        try:
            return cls(convert(budget or {}, Budget), used, model, limits, resumed=used)
        except msgspec.ValidationError as error:
            raise ConversationError(f"The question's budget cannot be read: {error}. Nothing was added.") from error

    def begin_behind(self, spent: Iterable[Spent]) -> None:
        """Count what the session had used before."""
        several = list(spent)
        self.before = Sum(
            sum(_tokens(each.usage) for each in several),
            sum(self.limits.cost(each.usage, each.model) for each in several),
        )

    def check(self, *, in_turn: bool = True) -> None:
        """Raise `BudgetReachedError` where no more may be used; not `in_turn`, where that is no part of the turn."""
        used = self.used + self.summaries
        if said := self.budget.reached(used, self.model):
            raise BudgetReachedError(said)
        for limit in self.limits.limits:
            if limit.of_session:
                now = Sum(self.before.tokens + _tokens(used), self.before.money + self.limits.cost(used, self.model))
            elif in_turn:
                now = Sum(_tokens(self.used), self.limits.cost(self.used, self.model))
            else:
                continue
            if said := limit.reached(now.money if limit.is_money else now.tokens):
                raise BudgetReachedError(said)

    def unpriced(self) -> str:
        """The sentence for whoever asked where a budget of money does not see what the model costs; or ""."""
        variables = [limit.variable for limit in self.limits.limits if limit.is_money]
        if not variables or self.model in self.limits.prices:
            return ""
        return f"{' and '.join(variables)} cannot count this turn: there is no price for {self.model}."

    def count(self, usage: Any, model: str = "") -> None:
        """Count what a response says of its usage, if it does: the Agents SDK's, or that of a Responses event.

        `model` is its name where the turn has none.
        """
        if usage is None:
            return
        cached = getattr(getattr(usage, "input_tokens_details", None), "cached_tokens", 0)
        self.used += Usage(
            requests=1,
            input_tokens=usage.input_tokens or 0,
            cached_tokens=cached or 0,
            output_tokens=usage.output_tokens or 0,
        )
        metrics.used(self.model or model, usage.input_tokens or 0, cached or 0, usage.output_tokens or 0)


def _limits(environ: Mapping[str, str], of: str) -> Iterable[Limit]:
    for kind in ("tokens", "money"):
        setting = NAMED[f"{kind}_a_{of}"]
        # As for all that a node hands on, a name that was not expanded is not set.
        text = settings({setting.variable: environ.get(setting.variable, "")}).get(setting.variable, "").strip()
        if text and (complaint := setting.complaint(text)):
            raise SettingError(f"{setting.variable} {complaint}.")
        if text:
            yield Limit(setting.variable, float(text), of == "session", kind == "money")


@lru_cache(1)
def _read_prices(text: str) -> dict[str, Price]:
    return read_prices(text)


def _tokens(usage: Usage) -> int:
    return usage.input_tokens + usage.output_tokens
