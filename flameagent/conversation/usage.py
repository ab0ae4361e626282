"""What turns used of a model, as records keep it."""

from __future__ import annotations

import msgspec


class Usage(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Requests that were made of a model, and their tokens.

    `cached_tokens` and `cache_write_tokens` are among the `input_tokens`, `reasoning_tokens` among the
    `output_tokens`.
    """

    requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    @classmethod
    def of(cls, counts: dict[str, int]) -> Usage:
        """The usage of an Answer, as far as it is known here."""
        return cls(**{name: count for name, count in counts.items() if name in cls.__struct_fields__})

    def __add__(self, other: Usage) -> Usage:
        if other == _NOTHING:  # as all turns in a person's memory have it
            return self
        mine, theirs = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return Usage(*(a + b for a, b in zip(mine, theirs, strict=True)))

    def __sub__(self, other: Usage) -> Usage:
        """The rest; never less than nothing."""
        mine, theirs = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return Usage(*(max(a - b, 0) for a, b in zip(mine, theirs, strict=True)))


_NOTHING = Usage()
