"""What tokens cost, by the table `prices` of the settings file, in whatever money its numbers are.

    [prices."gpt-5"]
    input = 1.25
    cached = 0.125
    output = 10

The numbers are for a million tokens. Without `cached`, tokens that a server had cached cost as much as others.
"""

from __future__ import annotations

from collections.abc import Mapping

from flameagent.client.environment import Environment
from flameagent.client.errors import UsageError
from flameagent.conversation import Price, Usage, read_prices
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
        try:
            return cls(read_prices(text))
        except ValueError as error:
            raise UsageError(f"{environ.source(variable)}{error}") from error

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
