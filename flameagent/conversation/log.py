"""The conversation's records in the object cache: read on, append, roll over.

Promises that an append either is in the conversation once, or is not and never will be, or says that it
is unclear; on a cache that has no compare-and-swap, may answer too late or not at all, and may lose its tail
(Flame 0.6.0). Blocking; made for one thread at a time.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec

from flameagent.conversation import context
from flameagent.conversation.conversation import Conversation
from flameagent.conversation.errors import (
    CancelledError,
    ConflictError,
    ConversationError,
    DamagedError,
    MissingError,
    UnclearError,
    WaitingError,
)
from flameagent.conversation.fold import fold_row
from flameagent.conversation.records import (
    Body,
    DecisionBody,
    EditBody,
    PendingBody,
    Record,
    SegmentBody,
    TurnBody,
    Unreadable,
    decode,
    encode,
    make,
    read_body,
)
from flameagent.conversation.reducers import apply
from flameagent.conversation.state import SegmentBase, StoredTurn
from flameagent.flame.errors import CacheFull, FlameError, NotFound, Unclear, Unreachable
from flameagent.flame.objects import Rows, patiently
from flamewire.failpoints import failpoint
from flamewire.object_ref import ObjectRef

_T = TypeVar("_T")

SEGMENT_RECORDS = 256
"""Patches of an object (losers included) after which the conversation goes on in a new one.

