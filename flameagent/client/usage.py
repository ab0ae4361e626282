"""Who has used what: the tokens of all turns, as their sessions have them, by day, user, application and model.

Promises that a turn counts once, where it was asked, also one that was taken back, and not again in copies of its
conversation; one that failed counts each time that it did. Replays do not count, and what was deleted no more: there
is no other record of it. Days are those of UTC.
"""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flameagent.client.connection import Connection, translate_errors
from flameagent.client.errors import ClientError
from flameagent.client.prices import Prices
from flameagent.conversation import Conversation, ConversationError, Spent, Usage, spent_in, spent_in_vain
from flameagent.conversation.failures import failure_keys, read_failures
from flameagent.flame import FlameError
from flameagent.flame.frontend import Session
from flameagent.memory.place import HOLDER

_READERS = 8
DAY = 86_400_000
"""Milliseconds."""


@dataclass(frozen=True)
class Line:
    """What a user has used of a model, by an application, on a day (`2026-01-31`), in so many turns.

    `failed` are attempts at turns that failed, and had asked the model before.
    """

    day: str
    user: str
    application: str
    model: str
    turns: int
    failed: int
    usage: Usage

    def as_json(self, prices: Prices) -> dict[str, Any]:
        """The line as `usage --json` prints it."""
        return {
            "day": self.day,
            "user": self.user,
            "application": self.application,
            "model": self.model,
            "turns": self.turns,
            "failed": self.failed,
            "requests": self.usage.requests,
            "input_tokens": self.usage.input_tokens,
            "cached_tokens": self.usage.cached_tokens,
            "output_tokens": self.usage.output_tokens,
            "cost": prices.cost(self.model, self.usage),
        }


def read(connection: Connection, since: int = 0) -> list[Line]:
    """What all agents of an engine have used since a time in epoch milliseconds. Raises `ClientError`.

    Conversations that cannot be read are left out.
    """
    with translate_errors():
        connection.greet()
        found = [each for each in connection.frontend.sessions() if each.application != HOLDER]
        connection.cache  # noqa: B018 - opened once, before the threads that share it

    def of(session: Session) -> list[Spent]:
        with suppress(ClientError, FlameError, ConversationError):
            return spent(connection, session, since)
        return []

    with ThreadPoolExecutor(_READERS) as readers:
        sums: defaultdict[tuple[str, str, str, str], list[Spent]] = defaultdict(list)
        for session, all_of_it in zip(found, readers.map(of, found), strict=True):
            for each in all_of_it:
                sums[day_of(each.at), each.user, session.application, each.model].append(each)
    return [
        Line(*key, _count(several, "turn"), _count(several, "failed"), sum((each.usage for each in several), Usage()))
        for key, several in sorted(sums.items())
    ]


def spent(connection: Connection, session: Session, since: int = 0) -> list[Spent]:
    """What a session has used since then. Raises `ClientError`, `FlameError`, `ConversationError`."""
    log = connection.log(session)
    if log is None:
        return []
    conversation = log.refresh()
    if conversation.replay is not None:
        return []
    failures = read_failures(connection.cache.get, failure_keys(session.application, session.id))
    found = list(spent_in_vain(failures, conversation))
    if conversation.changed >= since:
        if not conversation.whole and _first(conversation) >= since:
            conversation = log.load(0)
        found += spent_in(conversation)
    return [each for each in found if each.at >= since]


def _count(several: list[Spent], kind: str) -> int:
    return sum(each.kind == kind for each in several)


def day_of(at: int) -> str:
    """The day of a time in epoch milliseconds."""
    return datetime.fromtimestamp(at / 1000, UTC).date().isoformat()


def _first(conversation: Conversation) -> int:
    """When the first turn was that was read."""
    return next((turn.at for turn, _ in conversation.turns()), conversation.changed)
