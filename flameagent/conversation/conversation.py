"""A conversation as one reader has it: its state, and the items that were read.

Promises that whatever was read, the model's window and a checkpoint of earlier turns are the same for every reader.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from flameagent.conversation.errors import ConversationError, DamagedError
from flameagent.conversation.records import Block, Checkpoint, EditBody, Item, Turn, TurnDecision, Usage
from flameagent.conversation.state import SegmentBase, State, StoredTurn


@dataclass(frozen=True)
class Snapshot:
    """A conversation before a turn began: its first `length` blocks in `blocks`, to which later ones are added."""

    place: tuple[int, int]
    unloaded_items: int
    blocks: list[Block]
    length: int
    checkpoint: Checkpoint


@dataclass(frozen=True)
class Rewind:
    """A rewind: it took back the `blocks` after so many `turns`; `place` is its own. `at` is epoch milliseconds."""

    turns: int
    blocks: list[Block]
    by: str
    at: int
    place: tuple[int, int]


class Conversation(State):
    """The state of a conversation, and what one reader has read of it, possibly from a later segment on.

    `unloaded_items` lie in segments that were not read; `blocks` are the items since, and `rewinds` what was
    taken back of them. `whole` says that it was read from its first record on. `origin` is the session that it
    began as a copy of; `waited_call_ids` are of all calls that were read to wait, `newest_records` the newest IDs.
    `decisions` are those on the turn that waits, and `snapshots` are of the time before each turn, by its number.
    `next_segment` is set by the record that ends a segment; `damage` by the first row that is out of line, after
    which nothing is folded any more.
    """

    unloaded_items: int = 0
    blocks: list[Block] = msgspec.field(default_factory=list)
    rewinds: list[Rewind] = msgspec.field(default_factory=list)
    whole: bool = True
    origin: str = ""
    waited_call_ids: set[str] = msgspec.field(default_factory=set)
    newest_records: deque[str] = msgspec.field(default_factory=lambda: deque(maxlen=1000))
    decisions: list[TurnDecision] = msgspec.field(default_factory=list)
    snapshots: dict[int, Snapshot] = msgspec.field(default_factory=dict)
    next_segment: str | None = None
    damage: DamagedError | None = None

    @classmethod
    def from_context(cls, prompt: str, items: list[Item], size: int = 0) -> Conversation:
        """The conversation before its first record; `size` is that of the base, in bytes."""
        return cls(prompt=prompt, item_count=len(items), blocks=[Block(items)] if items else [], size=size)

    @classmethod
    def from_segment(cls, base: SegmentBase) -> Conversation:
        """The conversation as a later segment begins with it."""
        return cls(
            **{name: getattr(base, name) for name in State.__struct_fields__},
            unloaded_items=base.item_count,
            whole=False,
            waited_call_ids={call.id for call in base.waiting.calls} if base.waiting else set(),
        )

    def items(self) -> list[Item]:
        """The items that were read, oldest first."""
        return [item for block in self.blocks for item in block.items]

    def items_from(self, start: int) -> list[Item]:
        """The items from the index `start` (over all items) on; those before it must not be needed."""
        return self.items()[max(start - self.unloaded_items, 0) :]

    def call_ids(self) -> set[str]:
        """The IDs of calls that were read: those that are in it, and all that ever waited, also in nested runs."""
        return self.waited_call_ids | {str(item["call_id"]) for item in self.items() if item.get("call_id")}

    def turns(self) -> list[tuple[Turn, list[Item]]]:
        """The turns that were read, oldest first, each with its items."""
        return [(block.turn, block.items) for block in self.blocks if block.turn is not None]

    def find_turn(self, turn_id: str) -> StoredTurn | None:
        """The turn of that ID, if it is one of those that were read, taken back or not."""
        blocks = [*self.blocks, *(block for rewind in self.rewinds for block in rewind.blocks)]
        return next(
            (
                StoredTurn(turn.id, turn.question, turn.answer)
                for block in blocks
                if (turn := block.turn) is not None and turn.id == turn_id and turn.answer
            ),
            None,
        )

    def snapshot(self, part: int = 0) -> Snapshot:
        """The conversation now, before the block `part` of the newest record."""
        return Snapshot((self.seq, part), self.unloaded_items, self.blocks, len(self.blocks), self.checkpoint())

    def checkpoint_at(self, turns: int) -> tuple[Checkpoint, list[Block]]:
        """The conversation after that many turns, before the next one began; with the items that it had then.

        Everything has to be read. Raises `ConversationError` where there is no such turn.
        """
        if turns == self.turn_count and self.waiting is None:
            snapshot = self.snapshot()
        elif (found := self.snapshots.get(turns + 1)) is not None and 0 <= turns <= self.turn_count:
            snapshot = found
        else:
            count = "1 turn" if self.turn_count == 1 else f"{self.turn_count} turns"
            raise ConversationError(f"There is no turn {turns}: the conversation has {count}.")
        return snapshot.checkpoint, snapshot.blocks[: snapshot.length]

    def has_after(self, turns: int) -> bool:
        """True where there is something to take back behind that many turns, a turn that waits included."""
        return 0 <= turns < self.turn_count or (turns == self.turn_count and self.waiting is not None)

    def rewind_edit(self, turns: int, *, by: str = "", retry_question: str = "") -> EditBody:
        """The edit that keeps that many turns and takes back what came after them, a turn that waits included.

        Everything has to be read. Raises `ConversationError` where there is nothing to take back.
        """
        checkpoint, _ = self.checkpoint_at(turns)
        if not self.has_after(turns):
            last = f"Turn {turns} is the last one" if turns else "The conversation has no turns"
            raise ConversationError(f"{last}: there is nothing to rewind.")
        return EditBody("rewind", checkpoint=checkpoint, by=by, retry_question=retry_question)

    def window(self, limit: int) -> int:
        """Where a model that takes `limit` items starts: an index over all items, at a turn's beginning.

        It moves only when the conversation has grown by another half of the limit, so that what a model
        server cached stays a prefix; from there on there are between half the limit and the limit, and
        always the newest turn. An index below `unloaded_items` means that earlier segments have to be read; it is
        then where the window starts at the earliest.
        """
        total = self.item_count
        if total <= limit:
            return 0
        half = max(limit // 2, 1)
        earliest = ((total - 1) // half - 1) * half
        if earliest < self.unloaded_items:
            return earliest
        starts = list(self._turn_starts())
        if not starts:
            return max(self.unloaded_items - 1, 0)  # the turn that goes on here began in an earlier segment
        return next((start for start in starts if start >= earliest), starts[-1])

    def _turn_starts(self) -> Iterator[int]:
        """Where the model may begin to read, as indexes over all items: turns, and elsewhere what users said."""
        index = self.unloaded_items
        for block in self.blocks:
            if block.turn is not None and block.items:
                yield index
            else:
                yield from (index + i for i, item in enumerate(block.items) if item.get("role") == "user")
            index += len(block.items)


def copy_edit(end: Checkpoint, blocks: list[Block], *, origin: str, title: str) -> EditBody:
    """The edit with which a conversation begins as a copy: of these blocks, at whose `end` it is so.

    Where turns or facts lie before the blocks (all was cleared once), the copy begins with them.
    """
    turns = [block.turn for block in blocks if block.turn is not None]
    said = {key for turn in turns for key in turn.facts}
    granted = {rule for turn in turns for decided in turn.decisions for rule in decided.always_approved}
    start = Checkpoint(
        turn_count=turns[0].number - 1 if turns else end.turn_count,
        model="" if turns else end.model,
        usage=end.usage - sum((turn.usage for turn in turns), Usage()),
        facts={key: text for key, text in end.facts.items() if key not in said},
        always_approved=tuple(rule for rule in end.always_approved if rule not in granted),
    )
    plain = [Block(block.items, block.turn) for block in blocks]
    return EditBody("copy", checkpoint=start, blocks=plain, origin=origin, title=title)
