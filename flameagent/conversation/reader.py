"""The reader of a conversation: from the newest segment in the object cache, then what is new.

Promises that a reader never goes on over a gap, that reading what is new asks for no more, and that a cold read takes
a bounded number of calls however long the conversation is. Blocking; made for one thread at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from flameagent.conversation import context
from flameagent.conversation.ahead import Ahead
from flameagent.conversation.codec import decode
from flameagent.conversation.conversation import Conversation
from flameagent.conversation.errors import ConflictError, ConversationError, DamagedError, MissingError
from flameagent.conversation.fold import fold_row
from flameagent.conversation.records import EditBody, Item, SegmentBody, Unreadable, read_body, read_envelope
from flameagent.conversation.state import SegmentBase, State, StoredTurn
from flameagent.flame.errors import NotFound
from flameagent.flame.objects import Rows, patiently
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


class Objects(Protocol):
    """What a conversation is read from."""

    def get(self, key: str, since: int = 0) -> Rows: ...


class Cache(Objects, Protocol):
    """The object cache, as far as a conversation needs it; `flameagent.flame.cache.ObjectCache` is one."""

    @property
    def reads_at_once(self) -> bool: ...
    def put(self, prefix: str, data: bytes) -> ObjectRef: ...
    def put_as(self, key: str, data: bytes) -> ObjectRef: ...
    def patch(self, key: str, data: bytes) -> int: ...


class Hint(msgspec.Struct, frozen=True):
    """A row of the first segment, behind its end: a later segment, where a cold reader may begin."""

    hint: str


class Window(NamedTuple):
    """The items that a model is shown, and how many of the conversation's lie before them."""

    start: int
    items: list[Item]


@dataclass
class Segment:
    """An object of the cache, as far as it was read; `newest` is a hash of the row of its `version`."""

    key: str
    base_version: int
    version: int
    newest: bytes

    @property
    def patches(self) -> int:
        """The number of its patches."""
        return self.version - self.base_version


class Mark(msgspec.Struct, frozen=True):
    """How far a conversation was read, for who goes on there: the state, and the fields of the `Segment`."""

    state: State
    key: str
    base_version: int
    version: int
    newest: bytes


