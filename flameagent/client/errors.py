"""The errors of the client, each with the sentence that a user sees; their exit codes are in `flameagent.outcomes`.

Promises one hierarchy: whoever catches `ClientError` has caught everything that this package raises on
purpose. Importing it costs nothing, so that the command line can name errors before it loads anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flameagent.outcomes import ERRORS

if TYPE_CHECKING:
    from flameagent.conversation import Call


class ClientError(Exception):
    """Something failed. The message is a sentence for the user.

    `code` is the word that `--json` prints; `exit_code` is the program's; `session_id` is the session it was
    about, where there was one; `advice` is a line for people that says what to do next, where there is one.
    """

    code = "failed"
    exit_code = ERRORS[code].exit_code
    advice = ""

    def __init_subclass__(cls) -> None:
        cls.exit_code = ERRORS[cls.code].exit_code

    def __init__(self, message: str, *, session_id: str = "") -> None:
        super().__init__(message)
        self.session_id = session_id


class TurnFailed(ClientError):
    """The turn failed and nothing was added. Do what the sentence says and ask again.

    `code` says why: `model`, `tool`, `cancelled`, `budget_reached` or `failed`.
    """

    def __init__(self, message: str, *, session_id: str = "", code: str = "failed") -> None:
        super().__init__(message, session_id=session_id)
        self.code = code


class UsageError(ClientError):
    """The command or the configuration makes no sense: nothing was done."""

    code = "usage"


class WaitingError(ClientError):
    """A tool call of this conversation waits for a decision; a new question is refused until then.

    `pending` are the calls.
    """

    code = "waiting"

    def __init__(self, message: str, *, session_id: str = "", pending: Sequence[Call] = ()) -> None:
        super().__init__(message, session_id=session_id)
        self.pending = tuple(pending)


class NoSuchSession(ClientError):
    """No session of this application has that ID. `sessions` lists those there are."""

    code = "no_session"


class AmbiguousSession(ClientError):
    """More than one session has that in its ID. The message names them: give more of it."""

    code = "ambiguous"


class SessionClosed(ClientError):
    """The session is closed: its history can be read, and nothing can be added."""

    code = "closed"


class NoEngine(ClientError):
    """There is no Flame to talk to: nobody answers, it is not Flame, or the embedded engine cannot start."""

    code = "no_engine"


class NotRegistered(NoEngine):
    """Flame does not know the application yet. Register it with the line in the message."""

    code = "not_registered"


class ConflictError(ClientError):
    """Someone else was first. Look at the history and decide anew."""

    code = "conflict"


class TimedOut(ClientError):
    """No answer in time; the turn may still finish. Look at the history before asking again."""

    code = "timeout"


class UnclearError(ClientError):
    """It may have happened or not. Look at the history before asking again."""

    code = "unclear"


class DamagedError(ClientError):
    """A record of the conversation is missing, unreadable or newer than this program, or its objects are gone."""

    code = "damaged"


class OutputError(ClientError):
    """Standard output could not be written: a full disk, a terminal that has gone.

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


_BY_CODE: dict[str, type[ClientError]] = {
    kind.code: kind
    for kind in (
        ClientError,
        UsageError,
        WaitingError,
        NoSuchSession,
        AmbiguousSession,
        SessionClosed,
        NoEngine,
        NotRegistered,
        ConflictError,
        TimedOut,
        UnclearError,
        DamagedError,
    )
}


def error_class(code: str) -> type[ClientError]:
    """The kind of error with that code word; `ClientError` itself for a failure of no further kind."""
    return _BY_CODE.get(code, ClientError)
