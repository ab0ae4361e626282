"""What goes wrong with a request: its status, and the object that says so.

Promises that a client which repeats failed requests by itself does not repeat one that may have begun a turn.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from starlette.responses import JSONResponse, Response

from flameagent.client.errors import ClientError
from flameagent.client.usage import DAY
from flameagent.conversation.budget import TODAY
from flameagent.flame import FlameError

_log = logging.getLogger("flameagent.server")

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
}
_STATUS = {
    "usage": 400,
    "no_session": 404,
    "ambiguous": 404,
    "closed": 409,
    "waiting": 409,
    "conflict": 409,
    "timeout": 504,
    "no_engine": 503,
    "not_registered": 503,
}
"""By code word of a client's error; all others are 500."""

_MAY_BE_REPEATED = ("no_engine", "not_registered")
"""Nothing was asked then."""


class RequestError(Exception):
    """A request that is refused. The message is a sentence for whoever made it; `param` is the field it is about.

    With `retry` a client may send the same again by itself: nothing was begun.
    """

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None, retry: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry = retry
        self.headers: dict[str, str] = {}
        self.reply: dict[str, Any] | None = None
        """What is known of the turn, where one was asked."""

    def as_json(self) -> dict[str, Any]:
        """The object as OpenAI's dialects have it."""
        kind = _KINDS.get(self.status, "server_error")
        return {"error": {"message": str(self), "type": kind, "code": self.code, "param": self.param}}

    def response(self) -> Response:
        """The whole answer."""
        headers = {"x-should-retry": "true" if self.retry else "false", **self.headers}
        told = self.as_json() if self.reply is None else {**self.as_json(), "reply": self.reply}
        return JSONResponse(told, self.status, headers)


class NotFoundError(RequestError):
    """There is no such thing, or it is somebody else's."""

    def __init__(self, what: str, name: str) -> None:
        # The name is somebody's text: as JSON, so that nothing in it is more than text.
        super().__init__(
            404, f"There is no {what} {json.dumps(name[:200])}.", code=f"{what.replace(' ', '_')}_not_found"
        )


def of_client(error: ClientError) -> RequestError:
    """The refusal for an error of the client."""
    if error.code == "budget_reached":
        return budget_reached(str(error))
    status = _STATUS.get(error.code, 500)
    return RequestError(status, sentence(error), code=error.code, retry=error.code in _MAY_BE_REPEATED)


def budget_reached(message: str) -> RequestError:
    """The refusal where a budget is used up: one of a user's day is not to be repeated before the next one."""
    error = RequestError(429, message, code="budget_reached")
    if TODAY in message:  # others do not come back by themselves
        error.headers["retry-after"] = str((DAY - int(time.time() * 1000) % DAY) // 1000 + 1)
    return error


def sentence(error: ClientError) -> str:
    """What somebody else is told of an error: the sentences about the engine name addresses, files and commands of
    this machine, which are for the log.
    """
    if error.code in _MAY_BE_REPEATED:
        told = "The server's engine cannot be reached now."
    elif isinstance(error.__cause__, FlameError) and error.code not in _STATUS:
        told = "The server's engine did not do that; its log says why."
    else:
        return str(error)
    _log.error("%s", one_line(str(error)))
    return told


def one_line(text: str) -> str:
    """Text for the log: whatever somebody has written, it begins no line of its own and moves no cursor."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