Flame's limit is 1000, and a patch's cost grows with their number; the first object also takes a hint
for every later one.
"""

PATIENCE = 60.0
"""Seconds to wait for a cache that does not answer: where a turn begins, before an append, and for what became of one
that broke off."""


class Cache(Protocol):
    """What the log needs of an object cache; `flameagent.flame.cache.ObjectCache` is one."""

    def get(self, key: str, since: int = 0) -> Rows: ...
    def put(self, prefix: str, data: bytes) -> ObjectRef: ...
    def patch(self, key: str, data: bytes) -> int: ...


class Hint(msgspec.Struct, frozen=True):
    """A row of the first segment, behind its end: a later segment, where a cold reader may begin."""

    hint: str


@dataclass
class _Segment:
    """The object that is appended to, as far as it was read."""

    key: str
    base_version: int
    version: int
    newest: bytes | None

    @property
    def patches(self) -> int:
        return self.version - self.base_version


class ConversationLog:
    """One conversation in the cache, and what of it was read.

    `first_key` is the object that the session's CommonData names. `guard` surrounds each write, for
    whoever must not end the process inside one.
    """

    def __init__(
        self,
        cache: Cache,
        first_key: str,
        *,
        segment_records: int = SEGMENT_RECORDS,
        patience: float = PATIENCE,
        guard: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._cache = cache
        self._first = first_key
        self._prefix = first_key.rsplit("/", 1)[0]
        self._segment_records = segment_records
        self._patience = patience
        self._guard = guard
        self._segment: _Segment | None = None
        self._earlier: str | None = None
        self.conversation = Conversation()

    def refresh(self) -> Conversation:
        """Read what is new. A cold read takes a bounded number of objects: the newest segments.

        Raises `MissingError`; `FlameError` when the cache does not answer. Damage is noted in the conversation.
        """
        if self._segment is None or self.conversation.damage:
            self._open_newest()
        else:
            self._read_on(self._segment)
        return self.conversation

    def patiently(self, read: Callable[[], _T]) -> _T:
        """What `read` gives; a cache that is away is waited for. Raises `Unreachable` after `patience` seconds."""
        return patiently(read, self._patience)

    def load(self, start: int = 0) -> Conversation:
        """Have all items from the index `start` on, reading earlier segments as far as they are needed.

        From 0 on everything is read, also turns whose items were all popped. An earlier segment that cannot be
        read is damage, noted as in `refresh`.
        """
        if self._segment is None:
            self.refresh()
        known = self.conversation.seq
        if start <= 0 and self._earlier is not None:
            self._begin(self._first, self._get(self._first))
        while self.conversation.unloaded_items > start and self._earlier is not None and not self.conversation.damage:
            try:
                self._begin(self._earlier, self._get(self._earlier))
            except (MissingError, DamagedError):
                self._begin(self._first, self._get(self._first))  # the way from there says what is wrong
        if self.conversation.seq < known and not self.conversation.damage:
            # A hint led further than the chain does: the record that named the hinted segment was lost.
            self.conversation.damage = _missing(self.conversation.seq + 1)
        return self.conversation

    def cancelled(self, turn_id: str) -> bool:
        """Whether someone has cancelled the turn since the last read. Looks ahead, without folding."""
        segment = self._require_segment()
        ahead = deque([(segment.key, segment.version)])
        while ahead:
            for _, row in self._get(*ahead.popleft()).patches:
                with suppress(Unreadable):
                    body = read_body(row or b"")
                    if isinstance(body, EditBody) and body.op == "cancel" and body.turn == turn_id:
                        return True
                    if isinstance(body, SegmentBody):  # if it lost, its object has nothing behind its base
                        ahead.append((body.key, 0))
        return False

    def stored_turn(self, turn_id: str) -> StoredTurn | None:
        """What the turn of that ID said, however long ago, as far as was read; None for one that is new.

        For an old one everything is read. Raises `ConflictError` for one that was cancelled or cleared, and
        `DamagedError`.
        """
        turn = self.conversation.recent_turn(turn_id)
        if turn is None and self.conversation.is_old_turn(turn_id):
            turn = self.load(0).find_turn(turn_id)
            if self.conversation.damage:
                raise self.conversation.damage
            if turn is None:
                raise ConflictError("There was a turn of that ID before, which was cancelled; nothing was added.")
        return turn

    def append(self, body: Body, *, revision: int | None = None) -> StoredTurn | None:
        """Append one change; returns when it is in the conversation: what a turn of that ID already said, or None.

        `revision` is the conversation's at the time that the change was decided on: if someone else has
        added since, `ConflictError` (or `CancelledError`, for a turn that they cancelled). Without it the
        change goes behind whatever is there. Raises `DamagedError`, `MissingError`, and after `patience` seconds
        without certainty `UnclearError`, or without a cache `Unreachable`; `FlameError` means that nothing was sent.
        """

        def prepared() -> _Segment | StoredTurn:
            while True:
                # Also guards against a cache that lost its tail: a record put behind the gap would be damage.
                self.refresh()
                if isinstance(body, TurnBody) and (stored := self.stored_turn(body.turn)):
                    return stored
                self._check(body, revision)
                segment = self._require_segment()
                if segment.patches < self._segment_records:
                    return segment
                self._roll_over(segment)

        while True:
            segment = self.patiently(prepared)
            if not isinstance(segment, _Segment):
                return segment
            record = make(body, seq=self.conversation.seq, prev=self.conversation.last)
            if self._commit(segment, record):
                return None

    def _check(self, body: Body, revision: int | None) -> None:
        if self.conversation.damage:
            raise self.conversation.damage
        if isinstance(body, TurnBody | PendingBody) and body.turn in self.conversation.cancelled:
            raise CancelledError("The turn was cancelled; nothing was added.")
        waiting = self.conversation.waiting
        if isinstance(body, EditBody) and body.op in ("add", "pop", "copy") and waiting is not None:
            raise WaitingError("A tool call of this conversation waits for an approval: decide on it first.")
        if isinstance(body, DecisionBody) and (waiting is None or body.decides_on != waiting.record_id):
            raise ConflictError("That does not wait any more: someone else has decided. Look at the history.")
        if revision is not None and revision != self.conversation.revision:
            raise ConflictError("Someone else added to this conversation meanwhile; nothing was added.")

    def _commit(self, segment: _Segment, record: Record) -> bool:
        """Append one record; whether it won its number. Knows, or raises `UnclearError`."""
        deadline, reason = time.monotonic() + self._patience, ""
        while True:
            version = None
            try:
                with self._guard():
                    failpoint("append: before")
                    version = self._cache.patch(segment.key, record.data)
                    failpoint("append: after")
            except (Unclear, CacheFull) as error:
                reason = f" {error}"
            except NotFound as error:
                raise MissingError("The conversation's objects are gone from Flame's cache.") from error
            if version == segment.version + 1:
                apply(self.conversation, record.envelope, record.body, len(record.data))
                segment.version, segment.newest = version, record.data
                self._follow()
                return True
            while True:
                try:
                    self.refresh()
                    break
                except Unreachable as error:
                    if time.monotonic() > deadline:
                        raise UnclearError(
                            "Flame's cache went away while the turn was being added: it may have been added. "
                            "Look at the history before asking again."
                        ) from error
                    time.sleep(0.2)
            if self.conversation.damage:
                raise self.conversation.damage
            if record.envelope.id in self.conversation.newest:
                return True
            if self.conversation.seq > record.envelope.seq:
                return False
            segment = self._require_segment()
            if time.monotonic() > deadline:
                raise UnclearError(
                    f"Flame's cache does not take the record: it may have been added. Look at the history.{reason}"
                )
            time.sleep(0.05)

    def _roll_over(self, segment: _Segment) -> None:
        """Begin a new segment; whether this writer's or another's wins, there is one after it."""
        record_id = uuid.uuid4().hex
        base = SegmentBase.after(self.conversation, previous=segment.key, record_id=record_id)
        with self._guard():
            key = self._cache.put(self._prefix, encode(base)).key
        failpoint("segment: made")
        record = make(
            SegmentBody(key=key), seq=self.conversation.seq, prev=self.conversation.last, record_id=record_id
        )
        try:
            won = self._commit(segment, record)
        except UnclearError as error:
            # Unclear is only whether there is a new segment, which changes nothing.
            raise Unreachable("Flame's cache went away before the turn was added; nothing was added.") from error
        failpoint("segment: named")
        if won:
            try:
                with self._guard():
                    self._cache.patch(self._first, encode(Hint(key)))
            except FlameError:
                pass  # a hint only spares a cold reader the way through the chain

    def _open_newest(self) -> None:
        """Begin from nothing, at the newest segment that a hint names, or at the first."""
        # Whatever the first segment still holds as records has been folded into a hinted one's base.
        tail = self._get(self._first, since=1 + self._segment_records)
        if tail.full:
            self._begin(self._first, tail)
            return
        for _, row in reversed(tail.patches):
            try:
                key = decode(row or b"", Hint).hint
                self._begin(key, self._get(key))
            except (ValueError, MissingError, DamagedError):
                continue  # the way through the chain says what is wrong
            return
        self._begin(self._first, self._get(self._first))

    def _read_on(self, segment: _Segment) -> None:
        """Fold what came after the known version, after comparing the row that overlaps, if one is known."""
        known = 1 if segment.patches else 0
        rows = self._get(segment.key, since=segment.version - known)
        if rows.full or rows.patches[:known] != [(segment.version, segment.newest)][:known]:
            self._open_newest()  # the cache knows another past: believe it
            return
        self._fold(segment, rows.patches[known:])
        self._follow()

    def _begin(self, key: str, rows: Rows) -> None:
        """Fold from a segment's base on, and through the segments after it."""
        if key == self._first:
            try:
                self.conversation = Conversation.from_context(*context.read(rows.base), len(rows.base or b""))
            except DamagedError as error:
                self.conversation = Conversation(damage=error)
            self._earlier = None
        else:
            base = _segment_base(rows)
            self.conversation = Conversation.from_segment(base)
            self._earlier = base.previous
        self._enter(key, rows)
        self._follow()

    def _follow(self) -> None:
        while (key := self.conversation.next_segment) is not None:
            try:
                rows = self._get(key)
                base = _segment_base(rows)
            except (MissingError, DamagedError):
                base = None
            if base is None or (base.seq, base.last) != (self.conversation.seq, self.conversation.last):
                self.conversation.damage = _missing(self.conversation.seq + 1)
                return
            self.conversation.next_segment = None
            self._enter(key, rows)

    def _enter(self, key: str, rows: Rows) -> None:
        self._segment = _Segment(key, rows.base_version, rows.base_version, None)
        self._fold(self._segment, rows.patches)

    def _fold(self, segment: _Segment, rows: list[tuple[int, bytes | None]]) -> None:
        for version, row in rows:
            fold_row(self.conversation, row)
            segment.version, segment.newest = version, row

    def _get(self, key: str, since: int = 0) -> Rows:
        try:
            return self._cache.get(key, since)
        except NotFound as error:
            raise MissingError("The conversation's objects are gone from Flame's cache.") from error

    def _require_segment(self) -> _Segment:
        if self._segment is None:
            raise ConversationError("The conversation was not read.")
        return self._segment


def _missing(number: int) -> DamagedError:
    return DamagedError(
        number, f"Record {number} and those after it are missing: the object that holds them cannot be read."
    )


def _segment_base(rows: Rows) -> SegmentBase:
    try:
        base: SegmentBase = decode(rows.base or b"", SegmentBase)
    except ValueError as error:
        raise DamagedError(0, f"A segment of the conversation cannot be read: {error}.") from error
    return base
