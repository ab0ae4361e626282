"""Errors of a conversation, each with the sentence that a user sees, and the code of the Answer that says it."""

from typing import ClassVar


class ConversationError(Exception):
    """A conversation could not be read or added to. The message is a sentence for the user.

    `code` is that of an Answer whose turn failed with it.
    """

    code: ClassVar[str] = "failed"


class MissingError(ConversationError):
    """The conversation's objects are gone from the cache: the session was deleted or its storage lost."""


class DamagedError(ConversationError):
    """A record is missing, unreadable or newer than this program; what came before it can be read.

    `record` is its number, counted from 1.
    """

    code = "damaged"

    def __init__(self, record: int, message: str) -> None:
        super().__init__(message)
        self.record = record


class ConflictError(ConversationError):
    """Someone else added to the conversation first. Read it again and decide anew; nothing was added."""

    code = "conflict"


class AlreadyDecidedError(ConflictError):
    """The calls do not wait any more: someone else has decided on them. Look at the history; nothing was added."""

    def __init__(self) -> None:
        super().__init__("That does not wait any more: someone else has decided. Look at the history.")


class CancelledError(ConversationError):
    """The turn was cancelled before it could be added; nothing was added."""

    code = "cancelled"

    def __init__(self) -> None:
        super().__init__("The turn was cancelled; nothing was added.")


class BudgetReachedError(ConversationError):
    """What a turn, its session, or its user today may use is used up, so no model is asked; nothing was added."""

    code = "budget_reached"


class WaitingError(ConversationError):
    """A tool call waits for an approval: decide on it first; nothing was added."""

    code = "waiting"

    def __init__(self) -> None:
        super().__init__("A tool call of this conversation waits for an approval: decide on it first.")


class NotOwnerError(ConversationError):
    """The session is somebody else's: for this user there is none of that ID."""

    code = "no_session"

    def __init__(self) -> None:
        super().__init__("There is no such session of this user; nothing was added.")


class AttachmentError(ConversationError):
    """An attachment of the question is not there, or is none. Attach it again; nothing was added."""

    code = "usage"


class UnclearError(ConversationError):
    """The cache went away inside the append: the record may have been added. Look before saying either."""

    code = "unclear"
