"""Asking the human at the terminal what is to become of calls that wait.

Promises that nothing is decided by accident: what was typed before the question does not count, and Enter alone
decides nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from flameagent.apis import Decision
from flameagent.cli.terminal import render
from flameagent.cli.terminal.screen import Screen
from flameagent.client import approvals
from flameagent.client.approvals import Pending
from flameagent.conversation import Call

Word = Literal["approve", "reject", "always", "later"]

_WORDS: Mapping[str, Word] = {
    **dict.fromkeys(("a", "approve", "y", "yes"), "approve"),
    **dict.fromkeys(("r", "reject", "n", "no"), "reject"),
    **dict.fromkeys(("w", "always"), "always"),
    **dict.fromkeys(("", "l", "later"), "later"),
}


@dataclass(frozen=True)
class ApprovalChoice:
    """The choice of a human about one call; `reason` is why they rejected it."""

    word: Word
    reason: str = ""


@dataclass
class ApprovalPrompt:
    """The questions to the human at the terminal, and their choices that no decision has carried to the agent yet."""

    screen: Screen
    choices: dict[str, ApprovalChoice] = field(default_factory=dict)

    def decide(self, pending: Pending) -> Decision | None:
        """Ask about each call that was not asked about yet; None when nothing is to be decided now.

        Raises `KeyboardInterrupt` for Ctrl-C and `EOFError` for the end of standard input, with nothing decided.
        """
        unasked = [call for call in pending.calls if call.id not in self.choices]
        if unasked:
            for line in render.waiting(pending):
                self.screen.text(line)
        for call in unasked:
            self.choices[call.id] = self._ask(call)
        return self._decision(pending)

    def _ask(self, call: Call) -> ApprovalChoice:
        _forget_typed()
        may = "[r]eject (and why), [l]ater" if call.runner else "[a]pprove, [r]eject (and why), al[w]ays, [l]ater"
        while True:
            self.screen.part(f"{call.id}: {may}? ")
            typed = _line()
            word, _, reason = typed.strip().partition(" ")
            choice = _WORDS.get(word.casefold())
            if call.runner and choice in ("approve", "always"):
                self.screen.text("Only a client can give its result: say reject or later, or its letter.")
                continue
            if choice == "reject" or (choice and not reason):
                return ApprovalChoice(choice, reason.strip())
            self.screen.text("Say approve, reject, always or later, or its letter. Enter alone is later.")

    def _decision(self, pending: Pending) -> Decision | None:
        """`always` holds for all that a decision approves: calls that are approved just once go with another one."""
        said: dict[Word, list[str]] = {"approve": [], "reject": [], "always": [], "later": []}
        for call in pending.calls:
            said[self.choices[call.id].word].append(call.id)
        approve = said["always"] or said["approve"]
        if not approve and not said["reject"]:
            return None
        # If they wait again all the same, that is another question.
        carried = [self.choices.pop(call) for call in [*approve, *said["reject"]]]
        reason = " ".join(filter(None, (choice.reason for choice in carried)))
        return approvals.make_decision(pending, approve, said["reject"], reason, always=bool(said["always"]))


def _forget_typed() -> None:
    with suppress(ImportError, OSError):  # no such thing, or no terminal
        import termios

        termios.tcflush(sys.stdin, termios.TCIFLUSH)


def _line() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line
