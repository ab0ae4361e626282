"""A report of an agent over a time: its turns, which failed and why, how long they took, what models cost, its tools.

The numbers come from the conversations, and from what is kept of turns that failed. Promises that a turn counts once,
where it was asked, also one that was taken back; copies and replays do not count, and neither does what was deleted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from flameagent.client.agent_connection import AgentConnection
from flameagent.client.connection import first_key, translate_errors
from flameagent.client.errors import DamagedError
from flameagent.client.events import OnProgress
from flameagent.client.failures import failed_turns
from flameagent.client.overview import Overview, overview
from flameagent.client.prices import Prices
from flameagent.client.timings import TurnTimes, turn_times
from flameagent.conversation import (
    Block,
    Conversation,
    ConversationError,
    ConversationReader,
    Spent,
    Usage,
    spent_in,
    spent_in_vain,
)
from flameagent.conversation.failures import Failure, failure_keys, read_failures
from flameagent.flame import FlameError
from flameagent.flame.frontend import Session

_BATCH = 500
_HOURS, _DAYS = 48, 100  # the longest time that is told hour by hour, and day by day
_REASONS = 10  # the most frequent, that are told
_REASON = 200  # characters of one

NESTED = "(in nested runs)"
"""The name of tools that agents called which were used as tools: of those calls only the times are recorded."""


@dataclass(frozen=True)
class Percentiles:
    """How long something took, in milliseconds: half of the `count` took no longer than `p50`; None of nothing."""

    count: int
    p50: int | None
    p95: int | None

    @classmethod
    def of(cls, values: Iterable[int]) -> Percentiles:
        """By nearest rank: each is one of the values."""
        ordered = sorted(values)
        if not ordered:
            return cls(0, None, None)
        count = len(ordered)
        return cls(count, ordered[(count + 1) // 2 - 1], ordered[(count * 95 + 99) // 100 - 1])


@dataclass(frozen=True)
class Span:
    """What was in one of the hours, days or weeks: from `start` (epoch milliseconds) to that of the next one.

    `latency` is from when turns were asked to their answers, or as much of that as is known. `tokens` are those in
    and out; the `cost` is of models with a price, None where none has one.
    """

    start: int
    turns: int
    failures: int
    latency: Percentiles
    tokens: int
    cost: float | None


@dataclass(frozen=True)
class ModelUse:
    """What was used of a model; `failed` attempts at turns are beside the `turns`. `cost` is None without a price."""

    model: str
    turns: int
    failed: int
    usage: Usage
    cost: float | None


@dataclass(frozen=True)
class ToolUse:
    """The calls of a tool; `failed` are those that raised something, as far as turns say so."""

    tool: str
    calls: int
    failed: int
    took: Percentiles


@dataclass(frozen=True)
class Reason:
    """Turns that failed for one reason; `newest` is when the last of them did, in the session `session_id`."""

    code: str
    reason: str
    count: int
    newest: int
    session_id: str


@dataclass(frozen=True)
class Report:
    """The numbers of an agent from `since` to `until` (epoch milliseconds).

    `step` is `hour`, `day` or `week`, by local time, of which `spans` has one each, from the first in which there was
    something. `latency` is as in a `Span`; of it a turn `waited` before it `ran`, and its models took `model_time`.
    `unread` are sessions that could not be read as a whole.
    """

    application: str
    since: int
    until: int
    step: str
    spans: list[Span]
    turns: int
    failures: int
    sessions: int
    users: int
    codes: dict[str, int]
    reasons: list[Reason]
    latency: Percentiles
    waited: Percentiles
    ran: Percentiles
    model_time: Percentiles
    models: list[ModelUse]
    tools: list[ToolUse]
    unread: list[str]

    @property
    def usage(self) -> Usage:
        """What was used of all models."""
        return sum((each.usage for each in self.models), Usage())

    @property
    def cost(self) -> float | None:
        """What models with a price have cost; None where none has one."""
        costs = [each.cost for each in self.models if each.cost is not None]
        return sum(costs) if costs else None

    @property
    def unpriced(self) -> list[str]:
        """The models that have no price."""
        return [each.model for each in self.models if each.cost is None and each.usage != Usage()]

    def as_json(self) -> dict[str, Any]:
        """As `report --json` prints it."""
        return {
            "application": self.application,
            "since": self.since,
            "until": self.until,
            "step": self.step,
            "turns": self.turns,
            "failures": self.failures,
            "sessions": self.sessions,
            "users": self.users,
            "codes": self.codes,
            "reasons": [asdict(each) for each in self.reasons],
            "latency": asdict(self.latency),
            "waited": asdict(self.waited),
            "ran": asdict(self.ran),
            "model_time": asdict(self.model_time),
            "models": [
                {
                    "model": each.model,
                    "turns": each.turns,
                    "failed": each.failed,
                    **_counts(each.usage),
                    "cost": each.cost,
                }
                for each in self.models
            ],
            "tools": [asdict(each) for each in self.tools],
            "cost": self.cost,
            "spans": [asdict(each) for each in self.spans],
            "unread": self.unread,
        }


@dataclass(frozen=True)
class _Turn:
    at: int
    user: str
    times: TurnTimes
    tools: list[tuple[str, str]]  # the ID and the tool of each call


@dataclass
class _Part:
    """What one session has in the time."""

    session_id: str
    turns: list[_Turn] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    spent: list[Spent] = field(default_factory=list)
    unread: bool = False


def make_report(
    connection: AgentConnection,
    since: int,
    until: int,
    prices: Prices,
    *,
    on_progress: OnProgress | None = None,
) -> Report:
    """The report of the connection's agent from then to then, in epoch milliseconds. Raises `ClientError`."""
    with translate_errors():
        connection.greet()
        with overview(connection) as engine:
            parts = list(_parts(connection, engine, since, until, on_progress))
    return _summed(connection.application.name, since, until, parts, prices)


