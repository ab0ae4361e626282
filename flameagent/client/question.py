"""The question as it is sent; checked before anything is started for it."""

from __future__ import annotations

from flameagent.client.errors import UsageError
from flameagent.text import well_formed
from flamewire.limits import MESSAGE_LIMIT

_ROOM = 64 * 1024  # of Flame's message, for what is not the question


def check(question: str) -> str:
    """The question as it is sent: text without lone surrogates, which no model's server takes.

    Raises `UsageError` for one that is empty or too long for Flame.
    """
    question = well_formed(question)
    if not question.strip():
        raise UsageError("The message is empty; nothing was asked.")
    if len(question) > MESSAGE_LIMIT - _ROOM or len(question.encode()) > MESSAGE_LIMIT - _ROOM:
        limit = (MESSAGE_LIMIT - _ROOM) / 1024 / 1024
        raise UsageError(f"The message is too long for Flame, which takes {limit:.1f} MB; nothing was asked.")
    return question
