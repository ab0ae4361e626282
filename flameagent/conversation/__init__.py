"""What a conversation is, and how it is kept in the CommonData of a Flame session.

Records are appended to an object of Flame's cache and fold to the conversation; `FlameSession` is that
conversation as the OpenAI Agents SDK uses it.
"""

from flameagent.conversation.answers import stored_answer, waiting_answer
from flameagent.conversation.conversation import Conversation, Rewound, copy_edit
from flameagent.conversation.errors import (
    AlreadyDecidedError,
    CancelledError,
    ConflictError,
    ConversationError,
    DamagedError,
    MissingError,
    UnclearError,
    WaitingError,
)
from flameagent.conversation.fold import fold_row
from flameagent.conversation.log import ConversationLog
from flameagent.conversation.reader import ConversationReader
from flameagent.conversation.records import (
    Block,
    Call,
    Checkpoint,
    Decided,
    DecisionBody,
    EditBody,
    Facts,
    Item,
    PendingBody,
    Turn,
    TurnBody,
    Usage,
)
from flameagent.conversation.session import WINDOW, FlameSession
from flameagent.conversation.staging import StagedTurn
from flameagent.conversation.state import PendingApproval, State, StoredTurn

__all__ = [
    "WINDOW",
    "AlreadyDecidedError",
    "Block",
    "Call",
    "CancelledError",
    "Checkpoint",
    "ConflictError",
    "Conversation",
    "ConversationError",
    "ConversationLog",
    "ConversationReader",
    "DamagedError",
    "Decided",
    "DecisionBody",
    "EditBody",
    "Facts",
    "FlameSession",
    "Item",
    "MissingError",
    "PendingApproval",
    "PendingBody",
    "Rewound",
    "StagedTurn",
    "State",
    "StoredTurn",
    "Turn",
    "TurnBody",
    "UnclearError",
    "Usage",
    "WaitingError",
    "copy_edit",
    "fold_row",
    "stored_answer",
    "waiting_answer",
]