def _parts(
    connection: AgentConnection, engine: Overview, since: int, until: int, on_progress: OnProgress | None
) -> Iterator[_Part]:
    own = engine.sessions()
    failed = dict(failed_turns(connection, engine, since, until, on_progress))
    sizes, name = engine.sizes(len(own)), connection.application.name

    def read(session: Session) -> _Part:
        part = _Part(session.id, failures=failed.get(session.id, []))
        keys = failure_keys(name, session.id)
        try:
            noted = read_failures(engine.get, keys) if sizes is None or any(map(sizes.get, keys)) else []
            conversation = _read(engine, session, since)
            part.unread = conversation.damage is not None
        except (FlameError, ConversationError, DamagedError):
            part.unread = True
            return part
        if conversation.replay is not None:
            return _Part(session.id)
        part.turns = [each for each in _turns(conversation) if since <= each.at <= until]
        spent = [*spent_in(conversation), *spent_in_vain(noted, conversation)]
        part.spent = [each for each in spent if since <= each.at <= until]
        return part

    for start in range(0, len(own), _BATCH):
        if on_progress is not None and len(own) > _BATCH:
            on_progress(f"reading sessions, {start} of {len(own)}")
        batch = [each for each in own[start : start + _BATCH] if each.common_data is not None]
        if engine.readers == 1:
            yield from map(read, batch)
        else:
            with ThreadPoolExecutor(engine.readers) as readers:
                yield from readers.map(read, batch)


def _read(engine: Overview, session: Session, since: int) -> Conversation:
    """The conversation, from its beginning where what was before its newest segment may count."""
    reader = ConversationReader(engine, first_key(session), patience=0.0)
    conversation = reader.refresh()
    first = next((turn.at for turn, _ in conversation.turns()), conversation.changed)
    if conversation.changed >= since and not conversation.whole and first >= since:
        conversation = reader.load(0)
    return conversation


def _turns(conversation: Conversation) -> Iterator[_Turn]:
    taken = (block for rewind in conversation.rewinds for block in rewind.blocks)
    for block in (*conversation.blocks, *taken):
        turn = block.turn
        if turn is not None and turn.source is None and turn.answer:
            yield _Turn(turn.at, turn.user or conversation.owner, turn_times(turn, block.items), _calls(block))


def _calls(block: Block) -> list[tuple[str, str]]:
    """The calls of tools among the items, those that a server has run itself among them."""
    found = []
    for item in block.items:
        kind = str(item.get("type", ""))
        if kind.endswith("_call"):
            name = item.get("name") or kind.removesuffix("_call")
            found.append((str(item.get("call_id") or item.get("id") or ""), str(name)))
    return found


def _summed(name: str, since: int, until: int, parts: Sequence[_Part], prices: Prices) -> Report:
    turns = [turn for part in parts for turn in part.turns]
    failures = [(part.session_id, failure) for part in parts for failure in part.failures]
    spent = [each for part in parts for each in part.spent]
    moments = [
        *(turn.at for turn in turns),
        *(failure.ended for _, failure in failures),
        *(each.at for each in spent),
    ]
    step, starts = _starts(min(moments, default=until), until, since)
    users = {*(turn.user for turn in turns), *(failure.user for _, failure in failures)} - {""}
    return Report(
        application=name,
        since=since,
        until=until,
        step=step,
        spans=_spans(starts, turns, [failure for _, failure in failures], spent, prices),
        turns=len(turns),
        failures=len(failures),
        sessions=sum(bool(part.turns or part.failures) for part in parts),
        users=len(users),
        codes=dict(Counter(failure.code for _, failure in failures).most_common()),
        reasons=_reasons(failures),
        latency=Percentiles.of(took for turn in turns if (took := _latency(turn.times)) is not None),
        waited=Percentiles.of(turn.times.waited for turn in turns if turn.times.waited is not None),
        ran=Percentiles.of(turn.times.ran for turn in turns if turn.times.ran is not None),
        model_time=Percentiles.of(turn.times.model for turn in turns if turn.times.model is not None),
        models=_models(spent, prices),
        tools=_tools(turns),
        unread=[part.session_id for part in parts if part.unread],
    )


