"""The traces that `AGENT_TRACING=file` has kept on this machine: those of a session, turn by turn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from flameagent.client.errors import AmbiguousSession, ClientError, NoSuchSession, UsageError
from flameagent.tracing import file

Span: TypeAlias = dict[str, Any]
"""A span as a line of the file has it: `trace_id`, `span_id`, `parent_id`, `name`, `kind`, `start` and `end` in epoch
nanoseconds, `error`, `attributes`, and the `resource` that it is of."""

LOST = "lost attempt"
"""The name of the span of an attempt whose worker was killed."""

_PART = 6  # digits that are no turn's number, but a part of an ID

_HOW = "A turn is kept there when it is asked with AGENT_TRACING=file; what goes to a collector is looked at there."


@dataclass(frozen=True)
class TurnTrace:
    """What is known of one turn: its spans, oldest first."""

    session_id: str
    turn_id: str
    spans: tuple[Span, ...]

    @property
    def number(self) -> int | None:
        """The turn's number in its conversation; None where it was not added, or that is not in the file."""
        return next((found for found in map(_number, reversed(self.spans)) if found), None)

    @property
    def start(self) -> int:
        """When it began, in epoch nanoseconds."""
        return min(int(span["start"]) for span in self.spans)

    @property
    def end(self) -> int:
        """When the last of it ended."""
        return max(int(span["end"]) for span in self.spans)

    @property
    def outcome(self) -> str:
        """How it ended, in a word; "" where that is not in the file."""
        told = [span for span in self.spans if "flame.outcome" in span["attributes"]]
        newest = max(told, key=lambda span: int(span["end"]), default=None)
        return "" if newest is None else str(newest["attributes"]["flame.outcome"])

    @cached_property
    def _below(self) -> Mapping[str, list[Span]]:
        known, below = {span["span_id"] for span in self.spans}, defaultdict(list)
        lost = [span for span in self.spans if span["name"] == LOST]
        for span in self.spans:
            above = span["parent_id"]
            if above not in known:
                # What a worker that was killed was in the middle of is in no file.
                within = (each for each in lost if each["start"] <= span["start"] <= each["end"])
                above = next((each["span_id"] for each in within), "")
            below[above].append(span)
        return below

    def tree(self) -> Iterator[tuple[Span, tuple[bool, ...]]]:
        """The spans, each behind what it is a part of; with whether it, and each above it, is the last of a row."""
        waiting: list[tuple[Span, tuple[bool, ...]]] = [(span, (last,)) for span, last in _with_last(self._below[""])]
        waiting.reverse()
        while waiting:
            span, lasts = waiting.pop()
            yield span, lasts
            parts = [(part, (*lasts, last)) for part, last in _with_last(self._below.get(span["span_id"], []))]
            waiting += reversed(parts)

    def as_json(self) -> list[dict[str, Any]]:
        """The spans in the order of the tree; times in epoch milliseconds."""
        return [
            {**span, "start": round(span["start"] / 1e6, 3), "end": round(span["end"] / 1e6, 3)}
            for span, _ in self.tree()
        ]


def _with_last(spans: Sequence[Span]) -> list[tuple[Span, bool]]:
    ordered = sorted(spans, key=lambda span: (span["start"], -span["end"]))
    return [(span, place == len(ordered)) for place, span in enumerate(ordered, start=1)]


def _number(span: Span) -> int | None:
    number = span["attributes"].get("flame.turn.number")
    return number if isinstance(number, int) else None


def _named(span: Span, name: str) -> str:
    value = span["attributes"].get(name)
    return value if isinstance(value, str) else ""


def find(session: str, turn: str | None) -> tuple[TurnTrace, list[TurnTrace]]:
    """The trace of a turn, by its number or a part of its ID, and of all turns of its session, oldest first.

    Of several attempts under one number, the newest; without a turn that of the newest. Raises `NoSuchSession`,
    `AmbiguousSession`, and `UsageError` where there is no such turn.
    """
    spans = _read()
    session_id = _session(session, {_named(span, "session.id") for span in spans} - {""})
    turns = _turns(spans, session_id)
    if turn is None:
        return turns[-1], turns
    is_number = turn.isdecimal() and len(turn) < _PART
    if is_number:
        found = [each for each in turns if str(each.number) == turn]
    else:
        found = [each for each in turns if turn and turn.casefold() in each.turn_id.casefold()]
    if not found:
        there = ", ".join(str(each.number or each.turn_id) for each in turns)
        raise UsageError(
            f"There is no trace of a turn {turn} of {session_id}; of these there is: {there}. {_HOW}",
            session_id=session_id,
        )
    if not is_number and len(found) > 1:
        named = ", ".join(each.turn_id for each in found)
        raise UsageError(
            f"{len(found)} turns have {turn!r} in their ID: {named}. Give more of it.", session_id=session_id
        )
    return found[-1], turns


def _read() -> list[Span]:
    where = file.folder()
    if where is None:
        raise UsageError("Traces are kept in the user's home, and this user has none.")
    try:
        spans = list(file.lines(where))
    except OSError as error:
        raise ClientError(f"The traces in {where} cannot be read: {error.strerror or error}.") from error
    if not spans:
        raise NoSuchSession(f"There are no traces in {where}. {_HOW}")
    return spans


def _session(wanted: str, known: set[str]) -> str:
    if wanted in known:
        return wanted
    found = sorted(each for each in known if wanted and wanted.casefold() in each.casefold())
    if not found:
        raise NoSuchSession(f"There is no trace of a session with {wanted!r} in its ID. {_HOW}")
    if len(found) > 1:
        named = ", ".join(found[:8]) + (", …" if len(found) > 8 else "")
        raise AmbiguousSession(f"{len(found)} sessions have {wanted!r} in their ID: {named}. Give more of it.")
    return found[0]


def _turns(spans: Sequence[Span], session_id: str) -> list[TurnTrace]:
    by_id = {span["span_id"]: span for span in spans}
    below = defaultdict(list)
    for span in spans:
        below[span["parent_id"]].append(span)
    of_turn: dict[str, dict[str, Span]] = defaultdict(dict)
    for span in spans:
        turn_id = _named(span, "flame.turn.id")
        if not turn_id or _named(span, "session.id") != session_id:
            continue
        found = of_turn[turn_id]
        parts = [span]
        for part in parts:  # all that it consists of
            if part["span_id"] not in found:
                found[part["span_id"]] = part
                parts += below[part["span_id"]]
        while (above := by_id.get(span["parent_id"])) is not None and above["span_id"] not in found:
            found[above["span_id"]] = span = above
    turns = [
        TurnTrace(session_id, turn_id, tuple(sorted(found.values(), key=lambda span: int(span["start"]))))
        for turn_id, found in of_turn.items()
    ]
    return sorted(turns, key=lambda turn: turn.start)
