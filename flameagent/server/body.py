"""The body of a request, read as JSON, within bounds.

Promises that nobody can fill the memory with one: what is too long or too deep is refused while it comes.
"""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

from starlette.requests import Request

from flameagent.server.errors import RequestError
from flameagent.text import all_well_formed

LIMIT = 100 * 1024 * 1024
"""Bytes of a body: the attachments of a question, in base64, with their question."""
_SLOWEST = 60.0  # seconds for a body to come
_DEEPEST = 100
_MOST = 1_000_000  # commas, those in texts too


async def read_object(request: Request, limit: int = LIMIT) -> dict[str, Any]:
    """The JSON object of a request's body; an empty one where there is no body. Raises `RequestError`."""
    return as_object(await read_bytes(request, limit))


def as_object(data: bytes) -> dict[str, Any]:
    """The JSON object of a body; an empty one of an empty body. Raises `RequestError`."""
    if not data.strip():
        return {}
    if data.count(b",") > _MOST:  # an empty list takes three bytes here, and seventy when it is read
        raise RequestError(413, "The body has too many values.", code="body_too_long")
    try:
        value = json.loads(data, parse_constant=_no_number, parse_float=_number)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "The body is not JSON.", code="invalid_json") from error
    if not isinstance(value, dict):
        raise RequestError(400, "The body is not a JSON object.", code="invalid_json")
    if _deeper(value, _DEEPEST):
        raise RequestError(400, "The body has too many levels.", code="invalid_json")
    return dict(all_well_formed(value))


async def read_bytes(request: Request, limit: int = LIMIT) -> bytes:
    """A request's body. Raises `RequestError` for one that is too long or does not come."""
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > limit:
        raise _too_long(limit)
    parts, size = [], 0
    try:
        async with asyncio.timeout(_SLOWEST):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise _too_long(limit)
                parts.append(part)
    except TimeoutError:
        raise RequestError(408, "The body did not come in time.", code="slow_body") from None
    return b"".join(parts)


def _number(text: str) -> float:
    """Not infinite: nobody could be told of it in JSON again."""
    if not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


def _no_number(text: str) -> float:
    raise ValueError(text)  # NaN and Infinity, which Python reads, and JSON has not


def _too_long(limit: int) -> RequestError:
    return RequestError(413, f"The body is longer than {limit // 1024 // 1024} MB.", code="body_too_long")


def _deeper(value: Any, levels: int) -> bool:
    """Whether a JSON value has more levels than that."""
    level = [value]
    for _ in range(levels):
        level = [
            each
            for one in level
            if isinstance(one, dict | list)
            for each in (one.values() if isinstance(one, dict) else one)
            if isinstance(each, dict | list)
        ]
        if not level:
            return False
    return True
