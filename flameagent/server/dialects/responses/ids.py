"""The ID of a response: its session, its turn, and which pass of the turn it is.

Nothing has to be kept to read it, and it is no secret: whose the session is decides who is told of the response.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, replace

from flameagent.server.errors import NotFoundError

_PREFIX = "resp_"
_LONGEST = 2000


@dataclass(frozen=True)
class ResponseId:
    """A pass of a turn: 0 is what comes of the question, 1 what follows the first decision, and so on."""

    session_id: str
    turn_id: str
    number: int = 0

    def __str__(self) -> str:
        parts = "\0".join((str(self.number), self.session_id, self.turn_id))
        return _PREFIX + base64.urlsafe_b64encode(parts.encode()).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> ResponseId:
        """The ID as it is written. Raises `NotFoundError` for what is none."""
        try:
            data = text.removeprefix(_PREFIX).encode("ascii")
            padded = data + b"=" * (-len(data) % 4)
            number, session_id, turn_id = base64.urlsafe_b64decode(padded).decode().split("\0")
            found = cls(session_id, turn_id, int(number) if number.isdecimal() else -1)
        except (ValueError, binascii.Error):
            raise NotFoundError("response", text) from None
        # One way to write each: nothing else is an ID.
        if len(text) > _LONGEST or not (found.session_id and found.turn_id) or str(found) != text:
            raise NotFoundError("response", text)
        return found

    def at(self, number: int) -> ResponseId:
        """Another pass of the same turn."""
        return replace(self, number=number)
