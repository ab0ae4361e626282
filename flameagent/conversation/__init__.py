"""Conversations, and how they are kept in the CommonData of a Flame session.

Records are appended to an object of Flame's cache and fold to the conversation; `FlameSession` is that
conversation as the OpenAI Agents SDK uses it.
"""

from flameagent.conversation.answers import output_of, stored_answer, waiting_answer
from flameagent.conversation.budget import Budget, Price, read_prices
from flameagent.conversation.conversation import Conversation, Rewind, Summarized, copy_edit
from flameagent.conversation.errors import (
    AlreadyDecidedError,
    AttachmentError,
    BudgetReachedError,
    CancelledError,
    ConflictError,
    ConversationError,
    DamagedError,
    MissingError,
    NotOwnerError,
    UnclearError,
    WaitingError,
)
from flameagent.conversation.fold import fold_row
from flameagent.conversation.log import ConversationLog
from flameagent.conversation.reader import ConversationReader
from flameagent.conversation.records import (
    CLIENT,
    Attached,
    Block,
    Call,
    Checkpoint,
    DecisionBody,
    EditBody,
    Facts,
    Item,
    PendingBody,
    QuestionData,
    RecordedCall,
    Replay,
    Source,
    Summary,
    Turn,
    TurnBody,
    TurnDecision,
)
from flameagent.conversation.session import WINDOW, FlameSession
from flameagent.conversation.spent import Spent, spent_in, spent_in_vain
from flameagent.conversation.staging import StagedTurn
from flameagent.conversation.state import PendingApproval, State, StoredTurn
from flameagent.conversation.usage import Usage
from flameagent.conversation.vectors import Vectors

__all__ = [
    "CLIENT",
    "WINDOW",
    "AlreadyDecidedError",
    "Attached",
    "AttachmentError",
    "Block",
    "Budget",
    "BudgetReachedError",
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
    "NotOwnerError",
    "PendingApproval",
    "PendingBody",
    "Price",
    "QuestionData",
    "RecordedCall",
    "Replay",
    "Rewind",
    "Source",
    "Spent",
    "StagedTurn",
    "State",
    "StoredTurn",
    "Summarized",
    "Summary",
    "Turn",
    "TurnBody",
    "TurnDecision",
    "UnclearError",
    "Usage",
    "Vectors",
    "WaitingError",
    "copy_edit",
    "fold_row",
    "output_of",
    "read_prices",
    "spent_in",
    "spent_in_vain",
    "stored_answer",
    "waiting_answer",
]
