"""The outcomes of a command: the one table of exit codes, and of errors with their code words.

From it come the client's errors, what a client raises for an `Answer.code` and for an error of Flame or of a
conversation, the exit codes in the program's help, and the table in docs/terminal.md.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

ADDED = 9
"""The exit code where the turn was added and its output could not be written."""

EXIT_CODES: dict[int, str] = {
    0: "answered",
    1: "the turn failed and nothing was added",
    2: "usage",
    3: "waits for an approval",
    4: "no such session or a closed one",
    5: "no engine",
    6: "conflict",
    7: "timed out (the turn may still finish)",
    8: "the conversation is damaged",
    ADDED: "the turn was added and its output could not be written",
    130: "interrupted (the turn goes on; a second Ctrl-C within two seconds cancels it)",
}
"""The exit codes of the program."""


class Error(NamedTuple):
    """A kind of error: the word in JSON, the exit code, and the meaning for people.

    `in_answers` says that an agent says it too, in `Answer.code`.
    """

    code: str
    exit_code: int
    meaning: str
    in_answers: bool = False


ERRORS: dict[str, Error] = {
    error.code: error
    for error in (
        Error("failed", 1, "it failed; of a turn nothing was added", True),
        Error("model", 1, "the model or its server failed; nothing was added", True),
        Error("tool", 1, "a tool failed; nothing was added", True),
        Error("cancelled", 1, "the turn was cancelled; nothing was added", True),
        Error(
            "budget_reached",
            1,
            "what a turn, its session, or its user in a day may use is used up; nothing was added",
            True,
        ),
        Error("usage", 2, "what was asked for makes no sense; nothing was done", True),
        Error("waiting", 3, "a tool call waits for an approval; decide on it first", True),
        Error("no_session", 4, "no session has that ID, or it is another user's", True),
        Error("ambiguous", 4, "several sessions have that in their ID; give more of it"),
        Error("closed", 4, "the session is closed: its history can be read, and nothing can be added"),
        Error("no_engine", 5, "nobody answers, it is no Flame, or the embedded engine cannot start"),
        Error("not_registered", 5, "the cluster does not know the application; register it"),
        Error("conflict", 6, "somebody else was first; look at the history and decide anew", True),
        Error("timeout", 7, "no answer in time; the turn may still finish"),
        Error("unclear", 7, "it may have happened or not; look at the history before asking again", True),
        Error("damaged", 8, "a record is missing, unreadable or newer than the program; or all are gone", True),
        Error("output", 1, f"the output could not be written; {ADDED} after a turn that was added, 3 where it waits"),
        Error("interrupted", 130, "Ctrl-C; the message says what became of the turn"),
    )
}
"""The kinds of errors, by their code words."""


@cache
def _raised() -> tuple[tuple[type[Exception], str], ...]:
    """The errors of conversations and of Flame, the special before the general, and the code words for a client."""
    from flameagent import conversation, flame  # not before one was raised: they take a tenth of a second

    return (
        (conversation.MissingError, "damaged"),
        (conversation.NotOwnerError, "no_session"),
        (conversation.DamagedError, "damaged"),
        (conversation.ConflictError, "conflict"),
        (conversation.CancelledError, "conflict"),
        (conversation.UnclearError, "unclear"),
        (flame.Misconfigured, "usage"),
        (flame.Unreachable, "no_engine"),
        (flame.NotFlame, "no_engine"),
        (flame.NotFound, "no_session"),
        (flame.NotOpen, "closed"),
        (flame.Unclear, "unclear"),
    )


def client_code(error: Exception) -> str:
    """The code word of the error that a client raises for one of Flame or of a conversation."""
    return next((code for kind, code in _raised() if isinstance(error, kind)), "failed")
