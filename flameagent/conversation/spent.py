"""What a conversation has used of models: each turn and each summary once, also where it was taken back.

What copies brought was used elsewhere, and does not count here again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flameagent.conversation.conversation import Conversation
from flameagent.conversation.usage import Usage


@dataclass(frozen=True)
class Spent:
    """One turn, or a summary (which is no turn): who has had it made when (epoch milliseconds), and its usage.

    `id` tells it from the others of its conversation.
    """

    id: str
    at: int
    user: str
    model: str
    usage: Usage
    is_turn: bool = True


def spent_in(conversation: Conversation) -> Iterator[Spent]:
    """What was used by what was read of a conversation."""
    taken = (block for rewind in conversation.rewinds for block in rewind.blocks)
    for block in (*conversation.blocks, *taken):
        turn = block.turn
        if turn is not None and turn.source is None:
            yield Spent(turn.id, turn.at, turn.user or conversation.owner, turn.model, turn.usage)
    for each in conversation.summaries:
        summary, number = each.summary, "{}.{}".format(*each.place)
        yield Spent(number, summary.at, conversation.owner, summary.model, summary.usage, is_turn=False)
