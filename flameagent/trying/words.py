"""Words for a comparison, in a terminal and on a page."""

from __future__ import annotations

from dataclasses import dataclass, field

from flameagent.client.replay import MadeCall, Outcome
from flameagent.conversation import Usage
from flameagent.transcript import wording
from flameagent.trying.comparison import Compared, Comparison

OUTCOMES: dict[Outcome, str] = {
    "recorded": "output of the record",
    "not_run": "not run: not in the record",
    "would_wait": "would wait for an approval",
    "ran": "ran",
    "handoff": "handed over",
    "refused": "refused",
}


@dataclass(frozen=True)
class Side:
    """One side of a turn: who answered, what, with which calls (each with a word for it), and what it took."""

    who: str
    answer: str
    took: str
    calls: list[tuple[MadeCall, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    answered: bool = True


@dataclass(frozen=True)
class Pair:
    """A turn, as it was recorded and as it is now.

    `attached` are lines for what went with the question, `differs` words for what is another now.
    """

    heading: str
    question: str
    attached: list[str]
    recorded: Side
    replayed: Side
    differs: list[str]


def title(found: Comparison) -> str:
    """What was asked again."""
    return f"Replay of {found.session_id}"


def how(found: Comparison) -> str:
    """By whom, and how."""
    told = [found.application, found.how.model]
    told.append("on its own answers" if found.how.on_own_answers else "each turn behind the recorded ones")
    told.append("tools ran" if found.how.run_tools else "no tool ran")
    return " · ".join(filter(None, told))


def summary(found: Comparison) -> str:
    """What came of it, in a line."""
    others = sum(not each.same_answer for each in found.turns if each.again.status == "answered")
    calls = sum(not each.same_calls for each in found.turns if each.again.status != "failed")
    waits = sum(each.again.status == "would_wait" for each in found.turns)
    failed = sum(each.again.status == "failed" for each in found.turns)
    before, after = found.usage
    parts = [
        wording.turns(len(found.turns)),
        _several(others, "other answer"),
        _several(calls, "turn", " with other calls"),
        f"{waits} would wait" if waits else "",
        f"{failed} failed" if failed else "",
        f"tokens {_tokens(before)} → {_tokens(after)}",
    ]
    recorded = [each.recorded.seconds for each in found.turns]
    if all(seconds is not None for seconds in recorded):
        now = sum(each.again.seconds for each in found.turns)
        parts.append(f"time {sum(filter(None, recorded)):.1f} s → {now:.1f} s")
    return " · ".join(filter(None, parts))


def pair(each: Compared) -> Pair:
    """A turn, side by side."""
    before, now = each.recorded, each.again
    differs = [] if each.same_answer or now.status != "answered" else ["another answer"]
    differs += [] if each.same_calls or now.status == "failed" else ["other calls"]
    differs += {"would_wait": ["would wait"], "failed": ["failed"]}.get(now.status, [])
    notes = [now.note] if now.note else []
    answer = now.error if now.status == "failed" else now.answer
    return Pair(
        f"Turn {before.turn.number}",
        before.turn.question,
        [wording.attached(each) for each in before.turn.attachments if not each.call],
        Side(
            " · ".join(filter(None, ("recorded", before.turn.model))),
            before.answer,
            _took(before.turn.usage, before.seconds),
            [(call, "") for call in before.calls],
        ),
        Side(
            " · ".join(filter(None, ("now", now.model))),
            answer or ("(waits for an approval)" if now.status == "would_wait" else ""),
            _took(now.usage, now.seconds),
            [(call, OUTCOMES[call.outcome]) for call in now.calls],
            notes,
            now.status == "answered",
        ),
        differs,
    )


def _took(usage: Usage, seconds: float | None) -> str:
    requests = f"{usage.requests} request{'' if usage.requests == 1 else 's'}"
    return " · ".join(
        filter(None, (requests, f"{_tokens(usage)} tokens", "" if seconds is None else f"{seconds:.1f} s"))
    )


def _tokens(usage: Usage) -> str:
    return f"{usage.input_tokens} + {usage.output_tokens}"


def _several(count: int, what: str, more: str = "") -> str:
    return f"{count} {what}{'' if count == 1 else 's'}{more}" if count else f"no {what}{more}"
