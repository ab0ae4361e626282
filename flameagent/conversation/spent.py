"""What a session has used of models: each turn and summary once, taken back or not, and each attempt that failed.

What copies brought was used elsewhere, and does not count here again. The newest failures are known, not all
(`failures.py`), and not those of a process that was killed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from flameagent.conversation.conversation import Conversation
from flameagent.conversation.failures import Failure
from flameagent.conversation.usage import Usage


@dataclass(frozen=True)
class Spent:
    """One turn, an attempt at one that failed, or a summary: who has had it made, and its usage.

    `at` is in epoch milliseconds; `id` tells it from the others of its conversation.
    """

    id: str
    at: int
    user: str
    model: str
    usage: Usage
    kind: Literal["turn", "failed", "summary"] = "turn"


def spent_in(conversation: Conversation) -> Iterator[Spent]:
    """What was used by what was read of a conversation."""
    taken = (block for rewind in conversation.rewinds for block in rewind.blocks)
    for block in (*conversation.blocks, *taken):
        turn = block.turn
        if turn is not None and turn.source is None:
            yield Spent(turn.id, turn.at, turn.user or conversation.owner, turn.model, turn.usage)
    for each in conversation.summaries:
        summary, number = each.summary, "{}.{}".format(*each.place)
        yield Spent(number, summary.at, conversation.owner, summary.model, summary.usage, "summary")


def spent_in_vain(failures: Iterable[Failure], conversation: Conversation) -> Iterator[Spent]:
    """What was used by turns of a conversation that failed; one that was added all the same is among its turns."""
    for each in failures:
        was_added = each.code == "unclear" and conversation.find_turn(each.turn) is not None
        if each.usage != Usage() and not was_added:
            user = each.user or conversation.owner
            yield Spent(f"{each.task} {each.turn}", each.ended, user, each.model, each.usage, "failed")
