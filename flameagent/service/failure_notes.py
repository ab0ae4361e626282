"""Notes of the turns that failed in this worker, written beside their conversation before whoever asked is told.

Promises that a failed turn stays what it is: what goes wrong here is told to nobody, and takes two seconds at most.
What could not be written then is written with a later turn, as long as the process lives.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

from flameagent.apis import Answer, Question
from flameagent.conversation import Usage
from flameagent.conversation.failures import Failure, FailureLog, attachment_names
from flameagent.flame import FlameError
from flameagent.service.turn import RunningTurn

_PATIENCE = 2.0
_UNWRITTEN = 50

_REFUSED = ("waiting", "no_session")
"""Codes of questions that were not asked: one waits before them, or the session is not the user's."""


class FailureNotes:
    """The failures that are to be in the log of a session."""

    def __init__(self, log: FailureLog) -> None:
        self._log = log
        self._unwritten: deque[Failure] = deque(maxlen=_UNWRITTEN)
        self._writing: asyncio.Future[None] | None = None

    @property
    def unwritten(self) -> bool:
        """True while there are some that this process alone knows of."""
        return bool(self._unwritten)

    async def turn_ended(
        self, question: Question, answer: Answer, turn_id: str, task_id: str, began: int, turn: RunningTurn | None
    ) -> None:
        """A turn has ended with this answer; `turn` is how far it ran, and it `began` then (epoch milliseconds)."""
        if answer.error and answer.code not in _REFUSED:
            self._unwritten.append(_failure(question, answer, turn_id, task_id, began, turn))
        if self._unwritten:
            await self._write()

    async def _write(self) -> None:
        until = time.monotonic() + _PATIENCE
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=_PATIENCE)
            if not self._writing.done():
                return
        self._writing = asyncio.ensure_future(asyncio.to_thread(self._write_all, until))
        await asyncio.wait({self._writing}, timeout=max(until - time.monotonic(), 0.0))

    def _write_all(self, until: float) -> None:
        while self._unwritten:
            failure = self._unwritten[0]
            try:
                self._log.add(failure, until)
            except (FlameError, OSError):  # OSError: the instance has gone, and this process ends
                return
            if self._unwritten and self._unwritten[0] is failure:  # not pushed out meanwhile
                self._unwritten.popleft()


def _failure(
    question: Question, answer: Answer, turn_id: str, task_id: str, began: int, turn: RunningTurn | None
) -> Failure:
    staged = turn.staged if turn else None
    return Failure(
        turn=str(staged.id if staged else turn_id),
        ended=int(time.time() * 1000),
        code=answer.code or "failed",
        reason=answer.error,
        question=str(staged.question if staged else question.question),
        attachments=attachment_names(question.attachments),
        user=str(question.user or (staged.user if staged else "")),
        began=began,
        task=task_id,
        decision=question.decision is not None,
        model=str(turn.spending.model if turn else question.model),
        usage=turn.spending.used - turn.spending.resumed if turn else Usage(),
    )
