"""What the Agents SDK does with every item of a conversation in each turn, done in less time.

The SDK 0.24.0 copies all items four times a turn, dictionary by dictionary, and works out twice by which key each
could be a duplicate: more than half of what a turn with 1000 items takes. Promises the same results, but that a copy
of a tuple stays one; what is not plain JSON, or of another kind than most items, is left to the SDK.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from agents import run_state
from agents.run_internal import items
from agents.util import _json

_AS_IT_IS = (bytes, bytearray, memoryview)
_CALLS = ("function_call", "function_call_output")


def prepare() -> None:
    """Have the SDK take these ways, in the whole process. What it does not have (any more) is left alone."""
    for module, name in (_json, "_to_dump_compatible_internal"), (run_state, "_clone_original_input"):
        original = getattr(module, name, None)
        if original is not None and not isinstance(original, _Copy):
            setattr(module, name, _Copy(original))
    original = getattr(items, "_dedupe_key", None)
    if original is not None and not isinstance(original, _Key) and _Key.fits(original):
        items._dedupe_key = _Key(original)


class _Copy:
    """Copies what is plain JSON; anything else `slowly`."""

    def __init__(self, slowly: Callable[[Any], Any]) -> None:
        self._slowly = slowly

    def __call__(self, value: Any) -> Any:
        try:
            return msgspec.to_builtins(value, builtin_types=_AS_IT_IS)
        except (TypeError, ValueError, RecursionError):
            return self._slowly(value)


class _Key:
    """By which key a message, a call or its output is a duplicate of another; that of anything else `slowly`."""

    def __init__(self, slowly: Callable[[Any], str | None]) -> None:
        self._slowly = slowly

    @classmethod
    def fits(cls, original: Callable[[Any], str | None]) -> bool:
        """Whether the SDK names these three as we do."""
        seen: list[dict[str, Any]] = [{"role": "user"}, *({"type": kind, "call_id": "1"} for kind in _CALLS)]
        return list(map(original, seen)) == list(map(cls(original), seen))

    def __call__(self, item: Any) -> str | None:
        if type(item) is dict:
            if item.get("role") is not None:
                return None
            kind, call_id = item.get("type"), item.get("call_id")
            if kind in _CALLS and isinstance(call_id, str):
                return f"call_id:{kind}:{call_id}"
        return self._slowly(item)
