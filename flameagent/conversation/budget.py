"""What a user may still use of models today, and what tokens cost.

A server says it with each question, and the service looks at it before each call of a model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import msgspec

from flameagent.conversation.usage import Usage

TODAY = "of today (UTC)"
"""Words of a sentence about a budget that is there again tomorrow."""
_MILLION = 1_000_000


class Price(msgspec.Struct, frozen=True):
    """The price of a million tokens; `cached` are those that a server had cached."""

    input: float
    cached: float
    output: float

    def cost(self, usage: Usage) -> float:
        """What that usage costs."""
        cached = min(usage.cached_tokens, usage.input_tokens)
        asked = (usage.input_tokens - cached) * self.input + cached * self.cached
        return (asked + usage.output_tokens * self.output) / _MILLION


class Budget(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is left of a day's `tokens` and `money`; None: as much as they like.

    `of_tokens` and `of_money` are what the day had. A model without a price costs nothing.
    """

    tokens: int | None = None
    of_tokens: int = 0
    money: float | None = None
    of_money: float = 0.0
    prices: Mapping[str, Price] = {}

    def reached(self, usage: Usage, model: str = "") -> str:
        """Why no more may be used after this usage of a model, in a sentence; "" where more may be."""
        if self.tokens is not None and usage.input_tokens + usage.output_tokens >= self.tokens:
            return f"You have used your {self.of_tokens} tokens {TODAY}."
        price = self.prices.get(model)
        if self.money is not None and (price.cost(usage) if price else 0.0) >= self.money:
            return f"You have used your money {TODAY}, {self.of_money:g}."
        return ""


def read_prices(text: str) -> dict[str, Price]:
    """The table `prices` of the settings as JSON: the price of each model by its name.

    Raises `ValueError`, which says what is wrong as a sentence goes on behind the name of who set it.
    """
    try:
        table = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise ValueError(f" is no JSON object: {error}.") from error
    if not isinstance(table, dict):
        raise ValueError(" is no table of models.")
    return {model: _price(model, price) for model, price in table.items()}


def _price(model: str, given: object) -> Price:
    if not isinstance(given, dict) or not {"input", "output"} <= set(given) <= {"input", "cached", "output"}:
        raise ValueError(f": the price of {model} has `input` and `output`, and maybe `cached`.")
    numbers: dict[str, float] = {}
    for name, value in given.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or value < 0:
            raise ValueError(f": {name} of {model} is a number, the price of a million tokens.")
        numbers[name] = float(value)
    return Price(numbers["input"], numbers.get("cached", numbers["input"]), numbers["output"])
