"""Limits for each user and for all: requests, turns that run, and what a day may cost.

Requests are counted by each server for itself; turns and what they used are Flame's, so that all servers agree.
Promises that a request is refused before anything is begun for it, and that one which is made again for a turn that
was begun is not. What is left of a day goes with the question, for the agent to look at before each call of a model.
What runs at once, and what is used, may go a little beyond: turns of one user do not see what the others use.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import to_builtins
from msgspec.structs import replace

from flameagent.client.async_client import in_thread
from flameagent.client.connection import translate_errors
from flameagent.client.environment import Environment
from flameagent.client.errors import ClientError, UsageError
from flameagent.client.prices import Prices
from flameagent.client.turns import turn_of
from flameagent.client.usage import DAY, spent
from flameagent.conversation import Budget, ConversationError, Spent, Usage
from flameagent.flame import FlameError
from flameagent.flame.frontend import Session
from flameagent.server.errors import RequestError, budget_reached
from flameagent.transcript.wording import turns

if TYPE_CHECKING:
    from flameagent.server.agents import Agents

_KNOWN = 10_000
_SOON = 5  # seconds until it is worth while to ask again, where turns run
_MINUTE = 60.0


@dataclass(frozen=True)
class Limits:
    """What a user may have; 0: as much as they like. `all_turns` is for all users together."""

    requests: int = 0
    turns: int = 0
    all_turns: int = 0
    tokens: int = 0
    money: float = 0.0

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Limits:
        """As the variables have it. Raises `UsageError`."""
        return cls(
            requests=_whole(environ, "FLAME_AGENT_REQUESTS_A_MINUTE"),
            turns=_whole(environ, "FLAME_AGENT_TURNS_AT_ONCE"),
            all_turns=_whole(environ, "FLAME_AGENT_ALL_TURNS_AT_ONCE"),
            tokens=_whole(environ, "FLAME_AGENT_TOKENS_A_DAY"),
            money=_number(environ, "FLAME_AGENT_MONEY_A_DAY"),
        )


class Rate:
    """Requests a minute of each user, to one server: so many at once, which come back evenly.

    `on_refusal` is told the code of each that is refused.
    """

    def __init__(self, requests: int) -> None:
        self.on_refusal: Callable[[str], object] = str
        self._requests = requests
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, user: str) -> None:
        """Count a request. Raises `RequestError` where it is one too many."""
        if not self._requests:
            return
        now, each = time.monotonic(), _MINUTE / self._requests
        left, at = self._left.pop(user, (float(self._requests), now))
        left = min(left + (now - at) / each, float(self._requests))
        self._left[user] = (left - 1 if left >= 1 else left, now)
        while len(self._left) > _KNOWN:
            self._left.popitem(last=False)
        if left < 1:
            self.on_refusal("rate_limit")
            raise _too_many(
                f"A user may make {self._requests} requests a minute.", "rate_limit", math.ceil((1 - left) * each)
            )


class Limiter:
    """The limits of turns, looked up in Flame before each; `on_refusal` is told the code of each that is refused."""

    def __init__(self, agents: Agents, environ: Environment) -> None:
        """Raises `UsageError` for settings that make no sense."""
        self.limits = Limits.of(environ)
        self.prices = Prices.of(environ)
        self.on_refusal: Callable[[str], object] = str
        self._agents = agents
        self._known: OrderedDict[tuple[str, bytes | None], tuple[int, list[Spent]]] = OrderedDict()
        if self.limits.money and not self.prices:
            raise UsageError("FLAME_AGENT_MONEY_A_DAY is set, and the settings have no `prices`.")

    async def admit(
        self, user: str, session_id: str = "", turn_id: str = "", *, steers: bool = False
    ) -> dict[str, Any] | None:
        """Let a user ask; return the budget for their question.

        Raises `RequestError` where they may not, unless that turn was asked already. What `steers` a turn that runs
        is no other turn: only its cost counts.
        """
        limits = self.limits
        own = await self._agents.sessions_of(user) if limits.turns or limits.tokens or limits.money else []
        budget = await self._left(user, own)
        refused = (None if steers else await self._too_many_turns(own)) or _used_up(budget)
        was_asked = bool(refused and turn_id) and await in_thread(partial(self._is_asked, session_id, turn_id))
        if refused and not was_asked:
            self.on_refusal(refused.code or "")
            raise refused
        return _as_json(budget)

    async def budget(self, user: str) -> dict[str, Any] | None:
        """What a user may still use today, as a `Question` has it; None where nothing limits it."""
        if not (self.limits.tokens or self.limits.money):
            return None
        return _as_json(await self._left(user, await self._agents.sessions_of(user)))

    async def _too_many_turns(self, own: list[Session]) -> RequestError | None:
        limits = self.limits
        if limits.all_turns and sum(map(_busy, await self._agents.all_sessions())) >= limits.all_turns:
            return _too_many(f"{turns(limits.all_turns)} of all users run already.", "too_many_turns", _SOON)
        if limits.turns and sum(map(_busy, own)) >= limits.turns:
            return _too_many(f"{turns(limits.turns)} of yours run already.", "too_many_turns", _SOON)
        return None

    async def _left(self, user: str, own: list[Session]) -> Budget | None:
        if not (self.limits.tokens or self.limits.money):
            return None
        return await in_thread(partial(self._count, user, own))

    def _count(self, user: str, own: list[Session]) -> Budget:
        now = int(time.time() * 1000)
        today = now - now % DAY
        found = [each for session in own for each in self._spent(session, today) if each.user == user]
        tokens = sum(each.usage.input_tokens + each.usage.output_tokens for each in found)
        budget = Budget()
        if limit := self.limits.tokens:
            budget = replace(budget, tokens=max(limit - tokens, 0), of_tokens=limit)
        if money := self.limits.money:
            cost = sum(self.prices.cost(each.model, each.usage) or 0.0 for each in found)
            left = max(money - cost, 0.0)
            budget = replace(budget, money=left, of_money=money, prices=self.prices.table)
        return budget

    def _spent(self, session: Session, today: int) -> list[Spent]:
        """What a session used today; read again when more of its turns have ended."""
        key = session.id, session.common_data
        ended, found = self._known.pop(key, (-1, []))
        if ended != session.ended or _busy(session):
            try:
                found, ended = spent(self._agents.connection, session, today), session.ended
            except (ClientError, FlameError, ConversationError):  # deleted meanwhile, or damaged
                return []
        self._known[key] = ended, found
        while len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        return [each for each in found if each.at >= today]

    def _is_asked(self, session_id: str, turn_id: str) -> bool:
        with translate_errors(session_id):
            return any(turn_of(task) == turn_id for task in self._agents.connection.frontend.tasks(session_id))


def _busy(session: Session) -> int:
    return session.running + session.pending


def _as_json(budget: Budget | None) -> dict[str, Any] | None:
    return None if budget is None else dict(to_builtins(budget))


def _used_up(budget: Budget | None) -> RequestError | None:
    said = budget.reached(Usage()) if budget else ""
    return budget_reached(said) if said else None


def _too_many(message: str, code: str, seconds: int) -> RequestError:
    error = RequestError(429, message, code=code, retry=True)
    error.headers["retry-after"] = str(max(seconds, 1))
    return error


def _whole(environ: Mapping[str, str], variable: str) -> int:
    text = environ.get(variable, "").strip()
    if text and not (text.isascii() and text.isdigit() and len(text) < 16 and int(text)):
        raise UsageError(f"{variable} is a whole number above 0, not {text!r}.")
    return int(text or 0)


def _number(environ: Mapping[str, str], variable: str) -> float:
    text = environ.get(variable, "").strip()
    try:
        number = float(text or 0)
    except ValueError:
        number = -1.0
    if not math.isfinite(number) or number < 0 or (text and not number):
        raise UsageError(f"{variable} is a number above 0, not {text!r}.")
    return number
