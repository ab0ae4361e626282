"""Turns of a conversation as they were recorded, beside what comes of their questions when these are asked again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from flameagent.client.agent_connection import AgentConnection
from flameagent.client.errors import UsageError
from flameagent.client.replay import Again, MadeCall, RecordedTurn, Recording, ReplaySession, usage_as_json
from flameagent.conversation import Usage
from flameagent.conversation.replayed import arguments_value

_RANGE = re.compile(r"(?a:(\d{1,9})(?:(-)(\d{1,9})?)?)")


@dataclass(frozen=True)
class How:
    """How questions are asked again.

    By `model`, "" for the one that the settings choose; each with the conversation as it was recorded before it, or
    with `on_own_answers` on the answers that came meanwhile. `timeout` is in seconds, for a turn.
    """

    model: str = ""
    run_tools: bool = False
    on_own_answers: bool = False
    keep: bool = False
    timeout: float = 330.0


@dataclass(frozen=True)
class Compared:
    """A turn as it was recorded, and what came of its question now."""

    recorded: RecordedTurn
    again: Again

    @property
    def same_answer(self) -> bool:
        """True where the answers are the same but for white space."""
        return self.again.status == "answered" and self.recorded.answer.split() == self.again.answer.split()

    @property
    def same_calls(self) -> bool:
        """True where the same tools were called with the same arguments, in the same order."""
        return _calls(self.recorded.calls) == _calls(self.again.calls)

    def as_json(self) -> dict[str, Any]:
        """The two as `replay --json` prints them."""
        return {
            "turn": self.recorded.turn.number,
            "question": self.recorded.turn.question,
            "recorded": self.recorded.as_json(),
            "replayed": self.again.as_json(),
            "same_answer": self.same_answer,
            "same_calls": self.same_calls,
        }


def _calls(calls: Sequence[MadeCall]) -> list[tuple[str, str]]:
    return [(call.tool, arguments_value(call.arguments)) for call in calls]


@dataclass
class Comparison:
    """A replay: of which session, by which agent and how; `left` says which of its sessions are still there."""

    session_id: str
    application: str
    how: How
    turns: list[Compared] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """True where a question got no answer."""
        return any(each.again.status == "failed" for each in self.turns)

    @property
    def usage(self) -> tuple[Usage, Usage]:
        """What all turns used: as recorded, and now."""
        return (
            sum((each.recorded.turn.usage for each in self.turns), Usage()),
            sum((each.again.usage for each in self.turns), Usage()),
        )

    def as_json(self) -> dict[str, Any]:
        """The comparison as `replay --json` prints it."""
        recorded, replayed = self.usage
        return {
            "session_id": self.session_id,
            "application": self.application,
            "model": self.how.model,
            "run_tools": self.how.run_tools,
            "on_own_answers": self.how.on_own_answers,
            "kept": sorted({each.again.session_id for each in self.turns}) if self.how.keep else [],
            "left": self.left,
            "turns": [each.as_json() for each in self.turns],
            "usage": {"recorded": usage_as_json(recorded), "replayed": usage_as_json(replayed)},
        }


def chosen_turns(recording: Recording, wanted: str | None) -> list[RecordedTurn]:
    """The turns that are named: `3`, `2-4` or `2-`; without a name all. Raises `UsageError`."""
    numbers = [each.turn.number for each in recording.turns]
    has = (
        f"the conversation has turn {numbers[0]}"
        if len(numbers) == 1
        else f"it has turns {numbers[0]} to {numbers[-1]}"
    )
    if wanted is None:
        return list(recording.turns)
    named = _RANGE.fullmatch(wanted.strip())
    if named is None:
        raise UsageError(f"--turn is the number of a turn, or turns as in 2-4 or 2-, not {wanted!r}.")
    first = int(named[1])
    last = int(named[3]) if named[3] else numbers[-1] if named[2] else first
    found = [each for each in recording.turns if first <= each.turn.number <= last]
    if first not in numbers or (last not in numbers):
        raise UsageError(f"There is no turn {first if first not in numbers else last}: {has}.")
    if not found:
        raise UsageError(f"--turn {wanted} names no turn: the first comes behind the last.")
    return found


class Asking:
    """Asks turns of a recording again. What runs can be ended from another thread, or where Ctrl-C is dealt with."""

    def __init__(self, connection: AgentConnection, recording: Recording, how: How) -> None:
        self._connection = connection
        self._recording = recording
        self._how = how
        self._running: ReplaySession | None = None
        self.left: list[str] = []

    def ask(self, turns: Sequence[RecordedTurn], begins: Callable[[RecordedTurn], None]) -> Iterator[Compared]:
        """Ask them, and tell of each when it `begins`. Raises `ClientError` where no session can be made for them."""
        if self._how.on_own_answers:
            yield from self._in_one_session(list(turns), begins)
            return
        for turn in turns:
            yield from self._in_one_session([turn], begins)

    def _in_one_session(
        self, turns: list[RecordedTurn], begins: Callable[[RecordedTurn], None]
    ) -> Iterator[Compared]:
        made = {"run_tools": self._how.run_tools, "keep": self._how.keep}
        session = ReplaySession(self._connection, self._recording, turns, **made)
        try:
            with session:
                self._running = session
                for turn in turns:
                    begins(turn)
                    yield Compared(turn, session.ask(turn, self._how.model, self._how.timeout))
        finally:
            self._running = None
            if session.left:
                self.left.append(session.left)

    def cancel(self) -> None:
        """End the turn that runs."""
        if (session := self._running) is not None:
            session.cancel()
