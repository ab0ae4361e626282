"""JSON of records and bases, made and read fast.

Promises that text which JSON allows comes back as it was, halves of surrogate pairs included.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import msgspec

_DECODERS: dict[Any, Any] = {}
_MAKING = threading.Lock()


def encode(value: Any) -> bytes:
    """Compact JSON. Lone surrogates, which msgspec refuses and JSON allows, are kept as escapes."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value), separators=(",", ":")).encode()


def decode(data: bytes, kind: Any) -> Any:
    """JSON as the given type. Raises `ValueError`."""
    try:
        try:
            return _decoder(kind).decode(data)
        except (msgspec.ValidationError, UnicodeDecodeError):
            raise
        except msgspec.DecodeError:
            if b"\\ud" not in data.lower():
                raise
            return convert(json.loads(data), kind)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def convert(
    value: Any, kind: Any, *, strict: bool = True, dec_hook: Callable[[type[Any], Any], Any] | None = None
) -> Any:
    """Plain JSON types as the given type, as `msgspec.convert` does. Raises `ValueError`, `RecursionError`."""
    _decoder(kind)  # or several threads would look at its types for the first time at once
    return msgspec.convert(value, kind, strict=strict, dec_hook=dec_hook)  # noqa: TID251


def _decoder(kind: Any) -> Any:
    try:
        if (known := _DECODERS.get(kind)) is not None:
            return known
    except TypeError:  # one that has no hash
        with _MAKING:
            return msgspec.json.Decoder(kind)  # noqa: TID251
    # msgspec 0.22.0 crashes the process when several threads look at the same types for the first time.
    with _MAKING:
        if kind not in _DECODERS:
            _DECODERS[kind] = msgspec.json.Decoder(kind)  # noqa: TID251
        return _DECODERS[kind]


def plain_item(item: Any) -> Any:
    """An item of a conversation as plain JSON types; the SDK's own items may be pydantic objects."""
    return item.model_dump(exclude_unset=True) if hasattr(item, "model_dump") else item
