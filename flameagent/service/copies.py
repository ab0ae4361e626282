"""Copies of a conversation, made in C.

The Agents SDK 0.24.0 copies all items of a conversation four times a turn, dictionary by dictionary: half of what a
turn with 1000 items takes. Promises the same copies, but that a tuple stays one; what is not plain JSON is left to
the SDK.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from agents import run_state
from agents.util import _json

_AS_IT_IS = (bytes, bytearray, memoryview)


def prepare() -> None:
    """Have the SDK make its copies this way, in the whole process. What it does not have (any more) is left alone."""
    for module, name in (_json, "_to_dump_compatible_internal"), (run_state, "_clone_original_input"):
        original = getattr(module, name, None)
        if original is not None and not isinstance(original, _Copy):
            setattr(module, name, _Copy(original))


class _Copy:
    """Copies what is plain JSON; anything else `slowly`."""

    def __init__(self, slowly: Callable[[Any], Any]) -> None:
        self._slowly = slowly

    def __call__(self, value: Any) -> Any:
        try:
            return msgspec.to_builtins(value, builtin_types=_AS_IT_IS)
        except (TypeError, ValueError, RecursionError):
            return self._slowly(value)
