"""The users of a server: who may ask over HTTP, each with a token.

Kept in one log in Flame's cache, so that every server in front of one engine knows the same users. A token is shown
once, when it is made; what is kept is its hash. Promises that of two who change a user at once one is told, and that
a token counts no more on any server a few seconds after it was revoked.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Literal, TypeAlias

from flameagent.apis import MyContext
from flameagent.client.connection import Connection, translate_errors, undisturbed
from flameagent.client.errors import ConflictError, UsageError
from flameagent.client.question import name_of
from flameagent.conversation import ConversationLog, TurnBody, context
from flameagent.flame import NotFlame, NotFound, Unreachable
from flameagent.memory.place import HOLDER
from flamewire.failpoints import failpoint
from flamewire.object_ref import ObjectRef

Role: TypeAlias = Literal["user", "admin"]

_SESSION = "flame-agent-users"
_PREFIX = f"flame-agent/{_SESSION}"
_BEGIN = "fa_"
_FRESH = 2.0  # seconds for which the log is not read again
_LONGEST = 200


@dataclass(frozen=True)
class User:
    """Somebody who may ask; `at` is when they were added or their token was renewed, in epoch milliseconds."""

    name: str
    role: Role
    at: int


@dataclass(frozen=True)
class NewToken:
    """A user and their token, which nobody can show again."""

    user: User
    token: str


class Users:
    """The users of the servers in front of one engine. Blocking; for any number of threads.

    Each method raises `ClientError`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._log: ConversationLog | None = None
        self._generation = -1
        self._read_at = float("-inf")
        self._by_hash: dict[str, User] = {}

    def add(self, name: str, role: Role = "user") -> NewToken:
        """A new user, with a token. Raises `ConflictError` where there is one of that name."""
        return self._write(name, role, new=True)

    def renew(self, name: str) -> NewToken:
        """Another token for a user; the one before counts no more. Raises `UsageError` where there is none."""
        return self._write(name, None, new=False)

    def revoke(self, name: str) -> User:
        """Have a user's token count no more; their sessions and what is remembered of them stay.

        Raises `UsageError` where there is no such user.
        """
        with self._lock, translate_errors():
            log, users = self._refreshed(make=False)
            known = next((user for user in users.values() if user.name == name_of(name)), None)
            if log is None or known is None:
                raise UsageError(f"There is no user {name}. The command `users list` lists them.")
            self._append(log, known.name, None)
            return known

    def list(self) -> list[User]:
        """All of them, by name."""
        with self._lock, translate_errors():
            return sorted(self._refreshed(make=False)[1].values(), key=lambda user: user.name)

    def with_token(self, token: str) -> User | None:
        """Whose token it is; None for nobody's. One that was revoked less than two seconds ago may count still."""
        if not token.startswith(_BEGIN):
            return None
        wanted, came = _hash(token), time.monotonic()
        with self._lock, translate_errors():
            # For an unknown one the log is read again, once for all who have come meanwhile: anybody may send any.
            if time.monotonic() - self._read_at > _FRESH or (wanted not in self._by_hash and self._read_at < came):
                self._refreshed(make=False)
            return self._by_hash.get(wanted)

    def any(self) -> bool:
        """True where there is one. What was read in the last two seconds counts."""
        with self._lock, translate_errors():
            if time.monotonic() - self._read_at > _FRESH:
                self._refreshed(make=False)
            return bool(self._by_hash)

    def _write(self, name: str, role: Role | None, *, new: bool) -> NewToken:
        name = name_of(name)
        if not 0 < len(name) <= _LONGEST or not name.isprintable():
            raise UsageError(f"A user's name is a text of 1 to {_LONGEST} letters, digits and signs.")
        token = _BEGIN + secrets.token_urlsafe(32)
        with self._lock, translate_errors():
            log, users = self._refreshed(make=True)
            known = next((user for user in users.values() if user.name == name), None)
            if new and known is not None:
                raise ConflictError(f"There is a user {name} already; `users renew` makes another token.")
            if not new and known is None:
                raise UsageError(f"There is no user {name}. The command `users list` lists them.")
            user = User(name, role or (known.role if known else "user"), int(time.time() * 1000))
            assert log is not None
            self._append(log, name, {"hash": _hash(token), "role": user.role, "at": user.at})
        return NewToken(user, token)

    def _append(self, log: ConversationLog, name: str, value: dict[str, object] | None) -> None:
        facts = {name: None if value is None else json.dumps(value)}
        body = TurnBody(uuid.uuid4().hex, "", [], {}, facts=facts)
        failpoint("users: before")
        log.append(body, revision=log.conversation.revision)
        failpoint("users: written")
        self._take(log)

    def _refreshed(self, *, make: bool) -> tuple[ConversationLog | None, dict[str, User]]:
        """The log as it is now; None where there is none, unless one is to be made."""
        began = time.monotonic()
        try:
            found = self._read_on(make)
            self._read_at = began  # what is written while it is read may not be in it
            return found
        except (Unreachable, NotFlame):  # the embedded engine has left, and is started by whoever needs it
            self._connection.greet()
            self._log = None
            return self._read_on(make)

    def _read_on(self, make: bool) -> tuple[ConversationLog | None, dict[str, User]]:
        if self._generation != self._connection.generation:
            self._log, self._generation = None, self._connection.generation
        if self._log is None:
            key = self._key(make)
            self._generation = self._connection.generation
            self._log = ConversationLog(self._connection.cache, key, guard=undisturbed) if key else None
        if self._log is None:
            self._by_hash, self._read_at = {}, time.monotonic()
        else:
            self._log.refresh()
            self._take(self._log)
        return self._log, self._by_hash

    def _take(self, log: ConversationLog) -> None:
        known = {name: json.loads(value) for name, value in log.conversation.facts.items()}
        self._by_hash = {each["hash"]: User(name, each["role"], each["at"]) for name, each in known.items()}
        self._read_at = time.monotonic()

    def _key(self, make: bool) -> str:
        frontend, cache = self._connection.frontend, self._connection.cache
        try:
            found = frontend.session(_SESSION)
        except NotFound:
            if not make:
                return ""
            reference = cache.put(_PREFIX, context.write(MyContext()))
            failpoint("users: made")
            found = frontend.create_session(_SESSION, HOLDER, reference.encode())
            if found.common_data != reference.encode():  # somebody was first
                cache.delete(reference.key)
        return ObjectRef.decode(found.common_data or b"").key


def _hash(token: str) -> str:
    # A token is 256 random bits: there is nothing to guess, and so nothing to make slow.
    return hashlib.sha256(token.encode()).hexdigest()
