"""The person whose session an instance serves: what is remembered of them, kept in step with the conversation.

Promises that memory never fails a turn: what goes wrong with it is told in a note. What is missing because a process
ended between a turn and its memory is made up for before the next turn, and what was taken back meanwhile goes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from flameagent.apis import Question
from flameagent.conversation import ConversationError, FlameSession, MissingError, Turn
from flameagent.conversation.serial_calls import SerialCalls
from flameagent.flame import FlameError
from flameagent.flame.cache import ObjectCache
from flameagent.flame.frontend import Frontend
from flameagent.memory import place
from flameagent.memory.index import IndexedTurn
from flameagent.memory.person import Fact, PersonMemory
from flameagent.service.embedder import Embedder
from flamewire.object_ref import ObjectRef

_T = TypeVar("_T")


class Person:
    """What is remembered of the user of a session. `memory` is None where nothing is, and `trouble` why.

    `facts` are what was said last under each key (None: it was forgotten), and `empty` says that no turn is
    remembered, as of `begin` or the last `look`. `embedder` has vectors of questions and turns.
    """

    def __init__(
        self,
        application: str,
        session: FlameSession,
        cache: ObjectCache,
        guard: Callable[[], AbstractContextManager[None]],
        frontend: Callable[[], Frontend],
    ) -> None:
        self.memory: PersonMemory | None = None
        self.trouble = ""
        self.facts: dict[str, Fact | None] = {}
        self.empty = True
        self._application = application
        self._session = session
        self._cache = cache
        self._guard = guard
        self._frontend = frontend
        self._calls = SerialCalls()
        self._key = ""
        self._ahead: asyncio.Task[bool | None] | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._rewound: set[str] = set()
        self.embedder = Embedder(self)

    def expect(self, question: Question) -> None:
        """Before a turn: begin to read what is new, beside what else is done before `begin`."""
        self.trouble, self.facts, self.empty, self._ahead = "", {}, True, None
        if question.memory == self._key:
            self.read_ahead()

    def read_ahead(self) -> None:
        """Begin to read what is new, beside what else is done before `begin`, or `finish`, which wait for it."""
        if self.memory is not None:
            self._ahead = asyncio.create_task(self.call(self._look))

    async def begin(self, question: Question) -> None:
        """Before a turn: find the memory that the question names, if it is the owner's, and bring it up to date."""
        owner = self._session.owner
        wanted = os.environ.get("AGENT_MEMORY", "").strip() != "off"
        if not (wanted and place.is_of(question.memory, self._application, owner)):
            self.memory, self._key = None, ""
            return
        if question.memory != self._key:
            self._key = question.memory
            self.memory = PersonMemory(self._cache, self._key, self._guard)
        if await self._is_read() and (self._missing() or self._gone()):
            await self.call(self._make_up)
            await self.look()
        await self.embedder.begin("" if question.decision else question.question)

    async def look(self) -> None:
        """Read the newest `facts`, and whether memory is `empty`."""
        if self.memory is not None:
            await self.call(self._look)

    async def finish(self) -> None:
        """After a turn: remember it."""
        if self.memory is not None and await self._is_read():
            await self.call(self._make_up)
            self._preparing = asyncio.create_task(self.call(self.memory.prepare))  # for the next turn's search
            self.embedder.finish()

    async def call(self, function: Callable[..., _T], *arguments: Any) -> _T | None:
        """Call what uses the memory in a thread; None where that fails, and `trouble` says why."""
        try:
            return await self._calls.change(function, *arguments)
        except (ConversationError, FlameError) as error:
            self.trouble = f"What is remembered of you cannot be used now: {error}"
            return None

    async def _is_read(self) -> bool:
        """True when what is new was read; False where that cannot be, and `trouble` says why."""
        ahead, self._ahead = self._ahead, None
        return bool(await (ahead or self.call(self._look)))

    def _make_up(self) -> None:
        """Add the turns of the conversation that are missing, and take back what it has taken back.

        On what was read just now: another read would take as long as an append.
        """
        assert self.memory is not None
        for turn in self._missing():
            facts = {key: value for key, value in turn.facts.items() if key not in turn.own_facts}
            self.memory.add(self._indexed(turn), facts, read=False)
        if gone := self._gone():
            self.memory.withdraw(self._session.session_id, gone)
            self._rewound |= gone

    def _missing(self) -> list[Turn]:
        """The turns of the conversation that are not remembered, as far as both were read; the oldest first."""
        assert self.memory is not None
        missing: list[Turn] = []
        for turn in reversed(self._session.recorded):
            if turn.source is not None or self.memory.knows(turn.id):  # a copy brought this and those before it
                break
            missing.append(turn)
        return missing[::-1]

    def _gone(self) -> set[str]:
        """The turns that the conversation has taken back, and this process has not from memory."""
        return self._session.rewound - self._rewound

    def _look(self) -> bool:
        assert self.memory is not None
        try:
            self.facts = self.memory.verdicts()
        except MissingError as error:
            self.memory = self._begun_anew(error)
            self.facts = self.memory.verdicts()
        self.empty = self.memory.size == 0
        return True

    def _begun_anew(self, error: MissingError) -> PersonMemory:
        """The memory that there is now: all was erased after the client had asked for its key."""
        session_id = place.session_id(self._application, self._session.owner)
        try:
            data = self._frontend().session(session_id).common_data
            key = ObjectRef.decode(data).key if data else ""
        except (FlameError, ValueError):
            raise error from None
        if not place.is_of(key, self._application, self._session.owner):
            raise error
        return PersonMemory(self._cache, key, self._guard)

    def _indexed(self, turn: Turn) -> IndexedTurn:
        answer = str(turn.answer.get("answer", ""))
        return IndexedTurn(self._session.session_id, turn.number, turn.id, turn.at, turn.question, answer)
