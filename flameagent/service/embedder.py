"""The vectors of a person's questions and turns, for the worker of one of their sessions.

Promises that nobody waits longer than `QUESTION_TIMEOUT` for a server of embeddings: without it words are searched,
and that is said, once until it answers again. A turn's vector is asked for after its answer was given, and kept in
the memory's log; those that are missing there are made up for in the same way.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection, Sequence
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from flameagent.memory.embeddings import (
    QUESTION_TIMEOUT,
    SETTING,
    STORE_TIMEOUT,
    Embeddings,
    EmbeddingsError,
    Vector,
    chosen,
)
from flameagent.memory.index import IndexedTurn
from flameagent.memory.meaning import question_text, recorded, require_numpy, text_of
from flamewire.failpoints import failpoint

if TYPE_CHECKING:
    from flameagent.service.person import Person
    from flameagent.service.turn import RunningTurn

_T = TypeVar("_T")

_BATCH = 32  # turns in a request


class Embedder:
    """Who asks for vectors. `trouble` is why there are none, where that is not as it should be."""

    def __init__(self, person: Person) -> None:
        self.trouble = ""
        self._told = False
        self._person = person
        self._embeddings: Embeddings | None = None
        self._asked: tuple[str, float, asyncio.Task[list[Vector]]] | None = None
        self._making: asyncio.Task[None] | None = None
        self._in_turn = False

    async def begin(self, question: str) -> None:
        """When a turn has begun: ask for the vector of its question, beside whatever else is done; of "" for none."""
        self._in_turn, self._asked = True, None
        if await self._can_ask() and question:
            self._ask(question)

    async def search(
        self,
        turn: RunningTurn,
        text: str,
        limit: int,
        *,
        without: Collection[str] = (),
        share: float = 0.0,
        read: bool = True,
    ) -> Sequence[tuple[IndexedTurn, float]]:
        """The turns that fit a text best, as `PersonMemory.search` has them: by words, and where possible by meaning.

        Where it should be and cannot, whoever asked is told, once.
        """
        memory = self._person.memory
        if memory is None:
            return []
        search = partial(memory.search, text, limit, without=without, share=share, read=read)
        by_meaning = partial(memory.search_by_meaning, text, limit=limit, without=without, share=share)
        found = None
        try:
            if (vector := await self._vector(text)) is not None and self._embeddings is not None:
                found = await self._call(partial(by_meaning, model=self._embeddings.model, vector=vector))
        except EmbeddingsError as error:
            self._fail(error)
        if found is None:
            found = await self._call(search)
        if self.trouble and not self._told:
            self._told = True
            turn.say(self.note())
        return found or []

    def note(self) -> str:
        """The sentence about a search that went by words where it should not have; "" where nothing is wrong."""
        return f"What was said earlier was searched by words only. {self.trouble}" if self.trouble else ""

    def finish(self) -> None:
        """When a turn is remembered: have the vectors made that are missing, once its answer is on its way."""
        self._in_turn = False
        is_on = self._embeddings is not None and self._person.memory is not None
        if is_on and (self._making is None or self._making.done()):
            # What a turn is in the middle of stays its own.
            self._making = asyncio.get_running_loop().create_task(self._make_up(), context=Context())

    async def _can_ask(self) -> bool:
        """True where the settings name a server that has not failed, and there is something to compare with."""
        if not os.environ.get(SETTING, "").strip():
            self._embeddings = None
            self._works()
            return False
        try:
            server = chosen(os.environ)
            if server is not None and (self._embeddings is None or self._embeddings.server != server):
                self._embeddings = None
                await asyncio.to_thread(require_numpy)
                self._embeddings = await asyncio.to_thread(Embeddings, server, os.environ)
                self._works()
        except EmbeddingsError as error:
            self._fail(error)
        memory, embeddings = self._person.memory, self._embeddings
        if memory is None or embeddings is None or self.trouble:
            return False
        return bool(await self._call(memory.has_vectors, embeddings.model))

    def _ask(self, text: str) -> asyncio.Task[list[Vector]]:
        assert self._embeddings is not None
        asked = asyncio.to_thread(self._embeddings.of, [question_text(text)], QUESTION_TIMEOUT)
        task = asyncio.get_running_loop().create_task(asked, context=Context())
        task.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )  # it may be that nobody waits for it
        self._asked = text, time.monotonic(), task
        return task

    async def _vector(self, text: str) -> Vector | None:
        """The vector of a text; None where there is none. Raises `EmbeddingsError`."""
        if self._asked is None or self._asked[0] != text:
            if not await self._can_ask():
                return None
            self._ask(text)
        assert self._asked is not None
        _, began, task = self._asked
        left = max(began + QUESTION_TIMEOUT - time.monotonic(), 0.0)
        if not (await asyncio.wait({task}, timeout=left))[0]:
            raise EmbeddingsError(f"The embeddings server did not answer within {QUESTION_TIMEOUT:g} seconds.")
        return task.result()[0]

    async def _make_up(self) -> None:
        """Have the vectors made that are missing, batch by batch, until a turn begins."""
        memory, embeddings = self._person.memory, self._embeddings
        tried: set[str] = set()
        while memory is not None and embeddings is not None and not self._in_turn:
            turns = await self._call(memory.lacking, embeddings.model, _BATCH)
            if not turns or turns[0].turn in tried:
                return
            tried |= {turn.turn for turn in turns}
            began = time.monotonic()
            try:
                texts = [text_of(turn) for turn in turns]
                vectors = await asyncio.to_thread(embeddings.of_each, texts, STORE_TIMEOUT)
            except EmbeddingsError as error:
                self._fail(error)
                return
            if time.monotonic() - began < QUESTION_TIMEOUT:
                self._works()
            failpoint("vectors: made")
            named = [turn.turn for turn, _ in zip(turns, vectors, strict=False)]
            made = await asyncio.to_thread(recorded, embeddings.model, named, vectors)
            if not await self._call(memory.add_vectors, made):
                return  # the worker of another session makes them, too

    async def _call(self, function: Callable[..., _T], *arguments: object) -> _T | None:
        return await self._person.call(function, *arguments)

    def _works(self) -> None:
        self.trouble, self._told = "", False

    def _fail(self, error: EmbeddingsError) -> None:
        """Ask nothing more while somebody waits, until what is asked after an answer is answered again."""
        if self.trouble != str(error):
            self.trouble, self._told = str(error), bool(self.trouble) and self._told
