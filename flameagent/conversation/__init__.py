"""What a conversation is, and how it is kept in the CommonData of a Flame session.

Records are appended to an object of Flame's cache and fold to the conversation; `FlameSession` is that
conversation as the OpenAI Agents SDK uses it.
"""

from flameagent.conversation.errors import (
    CancelledError,
    ConflictError,
    ConversationError,
    DamagedError,
    MissingError,
    UnclearError,
    WaitingError,
)
from flameagent.conversation.fold import Conversation, Turn, Waiting
from flameagent.conversation.log import ConversationLog
from flameagent.conversation.records import Call, DecisionBody, EditBody, Facts, Item, PendingBody, TurnBody, Usage
from flameagent.conversation.session import WINDOW, FlameSession, StagedTurn

__all__ = [
    "WINDOW",
    "Call",
    "CancelledError",
    "ConflictError",
    "Conversation",
    "ConversationError",
    "ConversationLog",
    "DamagedError",
    "DecisionBody",
    "EditBody",
    "Facts",
    "FlameSession",
    "Item",
    "MissingError",
    "PendingBody",
    "StagedTurn",
    "Turn",
    "TurnBody",
    "UnclearError",
    "Usage",
    "Waiting",
    "WaitingError",
]
