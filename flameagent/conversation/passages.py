"""What left the window of a conversation and is in no summary yet, passage by passage.

Promises that a summary becomes a record only while the conversation still begins with what it is of, and once.
Blocking, as the log is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from flameagent.conversation.conversation import Conversation
from flameagent.conversation.errors import ConflictError
from flameagent.conversation.item_text import describe_item
from flameagent.conversation.log import ConversationLog
from flameagent.conversation.records import Block, EditBody, Summary

_PASSAGE, _ITEM = 40_000, 2_000
"""Characters of a passage, and of an item in it: what one request to a model has."""


@dataclass(frozen=True)
class Passage:
    """The items from the index `start` to before `end`, as `blocks`; up to `end` there are `turn_count` whole turns.

    `window` is the index at which the window starts.
    """

    start: int
    end: int
    turn_count: int
    window: int
    blocks: list[Block]

    @property
    def text(self) -> str:
        """What was said, for a model to read; of what is long the middle is left out."""
        return without_middle("\n\n".join(filter(None, map(_block_text, self.blocks))), _PASSAGE)


def may_have_passage(log: ConversationLog, limit: int | None) -> bool:
    """False where there is no passage, as can be told of what was read. Raises `DamagedError`."""
    if limit is None or log.conversation.item_count <= limit:
        return False
    window = log.loaded_window(limit)
    return window is None or window.start > log.conversation.summary.item_count


def next_passage(log: ConversationLog, limit: int | None) -> Passage | None:
    """The oldest passage that a model which takes `limit` items is not shown, and no summary has; or None.

    As of the log's last `refresh`. Raises `DamagedError`, and what reading raises.
    """
    if limit is None or not may_have_passage(log, limit):
        return None
    window = log.load_window(limit).start
    known = log.conversation.summary
    if window <= known.item_count:
        return None
    return _passage(_reading(log, known.item_count), known, window)


def add_summary(log: ConversationLog, passage: Passage, summary: Summary) -> bool:
    """Append the summary of everything up to the passage's end.

    False where there is one already, or the passage is not in the conversation any more. Raises what an append does.
    """
    while True:
        log.patiently(log.refresh)
        revision = log.conversation.revision
        if log.conversation.summary.item_count != passage.start or not _has(log, passage):
            return False
        try:
            log.append(EditBody("summary", summary=summary), revision=revision)
        except ConflictError:
            continue
        return True


def without_middle(text: str, limit: int) -> str:
    """The text; of one that has more than `limit` characters, its beginning and its end."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} … ({len(text) - 2 * half} characters left out) … {text[-half:]}"


def _has(log: ConversationLog, passage: Passage) -> bool:
    conversation = _reading(log, passage.start)
    items = conversation.items_from(passage.start)[: passage.end - passage.start]
    return items == [item for block in passage.blocks for item in block.items]


def _reading(log: ConversationLog, start: int) -> Conversation:
    """The conversation with its items from there on; what was not read is read for this, and not kept."""
    if log.conversation.unloaded_items <= start:
        return log.conversation
    reader = log.apart()
    reader.refresh()
    conversation = reader.load(start)
    if conversation.damage:
        raise conversation.damage
    return conversation


def _passage(conversation: Conversation, known: Summary, window: int) -> Passage:
    blocks: list[Block] = []
    index, size, turn_count, end = conversation.unloaded_items, 0, known.turn_count, known.item_count
    for block in conversation.blocks:
        first, index = index, index + len(block.items)
        if index <= end:
            continue
        items = block.items[max(end - first, 0) : window - first]
        part = Block(items, block.turn)
        size += len(_block_text(part))
        if not items or (blocks and size > _PASSAGE):
            break
        blocks.append(part)
        end = min(index, window)
        turn_count = block.turn.number if block.turn is not None and end == index else turn_count
    return Passage(known.item_count, end, turn_count, window, blocks)


def _block_text(block: Block) -> str:
    lines = []
    if block.turn is not None:
        lines.append(f"Turn {block.turn.number}, {time.strftime('%Y-%m-%d', time.localtime(block.turn.at / 1000))}")
    for label, text in map(describe_item, block.items):
        if label != "reasoning" and text.strip():
            lines.append(f"{label}: {without_middle(text, _ITEM)}")
    return "\n".join(lines)
