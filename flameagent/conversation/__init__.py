"""Conversations, and how they are kept in the CommonData of a Flame session.

Records are appended to an object of Flame's cache and fold to the conversation; `FlameSession` is that
conversation as the OpenAI Agents SDK uses it.
"""

from flameagent.conversation.answers import stored_answer, waiting_answer
from flameagent.conversation.conversation import Conversation, Rewind, copy_edit
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
    DecisionBody,
    EditBody,
    Facts,
    Item,
    PendingBody,
    Turn,
    TurnBody,
    TurnDecision,
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
    "DecisionBody",
    "EditBody",
    "Facts",
    "FlameSession",
    "Item",
    "MissingError",
    "PendingApproval",
    "PendingBody",
    "Rewind",
    "StagedTurn",
    "State",
    "StoredTurn",
    "Turn",
    "TurnBody",
    "TurnDecision",
    "UnclearError",
    "Usage",
    "WaitingError",
    "copy_edit",
    "fold_row",
    "stored_answer",
    "waiting_answer",
]
