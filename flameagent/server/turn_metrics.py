"""What became of the turns that this server has asked: how often, how long, with how many tokens, for how much.

A turn counts once, however many follow it, where it was asked; those that nobody follows to their end are looked up
when somebody reads the metrics. Promises that there is no end of labels: models beyond a number are `other`.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram

from flameagent.apis import Question
from flameagent.client.errors import ClientError, NoEngine, UsageError
from flameagent.client.events import Event, Progress
from flameagent.client.prices import Prices
from flameagent.client.reply import Reply
from flameagent.conversation import Usage
from flameagent.outcomes import ERRORS
from flameagent.server.errors import RequestError

if TYPE_CHECKING:
    from flameagent.server.agents import Agents

SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_OUTCOMES = ("answered", "awaiting_approval", *(error.code for error in ERRORS.values() if error.in_answers))
_MOST = 10_000  # turns that are waited for
_MODELS = 50
_AT_ONCE = 20  # turns that are looked up for one reader
_SOON = 2.0  # seconds that a turn has before it is looked up


class _Key(NamedTuple):
    session_id: str
    turn_id: str
    decision: str


@dataclass
class _Asked:
    """A turn that was asked at that monotonic time, and has not ended; `begun` once somebody was told of it.

    Of one that is not `followed`, but looked up, nobody knows how long it took.
    """

    agent: str
    at: float
    begun: bool = False
    followed: bool = True


class TurnMetrics:
    """The metrics of turns, and the turns that have not ended."""

    def __init__(self, registry: CollectorRegistry, prices: Prices) -> None:
        self._prices = prices
        self._asked: OrderedDict[_Key, _Asked] = OrderedDict()
        self._models: set[str] = set()
        self._lock = Lock()
        self._ended = Counter(
            "flame_agent_turns_ended",
            "Turns that were asked here and have ended: answered, awaiting_approval, or the code of their error.",
            ("agent", "outcome"),
            registry=registry,
        )
        self._seconds = Histogram(
            "flame_agent_turn_seconds",
            "Seconds until such a turn had ended, of those that somebody followed.",
            ("agent",),
            buckets=SECONDS,
            registry=registry,
        )
        self._first_event = Histogram(
            "flame_agent_turn_first_event_seconds",
            "Seconds until the first words or calls of such a turn.",
            ("agent",),
            buckets=SECONDS,
            registry=registry,
        )
        self._tokens = Counter(
            "flame_agent_tokens",
            "Tokens of turns that were answered; cached ones are input, too.",
            ("agent", "model", "kind"),
            registry=registry,
        )
        self._cost = Counter(
            "flame_agent_cost",
            "What they cost, by the prices of the settings.",
            ("agent", "model"),
            registry=registry,
        )

    def begin(self, agent: str) -> None:
        """Have the outcomes of an agent's turns begin at 0: who first sees 1 does not know that one has ended."""
        for outcome in _OUTCOMES:
            self._ended.labels(agent, outcome)

    def of(self, agent: str) -> _Watch:
        """Who is told of the turns of an agent."""
        return _Watch(self, agent)

    def asked(self, agent: str, key: _Key) -> None:
        """A turn was asked."""
        with self._lock:
            self._asked.setdefault(key, _Asked(agent, time.monotonic()))
            while len(self._asked) > _MOST:
                self._asked.popitem(last=False)

    def begun(self, key: _Key) -> None:
        """Something of a turn has come."""
        with self._lock:
            asked = self._asked.get(key)
            if asked is None or asked.begun:
                return
            asked.begun = True
        self._first_event.labels(asked.agent).observe(time.monotonic() - asked.at)

    def ended(self, key: _Key, outcome: Reply | ClientError) -> None:
        """A turn has ended so."""
        with self._lock:
            asked = self._asked.pop(key, None)
        if asked is None or _is_of_another(key, outcome):
            return
        self._ended.labels(asked.agent, _outcome(outcome)).inc()
        if asked.followed:
            self._seconds.labels(asked.agent).observe(time.monotonic() - asked.at)
        if isinstance(outcome, Reply) and not outcome.pending:  # one that waits is used on by the same turn
            self._spent(asked.agent, outcome.model, outcome.usage)

    async def look_up(self, agents: Agents, busy: Mapping[str, bool]) -> None:
        """Find out what became of turns that nobody has followed; `busy` are the sessions that there are.

        Raises nothing: what cannot be found out now may be later.
        """
        late = time.monotonic() - _SOON
        with self._lock:
            some = [(key, asked) for key, asked in self._asked.items() if asked.at < late][:_AT_ONCE]
        for key, asked in some:
            if busy.get(key.session_id):
                continue
            if key.session_id not in busy:
                self._forget(key)
                continue
            asked.followed, asked.begun = False, True
            outcome: Reply | ClientError
            try:
                client = await agents.client(asked.agent)
                outcome = await client.attach(key.session_id, key.turn_id, decision_id=key.decision).reply()
            except NoEngine:
                return
            except (RequestError, UsageError):  # it was deleted meanwhile
                self._forget(key)
                continue
            except ClientError as error:
                outcome = error
            self.ended(key, outcome)

    def _forget(self, key: _Key) -> None:
        with self._lock:
            self._asked.pop(key, None)

    def _spent(self, agent: str, model: str, usage: Mapping[str, int]) -> None:
        counts = Usage.of(dict(usage))
        with self._lock:
            if model in self._models or len(self._models) < _MODELS:
                self._models.add(model)
                named = model
            else:
                named = "other"
        kinds = {"input": counts.input_tokens, "cached": counts.cached_tokens, "output": counts.output_tokens}
        for kind, count in kinds.items():
            self._tokens.labels(agent, named, kind).inc(count)
        if (cost := self._prices.cost(model, counts)) is not None:
            self._cost.labels(agent, named).inc(cost)


class _Watch:
    """The `TurnWatch` of one agent."""

    def __init__(self, metrics: TurnMetrics, agent: str) -> None:
        self._metrics = metrics
        self._agent = agent

    def asked(self, session_id: str, question: Question) -> None:
        self._metrics.asked(self._agent, _key(session_id, question))

    def told(self, session_id: str, question: Question, event: Event) -> None:
        if not isinstance(event, Progress):
            self._metrics.begun(_key(session_id, question))

    def ended(self, session_id: str, question: Question, outcome: Reply | ClientError) -> None:
        self._metrics.ended(_key(session_id, question), outcome)


def _is_of_another(key: _Key, outcome: Reply | ClientError) -> bool:
    """True for a message that the turn which ran has taken in: that one counts."""
    return isinstance(outcome, Reply) and outcome.turn_id not in ("", key.turn_id)


def _outcome(outcome: Reply | ClientError) -> str:
    if isinstance(outcome, ClientError):
        return outcome.code
    return "awaiting_approval" if outcome.pending else "answered"


def _key(session_id: str, question: Question) -> _Key:
    return _Key(session_id, question.id, question.decision.id if question.decision else "")
