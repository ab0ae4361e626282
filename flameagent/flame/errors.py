"""Failures between us and Flame, each with the sentence that a user sees."""


class FlameError(Exception):
    """Flame, or the way to it, failed. The message is a sentence for the user."""


class Misconfigured(FlameError):
    """A setting of the way to Flame makes no sense; the message names who set it. Mend that."""


class Unreachable(FlameError):
    """Nobody answers at the endpoint, or not in time. Check it, or start the engine, and try again."""


class Mismatch(Unreachable):
    """The client and what answers do not agree on TLS. The message says what to change."""


class NotFlame(FlameError):
    """Something answers at the endpoint, and it is not Flame 0.6. Check the endpoint."""


class NotFound(FlameError):
    """Flame has no such session, task, application or object."""


class NotOpen(FlameError):
    """The session is closed: its history can be read, and nothing can be added."""


class Refused(FlameError):
    """Flame understood and refused; its own words are in the message."""


class CacheFull(Refused):
    """The object has as many patches as Flame allows (1000): a new one must be begun."""


def refusal(text: str) -> Refused:
    """The refusal of a write, by the cache's words."""
    return CacheFull(text) if "maximum delta count" in text else Refused(text)


class Unclear(FlameError):
    """The call broke off: it may have happened or not. Look before saying either."""
