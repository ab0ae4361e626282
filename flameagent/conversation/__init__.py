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
from flameagent.conversation.fold import Conversation, Rewound, Waiting, copied
from flameagent.conversation.log import ConversationLog
from flameagent.conversation.records import (
    Block,
    Call,
    Decided,
    DecisionBody,
    EditBody,
    Facts,
    Item,
    Kept,
    PendingBody,
    Turn,
    TurnBody,
    Usage,
)
from flameagent.conversation.session import WINDOW, FlameSession, StagedTurn

__all__ = [
    "WINDOW",
    "Block",
    "Call",
    "CancelledError",
    "ConflictError",
    "Conversation",
    "ConversationError",
    "ConversationLog",
    "DamagedError",
    "Decided",
    "DecisionBody",
    "EditBody",
    "Facts",
    "FlameSession",
    "Item",
    "Kept",
    "MissingError",
    "PendingBody",
    "Rewound",
    "StagedTurn",
    "Turn",
    "TurnBody",
    "UnclearError",
    "Usage",
    "Waiting",
    "WaitingError",
    "copied",
]
