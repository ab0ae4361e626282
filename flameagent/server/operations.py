"""Routes that are declared: what each takes and gives, from which its checks and its documentation are made.

A body is a `msgspec.Struct`, and so are the parameters of a query. What does not fit is refused with a sentence and
the field it is about, before anything is done.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flameagent.conversation.codec import convert
from flameagent.server.body import as_object, read_bytes
from flameagent.server.errors import RequestError


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """No parameters, or no body."""


@dataclass(frozen=True)
class Asked:
    """A request that fits its declaration: its parts of the path, its query and its body, also as it came."""

    request: Request
    path: dict[str, str]
    query: Any
    body: Any
    data: bytes


Handler: TypeAlias = Callable[[Asked], Awaitable[Any]]


@dataclass(frozen=True)
class Operation:
    """A route: what it is for, and what it takes and gives.

    `gives` names a definition in docs/json-schema.json; without one it gives what `media` says. `may_stream` says
    that it gives events instead, where the body asks for that.
    """

    name: str
    method: str
    path: str
    about: str
    handler: Handler
    query: type[msgspec.Struct] = Nothing
    body: type[msgspec.Struct] | None = None
    gives: str = ""
    status: int = 200
    media: str = "application/json"
    may_stream: bool = False


def routes(operations: Sequence[Operation]) -> list[Route]:
    """Them as Starlette has them."""
    return [Route(each.path, _endpoint(each), methods=[each.method], name=each.name) for each in operations]


def _endpoint(operation: Operation) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        query = fitting(dict(request.query_params), operation.query, strict=False)
        data = await read_bytes(request)
        body = fitting(as_object(data), operation.body, strict=True) if operation.body else None
        given = await operation.handler(Asked(request, dict(request.path_params), query, body, data))
        return given if isinstance(given, Response) else JSONResponse(given, operation.status)

    return endpoint


def fitting(value: dict[str, Any], kind: type[msgspec.Struct], *, strict: bool) -> Any:
    """The value as that kind. Raises `RequestError`, which names the field."""
    try:
        return convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        said = str(error)
        at = re.search(r"at `\$\.?([^`]*)`", said)
        field = re.search(r"field `([^`]*)`", said)
        param = at[1] if at else field[1] if field else None
        raise RequestError(400, f"{said[:300]}.", code="invalid_value", param=param or None) from error