class ConversationReader:
    """One conversation in the cache, and what of it was read.

    `first_key` is the object that the session's CommonData names.
    """

    def __init__(
        self,
        cache: Objects,
        first_key: str,
        *,
        segment_records: int = SEGMENT_RECORDS,
        patience: float = PATIENCE,
    ) -> None:
        self._cache = cache
        self._first = first_key
        self._segment_records = segment_records
        self._patience = patience
        self._segment: Segment | None = None
        self._earlier: str | None = None
        self._ahead: Ahead[Rows] | None = None  # of the segment after the one that is folded
        self.conversation = Conversation()

    def apart(self) -> ConversationReader:
        """Another reader of the same conversation, which has read nothing and keeps what it reads to itself."""
        return ConversationReader(
            self._cache, self._first, segment_records=self._segment_records, patience=self._patience
        )

    def mark(self) -> Mark:
        """How far it was read. The conversation must be read, and not damaged."""
        read, segment = self.conversation, self._require_segment()
        state = State(**{name: getattr(read, name) for name in State.__struct_fields__})
        return Mark(state, segment.key, segment.base_version, segment.version, segment.newest)

    def resume(self, mark: Mark) -> None:
        """Go on where another reader was, of the same conversation, without what that has read.

        Where the cache has another past, the next read begins from nothing, with another `conversation`.
        """
        self.conversation = Conversation.from_segment(mark.state)
        self._segment = Segment(mark.key, mark.base_version, mark.version, mark.newest)
        self._earlier = self._first

    @property
    def segment(self) -> Segment | None:
        """The newest segment, as far as it was read; None where nothing was."""
        return self._segment

    def is_newest(self, segment: Segment) -> bool:
        """True where a reader that had read so far would find nothing new. Raises as `refresh` does."""
        return self._after(segment) == []

    def patiently(self, read: Callable[[], _T]) -> _T:
        """The result of `read`; a cache that is away is waited for. Raises `Unreachable` after `patience` seconds."""
        return patiently(read, self._patience)

    def refresh(self) -> Conversation:
        """Read what is new. A cold read takes a bounded number of objects: the newest segments.

        Raises `MissingError`; `FlameError` when the cache does not answer. Damage is noted in the conversation.
        """
        if self._segment is None or self.conversation.damage:
            self._open_newest()
        else:
            self._read_on(self._segment)
        return self.conversation

    def load(self, start: int = 0) -> Conversation:
        """Have all items from the index `start` on, reading earlier segments as far as they are needed.

        From 0 on everything is read, also turns whose items were all popped. An earlier segment that cannot be
        read is damage, noted as in `refresh`.
        """
        if self._segment is None:
            self.refresh()
        known = self.conversation.seq
        if start <= 0 and self._earlier is not None:
            self._fold_from(self._first, self._get(self._first))
        while self.conversation.unloaded_items > start and self._earlier is not None and not self.conversation.damage:
            try:
                self._fold_from(self._earlier, self._get(self._earlier))
            except (MissingError, DamagedError):
                self._fold_from(self._first, self._get(self._first))  # the way from there says what is wrong
        if self.conversation.seq < known and not self.conversation.damage:
            # A hint led further than the chain does: the record that named the hinted segment was lost.
            self.conversation.damage = _missing(self.conversation.seq + 1)
        return self.conversation

    def load_all(self) -> Conversation:
        """Read what is new, and have all items. Raises `DamagedError`, and what `refresh` raises."""
        self.refresh()
        conversation = self.load()
        if conversation.damage:
            raise conversation.damage
        return conversation

    def load_window(self, limit: int | None) -> Window:
        """Have the items that a model is shown which takes `limit` of them (None: all), as of the last `refresh`.

        Raises `DamagedError`, and what `refresh` raises.
        """
        while (window := self.loaded_window(limit)) is None:
            self.load(self._window_start(limit))
        return window

    def read_window(self, limit: int | None, *, fresh: bool) -> Window:
        """The same, where `fresh` after a `refresh`; a cache that is away is waited for."""

        def read() -> Window:
            if fresh:
                self.refresh()
            return self.load_window(limit)

        return self.patiently(read)

    def loaded_window(self, limit: int | None) -> Window | None:
        """As `load_window` without reading: None where earlier segments are needed. Raises `DamagedError`."""
        start = self._window_start(limit)
        return (
            Window(start, self.conversation.items_from(start)) if self.conversation.unloaded_items <= start else None
        )

    def _window_start(self, limit: int | None) -> int:
        if self.conversation.damage:
            raise self.conversation.damage
        return 0 if limit is None else self.conversation.window(limit)

    def stored_turn(self, turn_id: str) -> StoredTurn | None:
        """The turn of that ID, however long ago, as far as was read; None for one that is new.

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

    def read_turn(self, turn_id: str) -> StoredTurn | None:
        """The same after a `refresh`; a cache that is away is waited for."""

        def read() -> StoredTurn | None:
            self.refresh()
            return self.stored_turn(turn_id)

        return self.patiently(read)

    def is_cancelled(self, turn_id: str) -> bool:
        """True where someone has cancelled the turn since the last read. Looks ahead, without folding."""
        segment = self._require_segment()
        ahead = deque([(segment.key, segment.version)])
        while ahead:
            for _, row in self._get(*ahead.popleft()).patches:
                with suppress(Unreadable):
                    body = read_body(row or b"", read_envelope(row).v)
                    if isinstance(body, EditBody) and body.op == "cancel" and body.turn == turn_id:
                        return True
                    if isinstance(body, SegmentBody):  # if it lost, its object has nothing behind its base
                        ahead.append((body.key, 0))
        return False

    def _open_newest(self) -> None:
        """Begin from nothing, at the newest segment that a hint names, or at the first."""
        # Whatever the first segment still holds as records has been folded into a hinted one's base.
        tail = self._get(self._first, since=1 + self._segment_records)
        if tail.full:
            self._fold_from(self._first, tail)
            return
        for _, row in reversed(tail.patches):
            try:
                key = decode(row or b"", Hint).hint
                self._fold_from(key, self._get(key))
            except (ValueError, MissingError, DamagedError):
                continue  # the way through the chain says what is wrong
            return
        self._fold_from(self._first, self._get(self._first))

    def _read_on(self, segment: Segment) -> None:
        """Fold what came after the known version."""
        rows = self._after(segment)
        if rows is None:
            self._open_newest()  # the cache knows another past: believe it
            return
        self._fold_rows(segment, rows)
        self._follow_segments()

    def _after(self, segment: Segment) -> list[tuple[int, bytes | None]] | None:
        """The rows after the known version; None where the row that overlaps, if one is known, is not what it was."""
        known = 1 if segment.patches else 0
        rows = self._get(segment.key, since=segment.version - known)
        overlap = [(version, digest(row)) for version, row in rows.patches[:known]]
        if rows.full or overlap != [(segment.version, segment.newest)][:known]:
            return None
        return rows.patches[known:]

    def _fold_from(self, key: str, rows: Rows) -> None:
        """Fold from a segment's base on, and through the segments after it."""
        if key == self._first:
            try:
                self.conversation = Conversation.from_context(*context.read(rows.base), size=len(rows.base or b""))
            except DamagedError as error:
                self.conversation = Conversation(damage=error)
            self._earlier = None
        else:
            base = _segment_base(rows)
            self.conversation = Conversation.from_segment(base)
            self._earlier = base.previous
        self._enter_segment(key, rows)
        self._follow_segments()

    def _follow_segments(self) -> None:
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
            self._enter_segment(key, rows)

    def _enter_segment(self, key: str, rows: Rows) -> None:
        self._segment = Segment(key, rows.base_version, rows.base_version, b"")
        self._read_ahead(rows)
        self._fold_rows(self._segment, rows.patches)

    def _fold_rows(self, segment: Segment, rows: list[tuple[int, bytes | None]]) -> None:
        for _, row in rows:
            fold_row(self.conversation, row)
        if rows:
            segment.version, segment.newest = rows[-1][0], digest(rows[-1][1])

    def _read_ahead(self, rows: Rows) -> None:
        """Begin to read the segment that these rows end with, if they do, while they are folded."""
        if len(rows.patches) < self._segment_records:
            return
        with suppress(Unreadable):
            last = rows.patches[-1][1]
            body = read_body(last or b"", read_envelope(last).v)
            if isinstance(body, SegmentBody):
                self._ahead = Ahead(body.key, self._cache.get)

    def _get(self, key: str, since: int = 0) -> Rows:
        ahead, self._ahead = self._ahead, None
        try:
            if ahead is not None and ahead.key == key and not since:
                return ahead.result()
            return self._cache.get(key, since)
        except NotFound as error:
            raise MissingError("The conversation's objects are gone from Flame's cache.") from error

    def _require_segment(self) -> Segment:
        if self._segment is None:
            raise ConversationError("The conversation was not read.")
        return self._segment


def digest(row: bytes | None) -> bytes:
    """A hash of a row; of one that is not readable, none."""
    return b"" if row is None else blake2b(row, digest_size=16).digest()


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
