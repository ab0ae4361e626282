"""A conversation as one reader has it: its state, and the items that were read.

Promises that whatever was read, the model's window and a checkpoint of earlier turns are the same for every reader.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from flameagent.conversation.errors import ConversationError, DamagedError
from flameagent.conversation.records import (
    Block,
    Body,
    Checkpoint,
    EditBody,
    Envelope,
    Item,
    QuestionData,
    Summary,
    Turn,
    TurnDecision,
)
from flameagent.conversation.state import State, StoredTurn, digest_of
from flameagent.conversation.usage import Usage
from flameagent.conversation.vectors import Vectors


class Snapshot(msgspec.Struct, frozen=True):
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

    @property
    def own_turns(self) -> list[str]:
        """The IDs of the turns that it took back, but for those that a copy brought, which are another session's."""
        turns = (block.turn for block in self.blocks if block.turn is not None)
        return [turn.id for turn in turns if turn.answer and turn.source is None]


@dataclass(frozen=True)
class Summarized:
    """A summary where it was made; `place` is its own."""

    summary: Summary
    place: tuple[int, int]


class Conversation(State):
    """The state of a conversation, and what one reader has read of it, possibly from a later segment on.

    `unloaded_items` lie in segments that were not read; `blocks` are the items since, and `rewinds` what was
    taken back of them, `summaries` those that were read and not taken back, `vectors` those of all turns that were
    read. `whole` says that it was read from its first record on. `origin` is the session that it began as a copy of;
    `waited_call_ids` are of all calls that were read to wait, `newest_records` the newest IDs.
    `decisions` are those on the turn that waits, and `snapshots` are of the time before each turn, by its number.
    `latest_change` is the revision after the newest record that was read to change more than to cancel a turn which
    has added nothing: that harms no other turn.
    `next_segment` is set by the record that ends a segment; `damage` by the first row that is out of line, after
    which nothing is folded any more. `journal` is for who takes the records as they apply: those that nobody has
    taken yet, or None where nobody does. `absent` is the digest that was last looked for among those of old turns in
    vain, and how many bytes of them were looked through: a turn asks for its own several times.
    """

    unloaded_items: int = 0
    blocks: list[Block] = msgspec.field(default_factory=list)
    rewinds: list[Rewind] = msgspec.field(default_factory=list)
    summaries: list[Summarized] = msgspec.field(default_factory=list)
    vectors: list[Vectors] = msgspec.field(default_factory=list)
    whole: bool = True
    origin: str = ""
    waited_call_ids: set[str] = msgspec.field(default_factory=set)
    newest_records: deque[str] = msgspec.field(default_factory=lambda: deque(maxlen=1000))
    decisions: list[TurnDecision] = msgspec.field(default_factory=list)
    snapshots: dict[int, Snapshot] = msgspec.field(default_factory=dict)
    latest_change: int = 0
    next_segment: str | None = None
    damage: DamagedError | None = None
    journal: list[tuple[Envelope, Body]] | None = None
    absent: tuple[bytes, int] = (b"", 0)

    @classmethod
    def from_context(
        cls,
        prompt: str,
        items: list[Item],
        owner: str = "",
        tools: Sequence[str] = (),
        chosen_model: str = "",
        *,
        size: int = 0,
    ) -> Conversation:
        """The conversation before its first record; `size` is that of the base, in bytes."""
        begun = cls(prompt=prompt, owner=owner, tools=list(tools), chosen_model=chosen_model, size=size)
        begun.blocks, begun.item_count = [Block(items)] if items else [], len(items)
        return begun

    @classmethod
    def from_segment(cls, base: State) -> Conversation:
        """The conversation as a later segment begins with it, or as another reader had it."""
        return cls(
            **{name: getattr(base, name) for name in State.__struct_fields__},
            unloaded_items=base.item_count,
            whole=False,
            latest_change=base.revision,
            waited_call_ids={call.id for call in base.waiting.calls} if base.waiting else set(),
        )

    def is_old_turn(self, turn_id: str) -> bool:
        """True where there was a turn of that ID, answered or cancelled, which is none of the newest any more."""
        digest = digest_of(turn_id)
        if self.has_old_digest(digest, self.absent[1] if self.absent[0] == digest else 0):
            return True
        self.absent = digest, len(self.old_turn_digests)
        return False

    def items(self) -> list[Item]:
        """The items that were read, oldest first."""
        return [item for block in self.blocks for item in block.items]

    def items_from(self, start: int) -> list[Item]:
        """The items from the index `start` (over all items) on; those before it must not be needed."""
        wanted, newest = self.item_count - max(start, self.unloaded_items), list[list[Item]]()
        for block in reversed(self.blocks):
            if wanted <= 0:
                break
            newest.append(block.items[-wanted:])
            wanted -= len(block.items)
        return [item for items in reversed(newest) for item in items]

    def call_ids(self) -> set[str]:
        """The IDs of calls that were read: those that are in it, and all that ever waited, also in nested runs."""
        calls = (item["call_id"] for block in self.blocks for item in block.items if item.get("call_id"))
        return self.waited_call_ids.union(map(str, calls))

    def turns(self) -> list[tuple[Turn, list[Item]]]:
        """The turns that were read, oldest first, each with its items."""
        return [(block.turn, block.items) for block in self.blocks if block.turn is not None]

    def turns_from(self, start: int) -> set[str]:
        """The IDs of the turns that begin at the index `start` (over all items) or later."""
        found, place = set[str](), self.unloaded_items
        for block in self.blocks:
            if block.turn is not None and place >= start:
                found.add(block.turn.id)
            place += len(block.items)
        return found

    def find_turn(self, turn_id: str) -> StoredTurn | None:
        """The turn of that ID, or with that message, if it is one of those that were read, taken back or not."""
        blocks = [*self.blocks, *(block for rewind in self.rewinds for block in rewind.blocks)]
        turns = (block.turn for block in blocks if block.turn is not None and block.turn.answer)
        stored = (StoredTurn(turn.id, turn.question, turn.answer) for turn in turns)
        return next((turn for turn in stored if turn.has(turn_id)), None)

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

    def rewind_edit(
        self, turns: int, *, by: str = "", retry_question: str = "", retry_data: QuestionData | None = None
    ) -> EditBody:
        """The edit that keeps that many turns and takes back what came after them, a turn that waits included.

        Everything has to be read. Raises `ConversationError` where there is nothing to take back.
        """
        checkpoint, _ = self.checkpoint_at(turns)
        if not self.has_after(turns):
            last = f"Turn {turns} is the last one" if turns else "The conversation has no turns"
            raise ConversationError(f"{last}: there is nothing to rewind.")
        data = retry_data or QuestionData()
        return EditBody("rewind", checkpoint=checkpoint, by=by, retry_question=retry_question, retry_data=data)

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
        found: int | None = None
        for start in self._turn_starts():
            if start < earliest:
                return start if found is None else found
            found = start
        # Where there is none, the turn that goes on here began in an earlier segment.
        return max(self.unloaded_items - 1, 0) if found is None else found

    def _turn_starts(self) -> Iterator[int]:
        """Where the model may begin to read, as indexes over all items, newest first: turns, and elsewhere what users
        said."""
        index = self.item_count
        for block in reversed(self.blocks):
            index -= len(block.items)
            if block.turn is not None and block.items:
                yield index
            else:
                said = (index + i for i, item in enumerate(block.items) if item.get("role") == "user")
                yield from reversed([*said])


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
        agent="" if turns else end.agent,
        usage=end.usage - sum((turn.usage for turn in turns), Usage()),
        facts={key: text for key, text in end.facts.items() if key not in said},
        always_approved=tuple(rule for rule in end.always_approved if rule not in granted),
        own_facts=tuple(key for key in end.own_facts if key not in said),
        summary=end.summary,
    )
    plain = [Block(block.items, block.turn) for block in blocks]
    return EditBody("copy", checkpoint=start, blocks=plain, origin=origin, title=title)
