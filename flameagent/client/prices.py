"""What tokens cost, by the table `prices` of the settings file, in whatever money its numbers are.

    [prices."gpt-5"]
    input = 1.25
    cached = 0.125
    output = 10

The numbers are for a million tokens. Without `cached`, tokens that a server had cached cost as much as others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from flameagent.client.environment import Environment
from flameagent.client.errors import UsageError
from flameagent.conversation import Price, Usage
from flameagent.settings import NAMED


class Prices:
    """The price of each model by its name, as turns are recorded with it."""

    def __init__(self, prices: Mapping[str, Price]) -> None:
        self._prices = dict(prices)

    @classmethod
    def of(cls, environ: Environment) -> Prices:
        """As the settings have them; none where there is no table. Raises `UsageError`."""
        variable = NAMED["prices"].variable
        text = environ.get(variable, "").strip()
        source = environ.source(variable)
        try:
            table = json.loads(text) if text else {}
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{source} is no JSON object: {error}.") from error
        if not isinstance(table, dict):
            raise UsageError(f"{source} is no table of models.")
        return cls({model: _price(source, model, price) for model, price in table.items()})

    @property
    def table(self) -> Mapping[str, Price]:
        """The prices by name."""
        return self._prices

    def __bool__(self) -> bool:
        """True where there is any price."""
        return bool(self._prices)

    def cost(self, model: str, usage: Usage) -> float | None:
        """What that usage of a model costs; None where its price is not known."""
        price = self._prices.get(model)
        return None if price is None else price.cost(usage)


def _price(source: str, model: str, given: object) -> Price:
    if not isinstance(given, dict) or not {"input", "output"} <= set(given) <= {"input", "cached", "output"}:
        raise UsageError(f"{source}: the price of {model} has `input` and `output`, and maybe `cached`.")
    numbers: dict[str, float] = {}
    for name, value in given.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or value < 0:
            raise UsageError(f"{source}: {name} of {model} is a number, the price of a million tokens.")
        numbers[name] = float(value)
    return Price(numbers["input"], numbers.get("cached", numbers["input"]), numbers["output"])
