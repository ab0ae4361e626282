"""The writer of a conversation: gives each record its number and appends it, by compare-and-swap; begins new
segments.

Promises that an append either is in the conversation once, or is not and never will be, or says that it
is unclear; on a cache that has no compare-and-swap, may answer too late or not at all, and may lose its tail
(Flame 0.6.0). Blocking; made for one thread at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from flameagent.conversation.attachments import AttachmentStore
from flameagent.conversation.codec import encode
from flameagent.conversation.errors import (
    AlreadyDecidedError,
    CancelledError,
    ConflictError,
    MissingError,
    UnclearError,
    WaitingError,
)
from flameagent.conversation.reader import (
    PATIENCE,
    SEGMENT_RECORDS,
    Cache,
    ConversationReader,
    Hint,
    Segment,
    digest,
)
from flameagent.conversation.records import (
    Body,
    DecisionBody,
    EditBody,
    PendingBody,
    Record,
    SegmentBody,
    TurnBody,
    make,
    new_id,
)
from flameagent.conversation.reducers import apply
from flameagent.conversation.state import SegmentBase, StoredTurn
from flameagent.flame.errors import CacheFull, FlameError, NotFound, Unclear, Unreachable
from flamewire.failpoints import failpoint


@dataclass
class Appends:
    """What became of the changes that were to be appended, and how many attempts there were beyond the first of each.

    A `conflict` is one that somebody else was before; where it is `unclear`, it may have been added.
    """

    added: int = 0
    conflicts: int = 0
    unclear: int = 0
    retries: int = 0


class ConversationLog(ConversationReader):
    """One conversation in the cache, what of it was read, and how it is added to.

    `guard` surrounds each write, for whoever must not end the process inside one. `attachments` are what its turns
    name: objects beside its own. `appends` are counted.
    """

    _cache: Cache

    def __init__(
        self,
        cache: Cache,
        first_key: str,
        *,
        segment_records: int = SEGMENT_RECORDS,
        patience: float = PATIENCE,
        guard: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        super().__init__(cache, first_key, segment_records=segment_records, patience=patience)
        self._prefix = first_key.rsplit("/", 1)[0]
        self._guard = guard
        self.appends = Appends()
        self.attachments = AttachmentStore(cache, self._prefix, guard)

    @property
    def reads_at_once(self) -> bool:
        """True where reading what is new waits for nobody: from a file, behind what was read already."""
        return self._segment is not None and self._cache.reads_at_once

    def append(
        self, body: Body, *, revision: int | None = None, record_id: str | None = None, read: bool = True
    ) -> StoredTurn | None:
        """Append one change; returns when it is in the conversation: what a turn of that ID already said, or None.

        `revision` is the conversation's at the time that the change was decided on: if someone else has
        added since, `ConflictError` (or `CancelledError`, for a turn that they cancelled). Without it the
        change goes behind whatever is there. A record of that `record_id` that was read already is not added again.
        Without `read` it goes behind what the caller has read just now. Raises `DamagedError`, `MissingError`, and
        after `patience` seconds without certainty `UnclearError`, or without a cache `Unreachable`; `FlameError`
        means that nothing was sent.
        """

        try:
            stored = self._append(body, revision, record_id, read)
        except ConflictError:
            self.appends.conflicts += 1
            raise
        except UnclearError:
            self.appends.unclear += 1
            raise
        self.appends.added += 1
        return stored

    def _append(self, body: Body, revision: int | None, record_id: str | None, read: bool) -> StoredTurn | None:
        def prepared() -> Segment | StoredTurn | None:
            nonlocal read
            while True:
                # Also guards against a cache that lost its tail: a record put behind the gap would be damage.
                if read:
                    self.refresh()
                read = True
                if isinstance(body, TurnBody) and (stored := self.stored_turn(body.turn)):
                    return stored
                if record_id is not None and record_id in self.conversation.newest_records:
                    return None
                self._check(body, revision)
                segment = self._require_segment()
                if segment.patches < self._segment_records:
                    return segment
                self._roll_over(segment)

        while True:
            segment = self.patiently(prepared)
            if not isinstance(segment, Segment):
                return segment
            record = make(body, seq=self.conversation.seq, prev=self.conversation.last, record_id=record_id)
            if self._commit(segment, record):
                return None
            self.appends.retries += 1  # another record was first

    def _check(self, body: Body, revision: int | None) -> None:
        if self.conversation.damage:
            raise self.conversation.damage
        if isinstance(body, TurnBody | PendingBody) and body.turn in self.conversation.cancelled:
            raise CancelledError
        if isinstance(body, TurnBody | PendingBody) and any(map(self.conversation.is_cancelled, body.steered)):
            raise ConflictError("A message that this turn has taken in was cancelled meanwhile; nothing was added.")
        waiting = self.conversation.waiting
        if isinstance(body, EditBody) and body.op in ("add", "pop", "copy") and waiting is not None:
            raise WaitingError
        if isinstance(body, EditBody) and body.op == "summary" and not self.conversation.takes(body.summary):
            raise ConflictError("There is a summary of these turns already, or they are not there any more.")
        if isinstance(body, DecisionBody) and (waiting is None or body.decides_on != waiting.record_id):
            raise AlreadyDecidedError
        if revision is not None and not self.conversation.latest_change <= revision <= self.conversation.revision:
            raise ConflictError("Someone else added to this conversation meanwhile; nothing was added.")

    def _commit(self, segment: Segment, record: Record) -> bool:
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
                segment.version, segment.newest = version, digest(record.data)
                self._follow_segments()
                return True
            self._look(deadline)
            if self.conversation.damage:
                raise self.conversation.damage
            if record.envelope.id in self.conversation.newest_records:
                return True
            if self.conversation.seq > record.envelope.seq:
                return False
            segment = self._require_segment()
            if time.monotonic() > deadline:
                raise UnclearError(
                    f"Flame's cache does not take the record: it may have been added. Look at the history.{reason}"
                )
            self.appends.retries += 1
            time.sleep(0.05)

    def _look(self, deadline: float) -> None:
        """Read what became of an append; a cache that is away is waited for until then. Raises `UnclearError`."""
        while True:
            try:
                self.refresh()
                return
            except Unreachable as error:
                if time.monotonic() > deadline:
                    raise UnclearError(
                        "Flame's cache went away while the turn was being added: it may have been added. "
                        "Look at the history before asking again."
                    ) from error
                time.sleep(0.2)

    def _roll_over(self, segment: Segment) -> None:
        """Begin a new segment; whether this writer's or another's wins, there is one after it."""
        record_id = new_id()
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
