"""What can go wrong for who asks, each with the sentence that they see, a code word and an exit code.

Promises one hierarchy: whoever catches `ClientError` has caught everything that this package raises on
purpose. Importing it costs nothing, so that the command line can name errors before it loads anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flameagent.conversation import Call


class ClientError(Exception):
    """Something failed. The message is a sentence for the user.

    `code` is the word that `--json` prints; `exit_code` is the program's; `session_id` is the session it was
    about, where there was one; `advice` is a line for people that says what to do next, where there is one.
    """

    code = "failed"
    exit_code = 1
    advice = ""

    def __init__(self, message: str, *, session_id: str = "") -> None:
        super().__init__(message)
        self.session_id = session_id


class TurnFailed(ClientError):
    """The turn failed and nothing was added. Do what the sentence says and ask again.

    `code` says where: `model`, `tool`, `cancelled` or `failed`.
    """

    def __init__(self, message: str, *, session_id: str = "", code: str = "failed") -> None:
        super().__init__(message, session_id=session_id)
        self.code = code


class UsageError(ClientError):
    """What was asked for makes no sense: nothing was done."""

    code = "usage"
    exit_code = 2


class WaitingError(ClientError):
    """A tool call of this conversation waits for a decision; a new question is refused until then.

    `pending` are the calls.
    """

    code = "waiting"
    exit_code = 3

    def __init__(self, message: str, *, session_id: str = "", pending: Sequence[Call] = ()) -> None:
        super().__init__(message, session_id=session_id)
        self.pending = tuple(pending)


class NoSuchSession(ClientError):
    """No session of this application has that ID. `sessions` lists those there are."""

    code = "no_session"
    exit_code = 4


class AmbiguousSession(ClientError):
    """More than one session has that in its ID. The message names them: give more of it."""

    code = "ambiguous"
    exit_code = 4


class SessionClosed(ClientError):
    """The session is closed: its history can be read, and nothing can be added."""

    code = "closed"
    exit_code = 4


class NoEngine(ClientError):
    """There is no Flame to talk to: nobody answers, it is not Flame, or the embedded engine cannot start."""

    code = "no_engine"
    exit_code = 5


class NotRegistered(NoEngine):
    """Flame does not know the application yet. Register it with the line in the message."""

    code = "not_registered"


class ConflictError(ClientError):
    """Someone else was first. Look at the history and decide anew."""

    code = "conflict"
    exit_code = 6


class TimedOut(ClientError):
    """No answer in time; the turn may still finish. Look at the history before asking again."""

    code = "timeout"
    exit_code = 7


class UnclearError(ClientError):
    """It may have happened or not. Look at the history before asking again."""

    code = "unclear"
    exit_code = 7


class DamagedError(ClientError):
    """A record of the conversation is missing, unreadable or newer than this program, or its objects are gone."""

    code = "damaged"
    exit_code = 8


ADDED = 9
"""The exit code where the turn was added and its output could not be written."""


class OutputError(ClientError):
    """What there was to print could not be written to standard output: a full disk, a terminal that has gone.

    `reason` is the system's; `done` says what is done all the same, and `exit_code` goes with it.
    """

    code = "output"

    def __init__(self, reason: str, *, done: str = "", session_id: str = "", exit_code: int = 1) -> None:
        what = f"{done}, and its output could not be written" if done else "The output could not be written"
        super().__init__(f"{what}: {reason}.", session_id=session_id)
        self.reason = reason
        self.exit_code = exit_code


class Interrupted(ClientError):
    """Ctrl-C. The message says what became of the turn."""

    code = "interrupted"
    exit_code = 130
