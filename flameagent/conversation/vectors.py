"""Vectors of turns as they are recorded in what is remembered of a person."""

from __future__ import annotations

from collections.abc import Collection

import msgspec


class Vectors(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a model of embeddings made of turns, whose IDs are in `turns`.

    `data` has for each of them `dimensions` bytes, in their order: whole numbers from -127 to 127, the direction of
    the vector. All are zero where the model did not take the turn.
    """

    model: str = ""
    dimensions: int = 0
    turns: list[str] = []
    data: bytes = b""

    @property
    def fits(self) -> bool:
        """True where there is a vector for each turn, each named once, and nothing else."""
        size = len(set(self.turns)) * self.dimensions
        return self.dimensions > 0 and len(self.turns) * self.dimensions == size == len(self.data) > 0

    def of(self, turns: Collection[str]) -> Vectors:
        """Those of these turns only."""
        kept = [place for place, turn in enumerate(self.turns) if turn in turns]
        if len(kept) == len(self.turns):
            return self
        size = self.dimensions
        data = b"".join(self.data[place * size : (place + 1) * size] for place in kept)
        return Vectors(self.model, size, [self.turns[place] for place in kept], data)


NO_VECTORS = Vectors()