def _starts(first: int, until: int, since: int) -> tuple[str, list[int]]:
    """What the time is told by, and the starts of these: of the first in which something was, and all after it."""
    begin = datetime.fromtimestamp(max(first, since) / 1000)
    end = datetime.fromtimestamp(until / 1000)
    hours = (end - begin).total_seconds() / 3600
    day = begin.replace(hour=0, minute=0, second=0, microsecond=0)
    if hours <= _HOURS:
        # By the clock of the zone, of which an hour may come twice, or not at all.
        start = int(begin.replace(minute=0, second=0, microsecond=0).timestamp() * 1000)
        return "hour", list(range(start, until + 1, 3_600_000))
    step, days = ("day", 1) if hours <= _DAYS * 24 else ("week", 7)
    at = day if step == "day" else day - timedelta(days=day.weekday())
    starts = []
    while at <= end:
        starts.append(int(at.timestamp() * 1000))
        at += timedelta(days=days)
    return step, starts


def _spans(
    starts: Sequence[int],
    turns: Iterable[_Turn],
    failures: Iterable[Failure],
    spent: Iterable[Spent],
    prices: Prices,
) -> list[Span]:
    count = len(starts)
    latencies: list[list[int]] = [[] for _ in starts]
    answered, failed, tokens, costs = [0] * count, [0] * count, [0] * count, [0.0] * count
    for turn in turns:
        place = bisect_right(starts, turn.at) - 1
        answered[place] += 1
        if (took := _latency(turn.times)) is not None:
            latencies[place].append(took)
    for failure in failures:
        failed[bisect_right(starts, failure.ended) - 1] += 1
    for each in spent:
        place = bisect_right(starts, each.at) - 1
        tokens[place] += each.usage.input_tokens + each.usage.output_tokens
        costs[place] += prices.cost(each.model, each.usage) or 0.0
    return [
        Span(
            start, answered[at], failed[at], Percentiles.of(latencies[at]), tokens[at], costs[at] if prices else None
        )
        for at, start in enumerate(starts)
    ]


def _latency(times: TurnTimes) -> int | None:
    return times.ran if times.total is None else times.total


def _reasons(failures: Iterable[tuple[str, Failure]]) -> list[Reason]:
    by_reason: defaultdict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for session_id, failure in failures:
        line = " ".join(failure.reason.split())
        line = line if len(line) <= _REASON else f"{line[: _REASON - 1]}…"
        by_reason[failure.code, line].append((failure.ended, session_id))
    found = [Reason(*key, len(several), *max(several)) for key, several in by_reason.items()]
    return sorted(found, key=lambda each: (-each.count, -each.newest))[:_REASONS]


def _models(spent: Iterable[Spent], prices: Prices) -> list[ModelUse]:
    by_model: defaultdict[str, list[Spent]] = defaultdict(list)
    for each in spent:
        by_model[each.model].append(each)
    found = []
    for model, several in by_model.items():
        usage = sum((each.usage for each in several), Usage())
        kinds = Counter(each.kind for each in several)
        found.append(ModelUse(model, kinds["turn"], kinds["failed"], usage, prices.cost(model, usage)))
    return sorted(found, key=lambda each: (-each.turns, each.model))


def _tools(turns: Iterable[_Turn]) -> list[ToolUse]:
    calls: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    took: defaultdict[str, list[int]] = defaultdict(list)
    for turn in turns:
        calls.update(tool for _, tool in turn.tools)
        names = dict(turn.tools)
        for each in turn.times.tools:
            tool = names.get(each.call_id, NESTED)
            calls[tool] += tool == NESTED
            failed[tool] += each.failed
            took[tool].append(each.took)
    found = [ToolUse(tool, count, failed[tool], Percentiles.of(took[tool])) for tool, count in calls.items() if count]
    return sorted(found, key=lambda each: (-each.calls, each.tool))


def _counts(usage: Usage) -> Mapping[str, int]:
    return {
        "requests": usage.requests,
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
    }
