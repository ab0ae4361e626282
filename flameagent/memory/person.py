"""What an agent remembers of a person: the turns of all their sessions, and the facts in them.

Kept as a log like a conversation's, whose turns have no items and say where they were. The conversations stay the
truth: a turn comes here after its own record, once by its ID, and goes with it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TypeVar

from flameagent.conversation import (
    CancelledError,
    ConflictError,
    Conversation,
    ConversationLog,
    EditBody,
    Facts,
    MissingError,
    Source,
    TurnBody,
    Vectors,
)
from flameagent.conversation.reader import Cache
from flameagent.flame import FlameError, NotFound
from flameagent.memory import index_file
from flameagent.memory.embeddings import Vector
from flameagent.memory.index import IndexedTurn
from flameagent.memory.meaning import DEPTH, Meaning, fused
from flameagent.memory.person_index import PersonIndex, Position, is_plain
from flamewire.failpoints import failpoint

_T = TypeVar("_T")


@dataclass(frozen=True)
class Fact:
    """A fact about a person: learned in a turn of a session, at a time (epoch milliseconds).

    `superseded` are those that were learned under the same key before, the newest first.
    """

    key: str
    value: str
    session: str
    turn: int
    at: int
    superseded: list[Fact] = field(default_factory=list)


class PersonMemory:
    """The memory of one person; `key` is its first object. Blocking; for one thread at a time.

    Each method reads what is new before, into an index that all processes of a user on a node share, and that is
    made anew where it does not fit the log. Without a file it is in memory. Raises `ConversationError` for a memory
    that is damaged or was written by a newer program, `FlameError` where the cache does not answer.
    """

    def __init__(
        self,
        cache: Cache,
        key: str,
        guard: Callable[[], AbstractContextManager[None]] = nullcontext,
        *,
        in_file: bool = True,
    ) -> None:
        self._cache, self._key, self._in_file = cache, key, in_file
        self._log = ConversationLog(cache, key, guard=guard)
        self._index: PersonIndex | None = None
        self._position: Position | None = None  # of the index, when it was last brought up to date
        self._followed: Conversation | None = None  # what the log's was then: another one has another past
        self._meaning: tuple[PersonIndex, Meaning] | None = None
        self._verdicts: tuple[str, dict[str, Fact | None]] = ("", {})  # as of the record of `learned`

    @property
    def size(self) -> int:
        """How many turns were remembered when they were last read."""
        return self._position.turns if self._position else 0

    def add(self, turn: IndexedTurn, facts: Facts | None = None, *, again: bool = False, read: bool = True) -> bool:
        """Remember a turn, with the facts that it changed. False where it is known.

        One from before all was erased is not remembered, but where somebody wants it `again`. Without `read` it goes
        behind what the caller has read just now.
        """
        source = Source(turn.session, turn.number, turn.at)
        answer = {"answer": turn.answer}
        body = TurnBody(turn.turn, turn.question, [], answer, facts=facts or {}, source=source)
        if self._followed is None:
            self._read(lambda index: None)
        failpoint("memory: before")
        while not self.knows(turn.turn) and (again or turn.at > self._log.conversation.erased):
            try:
                known = self._log.append(body, revision=self._log.conversation.revision, read=read)
            except (CancelledError, ConflictError):
                read = True  # somebody has just added another turn, taken this one back, or had all erased
                continue
            failpoint("memory: added")
            return known is None
        return False

    def withdraw(self, session: str, turns: Collection[str], by: str = "") -> int:
        """Take back turns of a session, by ID, with the facts that they brought; how many were there.

        One that is not there does not come any more. What came from another session stays: a copy has its turns, too.
        """
        there = [turn.turn for turn in self._of(session) if turn.turn in turns]
        coming = [turn_id for turn_id in sorted(turns) if not self.knows(turn_id)]
        if there or coming:
            self._edit(EditBody("withdraw", turns=[*there, *coming], by=by))
        return len(there)

    def withdraw_session(self, session: str, by: str = "") -> int:
        """Take back what came from a session; how many turns."""
        return self.withdraw(session, {turn.turn for turn in self._of(session)}, by)

    def forget(self, key: str, by: str = "") -> bool:
        """Forget a fact and what it took the place of, as if it had never been learned. False where there is none."""
        if not self._read(lambda index: index.is_known_fact(key)):
            return False
        self._edit(EditBody("forget", keys=[key], by=by))
        return True

    def erase(self, by: str = "") -> None:
        """Forget everything, so that no turn from before comes back. The bytes are there until their objects go."""
        self._log.refresh()
        self._edit(EditBody("erase", by=by))

    def turns(self) -> list[IndexedTurn]:
        """All turns that are remembered, in the order in which they came."""
        return self._read(lambda index: index.turns())

    def learned(self) -> list[tuple[IndexedTurn, Facts]]:
        """The same, each with the facts that it changed."""
        return self._read(lambda index: index.learned())

    def facts(self) -> list[Fact]:
        """The facts that hold, the oldest first, each with those that it took the place of."""
        return [fact for fact in self.verdicts().values() if fact is not None]

    def verdicts(self) -> dict[str, Fact | None]:
        """What was said last under each key, the oldest first; None where it was forgotten."""
        return self._read(self._judged)

    def search(
        self,
        question: str,
        limit: int = 10,
        *,
        without: Collection[str] = (),
        share: float = 0.0,
        read: bool = True,
    ) -> list[tuple[IndexedTurn, float]]:
        """The turns that fit a question best, with scores, the best first; none whose ID is in `without`.

        `share` is how much of the question is to be in a turn, as `TurnIndex.search` has it. Without `read` it is in
        what the caller has read just now.
        """
        return self._read(
            lambda index: index.searched.search(question, limit, without=without, share=share), anew=read
        )

    def prepare(self) -> None:
        """Have a search find what was read and added so far, without taking the time for it."""
        self._read(lambda index: None, anew=False)

    def search_by_meaning(
        self,
        question: str,
        model: str,
        vector: Vector,
        limit: int = 10,
        *,
        without: Collection[str] = (),
        share: float = 0.0,
    ) -> list[tuple[IndexedTurn, float]]:
        """The same, by words and by what the question means: `vector` is what that model has made of it.

        With a `share` a turn that has too little of the question has to stand out by its meaning. Raises
        `EmbeddingsError` for a vector of another length than the turns' have.
        """
        depth = max(limit, DEPTH)

        def search(index: PersonIndex) -> list[tuple[IndexedTurn, float]]:
            words = index.searched.search(question, depth, without=without, share=share)
            ranked = self._followed_by(index, model).ranked(vector, index.vectors, depth, without=without)
            return fused(words, [each for each in ranked if each.stands_out or not share], limit)

        return self._read(search)

    def has_vectors(self, model: str) -> bool:
        """True where there are vectors by that model."""
        return self._read(lambda index: index.vectors.state(model).size > 0)

    def lacking(self, model: str, limit: int) -> list[IndexedTurn]:
        """The oldest turns of which there are no vectors by that model."""
        return self._read(lambda index: index.vectors.lacking(model, limit))

    def add_vectors(self, vectors: Vectors) -> bool:
        """Keep the vectors of turns that are still remembered and have none; False where there is no such turn."""
        failpoint("vectors: before")
        while (kept := self._read(lambda index: index.vectors.wanted(vectors))).turns:
            try:
                self._log.append(EditBody("vectors", vectors=kept), revision=self._log.conversation.revision)
            except ConflictError:
                continue  # somebody has just added a turn, taken some back, or had all erased
            failpoint("vectors: added")
            return True
        return False

    def _followed_by(self, index: PersonIndex, model: str) -> Meaning:
        if self._meaning is None or self._meaning[0] is not index or self._meaning[1].model != model:
            self._meaning = index, Meaning(model)
        self._meaning[1].follow(index.vectors)
        return self._meaning[1]

    def knows(self, turn_id: str) -> bool:
        """True where the turn was remembered, or taken back, when the memory was last read."""
        known = self._log.conversation
        return known.recent_turn(turn_id) is not None or turn_id in known.cancelled or known.is_old_turn(turn_id)

    def _edit(self, body: EditBody) -> None:
        self._log.append(body)
        self._read(lambda index: None)  # what was taken back is gone from the index, too

    def _of(self, session: str) -> list[IndexedTurn]:
        return self._read(lambda index: index.turns(session))

    def _judged(self, index: PersonIndex) -> dict[str, Fact | None]:
        position = index.position()
        learned = position.learned if position else ""
        if learned != self._verdicts[0]:
            known: dict[str, list[Fact]] = {}  # the oldest first; none where it was forgotten last
            for key, value, session, number, at in index.said():
                before = known.pop(key, [])
                known[key] = [] if value is None else before
                if value is not None:
                    before.append(Fact(key, value, session, number, at))
            self._verdicts = learned, {key: _newest(facts) for key, facts in known.items()}
        return self._verdicts[1]

    def _read(self, what: Callable[[PersonIndex], _T], *, anew: bool = True) -> _T:
        """Ask the index, when it has what is new, or without `anew` what was read and added.

        A file that cannot be used is made anew once, or done without.
        """
        renewed = False
        while True:
            try:
                index = self._opened()
                while not self._follow(index, anew):
                    pass  # another process was first
                with index.reading():
                    return what(index)
            except (sqlite3.Error, TypeError, ValueError) as error:  # a damaged file may have anything in its columns
                if not self._in_file:
                    raise
                self._in_file = not renewed and index_file.is_damaged(error)
                self._index, renewed = None, True
                if self._in_file:
                    index_file.remove(self._key)

    def _opened(self) -> PersonIndex:
        if self._index is None or not self._index.is_there:
            url = str(getattr(self._cache, "url", ""))
            self._index = PersonIndex(self._key, url, in_file=self._in_file)
            self._followed = None
            if self._index.path is not None:
                index_file.sweep(self._index.path, url, self._is_gone)
        return self._index

    def _follow(self, index: PersonIndex, anew: bool) -> bool:
        """Bring the index up to date; False where another process has changed it meanwhile."""
        known = index.position()
        log = self._log
        if known is not None and (known != self._position or log.conversation is not self._followed):
            log.resume(index.mark())
            log.conversation.journal = []
            self._position, self._followed = known, log.conversation
        try:
            if anew:
                log.refresh()
            if known is None or log.conversation is not self._followed:
                return self._fill(index, known)
        except MissingError:
            index_file.remove(self._key)
            raise
        if log.conversation.damage:
            self._followed = None
            raise log.conversation.damage
        records = log.conversation.journal or []
        if not all(is_plain(body) for _, body in records):
            return self._fill(index, known)
        if records:
            self._position = index.update(records, log.mark(), known)
            records.clear()
        return self._position is not None

    def _fill(self, index: PersonIndex, known: Position | None) -> bool:
        """Make the index of the whole log."""
        self._followed = None
        reader = self._log.apart()
        conversation = reader.load_all()
        mark = reader.mark()
        self._position = index.fill((turn for turn, _ in conversation.turns()), conversation.vectors, mark, known)
        if self._position is None:
            return False
        self._log.resume(mark)
        self._log.conversation.journal = []
        self._followed = self._log.conversation
        return True

    def _is_gone(self, key: str) -> bool:
        """True where the log of another person, or of another time, is not in the cache any more."""
        try:
            if key:
                self._cache.get(key, since=1)
        except NotFound:
            return True
        except FlameError:
            pass
        return False


def _newest(facts: list[Fact]) -> Fact | None:
    """The fact that holds of those under one key."""
    return replace(facts[-1], superseded=facts[-2::-1]) if facts else None
