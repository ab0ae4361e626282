"""Requests that are made once, however often they are sent.

A turn's ID, and that of a session which a request begins, come from the request. With an `Idempotency-Key` they are
the same for the same user and key. Without one they have a mark, made of user, route and body: a client of OpenAI
that repeats a request by itself says so (`x-stainless-retry-count`), and then what the same request began in the last
ten minutes is looked for by that mark, on whichever server it was.

What remains: a client without keys that repeats a request on its own account, or through another server while the
first one has not made the turn yet, asks twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from weakref import WeakValueDictionary

from starlette.requests import Request

from flameagent.client import payloads
from flameagent.client.async_client import in_thread
from flameagent.client.connection import Connection, translate_errors
from flameagent.client.turns import turn_of
from flameagent.server.agents import tag_of
from flameagent.server.errors import RequestError
from flameagent.server.identity import identity_of

_SPACE = uuid.UUID("0f8a6ea5-5b21-4b3f-9d0c-1f6f8a4a7c11")
_REPEATED = 600_000  # milliseconds in which a client may repeat a request without a key
_MARK = 12
_LONGEST_KEY = 500
_running: WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = WeakValueDictionary()


@dataclass(frozen=True)
class Once:
    """One request, by what tells it from others. `key` is the client's, "" without one."""

    user: str
    route: str
    key: str
    mark: str
    repeated: bool

    @classmethod
    def of(cls, request: Request, body: bytes, key: str = "") -> Once:
        """The request with that body; `key` is one that the body names. Raises `RequestError`."""
        key = key or request.headers.get("idempotency-key", "")
        if len(key) > _LONGEST_KEY:
            raise RequestError(400, f"The idempotency key is longer than {_LONGEST_KEY} characters.")
        user, route = identity_of(request).user, f"{request.method} {request.url.path}"
        count = request.headers.get("x-stainless-retry-count", "0")
        mark = _digest(user, route, hashlib.blake2b(body).hexdigest())[:_MARK]
        return cls(user, route, key, mark, count.isascii() and count.isdecimal() and count.strip("0") != "")

    @property
    def is_first(self) -> bool:
        """True where it can have begun nothing before: no key tells it from others, and no client repeats it."""
        return not (self.key or self.repeated)

    async def session_id(self, connection: Connection, agent: str) -> str:
        """The ID of the session that this request begins, the one that it has begun already, if it has."""
        if self.key:
            return f"{agent}-{tag_of(self.user)}-{_digest(self.user, self.route, 'session', self.key)[:32]}"
        if self.repeated and (found := await in_thread(lambda: self._begun(connection, agent))):
            return found
        return f"{agent}-{tag_of(self.user)}-{uuid.uuid4().hex}{self.mark}"

    async def turn_id(self, connection: Connection, session_id: str) -> str:
        """The ID of the turn that this request asks for in a session, of the one it has asked for, if it has."""
        if self.key:
            return str(uuid.uuid5(_SPACE, f"{session_id}\0{self.user}\0{self.key}"))
        if self.repeated and (found := await in_thread(lambda: self._asked(connection, session_id))):
            return found
        return f"{self.mark}-{_now():012x}-{uuid.uuid4().hex[:12]}"

    async def decision_id(self, connection: Connection, session_id: str) -> tuple[str, str]:
        """The ID of the decision that this request makes in a session, and the turn of one that it has made.

        Of one that it has not made only the beginning: whoever decides puts a dot and something behind it.
        """
        begun = await self.turn_id(connection, session_id) if self.key else f"{self.mark}-"
        if self.key or self.repeated:
            found = await in_thread(lambda: self._decided(connection, session_id, begun))
            if found is not None:
                return found
        return begun if self.key else f"{begun}{_now():012x}-{uuid.uuid4().hex[:12]}", ""

    def edit_id(self, session_id: str, records: Iterable[str]) -> str:
        """The ID of the record that this request adds to a session, of the one that it has added, if it has.

        `records` are the IDs of those that are there, oldest first.
        """
        if self.key:
            return _digest(session_id, self.user, "edit", self.key)[:32]
        since = f"{self.mark}-{_now() - _REPEATED:012x}-"
        own = [each for each in records if each.startswith(f"{self.mark}-") and each >= since]
        return own[-1] if self.repeated and own else f"{self.mark}-{_now():012x}-{uuid.uuid4().hex[:12]}"

    @property
    def alone(self) -> asyncio.Lock:
        """To be held until the turn is made: the same request again, on this server, comes after it."""
        name = self.key or self.mark
        if (lock := _running.get((self.user, self.route, name))) is None:
            lock = _running[self.user, self.route, name] = asyncio.Lock()
        return lock

    def _begun(self, connection: Connection, agent: str) -> str:
        since = _now() - _REPEATED
        with translate_errors():
            connection.greet()
            found = [
                each.id
                for each in connection.frontend.sessions()
                if each.application == agent and each.id.endswith(self.mark) and each.created >= since
            ]
        return found[-1] if found else ""

    def _decided(self, connection: Connection, session_id: str, begun: str) -> tuple[str, str] | None:
        since = f"{begun}." if self.key else f"{self.mark}-{_now() - _REPEATED:012x}-"
        with translate_errors(session_id):
            connection.greet()
            tasks = connection.frontend.tasks(session_id)
        for task in reversed(tasks):
            asked = payloads.question(task.input)
            if asked is not None and asked.decision is not None:
                name = asked.decision.id
                if name.startswith(begun) and (name >= since or self.key) and "." in name:
                    return name, turn_of(task)
        return None

    def _asked(self, connection: Connection, session_id: str) -> str:
        since = f"{self.mark}-{_now() - _REPEATED:012x}-"
        with translate_errors(session_id):
            tasks = connection.frontend.tasks(session_id)
        turns = [turn_of(each) for each in reversed(tasks)]
        return next((each for each in turns if each.startswith(f"{self.mark}-") and each >= since), "")


def begun_at(turn_id: str) -> int:
    """When a turn was asked for, in epoch milliseconds, where its ID tells; 0 otherwise."""
    parts = turn_id.split("-")
    if len(parts) != 3 or len(parts[0]) != _MARK or len(parts[1]) != 12:
        return 0
    try:
        return int(parts[1], 16)
    except ValueError:
        return 0


def _now() -> int:
    return int(time.time() * 1000)


def _digest(*parts: str) -> str:
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()
