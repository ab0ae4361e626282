"""Reducers: what each kind of record does to a conversation, a function a kind, and one an edit.

Promises that a record which applies never fails, and that the state depends on the records alone, not on how many of
the items were read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from msgspec.structs import replace

from flameagent.conversation.conversation import Conversation, Rewind, Summarized
from flameagent.conversation.records import (
    NO_SUMMARY,
    Block,
    Body,
    Checkpoint,
    DecisionBody,
    EditBody,
    Envelope,
    Item,
    PendingBody,
    SegmentBody,
    Summary,
    Turn,
    TurnBody,
    TurnDecision,
    changed_facts,
)
from flameagent.conversation.state import PendingApproval, StoredTurn

Reducer: TypeAlias = Callable[[Conversation, Envelope, Any], None]
_Learned = TypeVar("_Learned", Checkpoint, Turn, PendingBody)


def apply(conversation: Conversation, envelope: Envelope, body: Body, size: int) -> None:
    """Apply a record that is known to be the next one, of `size` bytes."""
    revision, waiting = conversation.revision, conversation.waiting
    conversation.seq += 1
    conversation.last = envelope.id
    conversation.newest_records.append(envelope.id)
    if envelope.kind != "segment":
        conversation.size += size
        conversation.changed = envelope.at
    REDUCERS[envelope.kind](conversation, envelope, body)
    harmless = isinstance(body, EditBody) and body.op == "cancel" and conversation.waiting is waiting
    if conversation.revision > revision and not harmless:
        conversation.latest_change = conversation.revision
    if conversation.journal is not None:
        conversation.journal.append((envelope, body))


def _turn(conversation: Conversation, envelope: Envelope, body: TurnBody) -> None:
    waiting = conversation.waiting
    if waiting is None:
        _begin_turn(conversation)
    turn = Turn(
        conversation.turn_count + 1,
        body.turn,
        body.question,
        body.answer,
        body.usage,
        body.model,
        envelope.at,
        body.facts,
        conversation.decisions if waiting is not None and waiting.turn_id == body.turn else [],
        body.omitted_items,
        body.user,
        body.context,
        body.attachments,
        body.recalled,
        body.own_facts,
        body.source,
        body.timing,
    )
    _add_turn(conversation, turn, body.items)
    conversation.waiting = None


def _pending(conversation: Conversation, envelope: Envelope, body: PendingBody) -> None:
    if conversation.waiting is None:
        _begin_turn(conversation)
    conversation.waiting = PendingApproval(envelope.id, body)
    conversation.waited_call_ids.update(call.id for call in body.calls)


def _decision(conversation: Conversation, envelope: Envelope, body: DecisionBody) -> None:
    """Only the decision that names what waits counts: of two, the first."""
    waiting = conversation.waiting
    if waiting is None or body.decides_on != waiting.record_id:
        return
    conversation.waiting = PendingApproval(envelope.id, waiting.pending, body)
    conversation.add_decided(body.decision)
    _approve_always(conversation, body.always_approved)
    named, stopped = {*body.approved, *body.rejected}, waiting.pending
    calls = [call for call in waiting.calls if call.id in named]
    left = [call for call in waiting.calls if call.id not in named]
    said = body.approved, body.rejected, body.reason, body.always_approved
    so_far = len(stopped.items), stopped.usage, waiting.decision is not None
    conversation.decisions.append(TurnDecision(envelope.at, body.by, *said, calls, left, *so_far))


def _segment(conversation: Conversation, envelope: Envelope, body: SegmentBody) -> None:
    conversation.segments += 1
    conversation.next_segment = body.key


def _edit(conversation: Conversation, envelope: Envelope, body: EditBody) -> None:
    if body.op not in ("cancel", "title", "summary", "forget", "vectors", "metadata", "replay"):
        conversation.retry_question = ""
    EDITS[body.op](conversation, envelope, body)


def _add(conversation: Conversation, envelope: Envelope, body: EditBody) -> None:
    _add_block(conversation, Block(list(body.items), place=(conversation.seq, 0)))


def _pop(conversation: Conversation, envelope: Envelope, body: EditBody) -> None:
    conversation.item_count = max(conversation.item_count - 1, 0)
    _forget_summary_beyond(conversation)
    for index in reversed(range(len(conversation.blocks))):
        block = conversation.blocks[index]
        if block.items:
            shorter = Block(block.items[:-1], block.turn, block.place)
            # In a new list: snapshots have the one that there was.
            conversation.blocks = [*conversation.blocks[:index], shorter, *conversation.blocks[index + 1 :]]
            return
    conversation.unloaded_items = conversation.item_count


def _clear(conversation: Conversation, envelope: Envelope, body: EditBody) -> None:
    conversation.item_count = conversation.unloaded_items = 0
    conversation.blocks = []
    conversation.waiting = None
    _forget_summary_beyond(conversation)


def _cancel(conversation: Conversation, envelope: Envelope, body: EditBody) -> None:
    conversation.add_cancelled(body.turn)
    if conversation.waiting is not None and conversation.waiting.turn_id == body.turn:
        conversation.waiting = None


def _title(conversation: Conversation, envelope: Envelope, body: EditBody) -> None:
    conversation.title = body.title
    conversation.titles += 1


def _metadata(conversation: Conversation, envelope: Envelope, body: EditBody) -> None:
    conversation.metadata = body.metadata
    conversation.titles += 1


def _summary(conversation: Conversation, envelope: Envelope, body: EditBody) -> None:
    """Of two summaries of the same turns the first counts."""
    conversation.titles += 1
    conversation.usage += body.summary.usage
    if conversation.takes(body.summary):
        _add_summary(conversation, replace(body.summary, at=envelope.at))


def _rewind(conversation: Conversation, envelope: Envelope, body: EditBody) -> None:
    checkpoint, seq = body.checkpoint, conversation.seq
    snapshot = conversation.snapshots.get(checkpoint.turn_count + 1)
    if snapshot is None:  # before what was read
        taken, conversation.blocks = conversation.blocks, []
        item_count = conversation.unloaded_items = checkpoint.item_count
    else:
        taken = [block for block in conversation.blocks if block.place >= snapshot.place]
        conversation.blocks = snapshot.blocks[: snapshot.length]
        conversation.unloaded_items, item_count = snapshot.unloaded_items, snapshot.checkpoint.item_count
    if conversation.waiting is not None:
        waited = conversation.waiting.pending
        turn = Turn(
            conversation.turn_count + 1,
            waited.turn,
            waited.question,
            {},
            waited.usage,
            waited.model,
            envelope.at,
            waited.facts,
            conversation.decisions,
            user=waited.user,
            context=waited.context,
            attachments=waited.attachments,
            recalled=waited.recalled,
            own_facts=waited.own_facts,
            timing=waited.timing,
        )
        taken = [*taken, Block(waited.items, turn, (seq, 0))]
        conversation.add_cancelled(waited.turn)
        conversation.waiting = None
    conversation.rewinds.append(Rewind(checkpoint.turn_count, taken, body.by, envelope.at, (seq, 1)))
    conversation.snapshots = {
        number: each for number, each in conversation.snapshots.items() if number <= checkpoint.turn_count
    }
    conversation.restore(checkpoint)
    conversation.item_count = item_count
    _forget_summary_beyond(conversation)
    conversation.retry_question, conversation.retry_data = body.retry_question, body.retry_data


def _copy(conversation: Conversation, envelope: Envelope, body: EditBody) -> None:
    item_count = conversation.item_count
    conversation.restore(body.checkpoint)
    conversation.item_count = item_count  # its items are those of the blocks
    conversation.origin, conversation.title, conversation.replay = body.origin, body.title, body.replay
    for part, block in enumerate(body.blocks):
        if block.turn is None:
            _add_block(conversation, Block(block.items, place=(conversation.seq, part)))
            continue
        _begin_turn(conversation, part)
        turn = replace(block.turn, number=conversation.turn_count + 1)
        _add_turn(conversation, turn, block.items, part)
        for decided in turn.decisions:
            _approve_always(conversation, decided.always_approved)
            conversation.waited_call_ids.update([*decided.approved, *decided.rejected])
    if conversation.summary.text:
        _add_summary(conversation, conversation.summary, len(body.blocks))


def _forget(conversation: Conversation, envelope: Envelope, body: EditBody) -> None:
    """The turns stay, and neither a rewind nor a copy brings the facts back."""

    def without(of: _Learned) -> _Learned:
        facts: dict[str, Any] = {key: text for key, text in of.facts.items() if body.keys and key not in body.keys}
        own = [key for key in of.own_facts if body.keys and key not in body.keys]
        return replace(of, facts=facts, own_facts=type(of.own_facts)(own))

    kept = without(conversation.checkpoint())
    conversation.facts, conversation.own_facts = kept.facts, kept.own_facts
    before = conversation.snapshots
    lists = [conversation.blocks, *(each.blocks for each in before.values())]
    lists += [rewind.blocks for rewind in conversation.rewinds]
    for blocks in {id(each): each for each in lists}.values():  # in place: snapshots share them
        for place, block in enumerate(blocks):
            if block.turn is not None and block.turn.facts:
                blocks[place] = replace(block, turn=without(block.turn))
    conversation.blocks = list(conversation.blocks)  # another list tells who keeps something of it
    for number, each in before.items():
        before[number] = replace(each, checkpoint=without(each.checkpoint))
    if (waiting := conversation.waiting) is not None:
        conversation.waiting = replace(waiting, pending=without(waiting.pending))
    conversation.titles += 1


def _withdraw(conversation: Conversation, envelope: Envelope, body: EditBody) -> None:
    gone = set(body.turns)
    for turn in body.turns:
        if conversation.recent_turn(turn) is None and not conversation.is_old_turn(turn):
            conversation.add_cancelled(turn)  # one that was not here yet does not come any more
    conversation.blocks = [block for block in conversation.blocks if block.turn is None or block.turn.id not in gone]


def _erase(conversation: Conversation, envelope: Envelope, body: EditBody) -> None:
    """Nothing is left but the IDs, by which nothing comes back."""
    _clear(conversation, envelope, body)
    conversation.facts, conversation.own_facts = {}, ()
    conversation.recent = [StoredTurn(turn.turn, "", {}) for turn in conversation.recent]
    conversation.vectors = []
    conversation.erased = envelope.at


def _vectors(conversation: Conversation, envelope: Envelope, body: EditBody) -> None:
    """Whose turns are still there is for who compares them to see."""
    conversation.titles += 1
    conversation.vectors.append(body.vectors)


def _replay(conversation: Conversation, envelope: Envelope, body: EditBody) -> None:
    conversation.titles += 1
    conversation.replay = body.replay


def _begin_turn(conversation: Conversation, part: int = 0) -> None:
    conversation.decisions = []
    conversation.snapshots[conversation.turn_count + 1] = conversation.snapshot(part)


def _add_turn(conversation: Conversation, turn: Turn, items: list[Item], part: int = 0) -> None:
    conversation.retry_question = ""
    conversation.turn_count = turn.number
    if turn.facts:
        conversation.facts = changed_facts(conversation.facts, turn.facts)
        conversation.own_facts = tuple(sorted({*conversation.own_facts} - {*turn.facts} | {*turn.own_facts}))
    _add_block(conversation, Block(items, turn, (conversation.seq, part)))
    conversation.add_recent(StoredTurn(turn.id, turn.question, turn.answer))
    conversation.model = turn.model or conversation.model
    conversation.agent = str(turn.answer.get("agent") or "") or conversation.agent
    conversation.usage += turn.usage


def _add_block(conversation: Conversation, block: Block) -> None:
    conversation.blocks.append(block)
    conversation.item_count += len(block.items)


def _add_summary(conversation: Conversation, summary: Summary, part: int = 0) -> None:
    conversation.summary = summary
    conversation.summaries.append(Summarized(summary, (conversation.seq, part)))


def _forget_summary_beyond(conversation: Conversation) -> None:
    """Have no summary of items that are not there any more."""
    if conversation.summary.item_count > conversation.item_count:
        conversation.summary = NO_SUMMARY
    kept = conversation.summary.item_count
    conversation.summaries = [each for each in conversation.summaries if each.summary.item_count <= kept]


def _approve_always(conversation: Conversation, rules: list[str]) -> None:
    conversation.always_approved = tuple(sorted({*conversation.always_approved, *rules}))


REDUCERS: dict[str, Reducer] = {
    "turn": _turn,
    "pending": _pending,
    "decision": _decision,
    "edit": _edit,
    "segment": _segment,
}
"""By kind of record."""

EDITS: dict[str, Reducer] = {
    "add": _add,
    "pop": _pop,
    "clear": _clear,
    "cancel": _cancel,
    "title": _title,
    "metadata": _metadata,
    "rewind": _rewind,
    "copy": _copy,
    "summary": _summary,
    "forget": _forget,
    "withdraw": _withdraw,
    "erase": _erase,
    "vectors": _vectors,
    "replay": _replay,
}
"""By the operation of an edit."""
