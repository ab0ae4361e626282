"""Messages that come while a turn runs, and are put into it: questions that wait behind it in Flame and name it.

Such a question is a task of the session like any other, so nothing is lost and nothing is done twice: the turn takes
it in and its record lists it, and then its task is answered with that turn; or its task comes, and it is asked as a
question of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flameagent import wire
from flameagent.apis import Decision, Question
from flameagent.flame import FlameError
from flameagent.flame.frontend import Frontend
from flameagent.text import well_formed
from flamewire.failpoints import failpoint

if TYPE_CHECKING:
    from flameagent.conversation import StagedTurn
    from flameagent.service.sdk_compat import RunsState
    from flameagent.service.stream import Stream

_EVERY = 0.5
_PATIENCE = 5.0


@dataclass(frozen=True)
class Message:
    """A message for the turn that runs, under the ID of its question."""

    id: str
    text: str

    @property
    def item(self) -> dict[str, Any]:
        """The message as an item of the conversation."""
        return {"role": "user", "content": self.text}


class Steering:
    """The messages for one turn, whose task is `task_id`; Flame's tasks of a session count up."""

    def __init__(self, frontend: Callable[[], Frontend], session_id: str, task_id: str, turn_id: str) -> None:
        self._frontend = frontend
        self._session_id = session_id
        self._next = int(task_id) + 1 if task_id.isdecimal() else 0
        self._turn_id = turn_id
        self._put: list[tuple[Message, int]] = []

    async def look(self) -> list[Message]:
        """The messages that have come since the last look; none where Flame does not say."""
        found = await asyncio.to_thread(self._look) if self._next else []
        if found:
            failpoint("turn: message found")
        return found

    def _look(self) -> list[Message]:
        found: list[Message] = []
        with suppress(FlameError):  # nothing is there, or it is looked again
            while True:
                task = self._frontend().task(self._session_id, str(self._next), timeout=_PATIENCE)
                self._next += 1
                asked = _question(task.input)
                wants_in = asked is not None and asked.steer == self._turn_id and asked.id
                if asked is not None and wants_in and not asked.attachments and not task.state.terminal:
                    found.append(Message(asked.id, well_formed(asked.question)))
        return found

    @asynccontextmanager
    async def into(self, staged: StagedTurn, given: object, stream: Stream | None) -> AsyncIterator[None]:
        """Put what comes into the run that begins inside, or goes on with the `RunState` that it is `given`.

        The run takes it in before its next call of the model: then it is among the items of the turn.
        """
        from flameagent.service import sdk_compat

        with sdk_compat.state_of_run(given) as state:
            looker = asyncio.create_task(self._look_on(staged, state, stream))
            try:
                yield
            finally:
                looker.cancel()
                await asyncio.wait({looker})
                self._note(staged, stream)

    async def _look_on(self, staged: StagedTurn, state: RunsState, stream: Stream | None) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            self._note(staged, stream)
            if state.known and staged.items:  # the question, which stands before them
                for message in await self.look():
                    self._put.append((message, len(staged.items)))
                    state.put_in(message.item)

    def _note(self, staged: StagedTurn, stream: Stream | None) -> None:
        """Have the record of the turn list what the run has taken in."""
        for message, place in [put for put in self._put if put[0].item in staged.items[put[1] :]]:
            self._put.remove((message, place))
            staged.steered.append(message.id)
            if stream is not None:
                stream.event(message={"id": message.id, "text": message.text})


def _question(data: bytes | None) -> Question | None:
    try:
        asked = wire.read(data, Question, Decision)
    except ValueError:
        return None
    return asked if isinstance(asked, Question) else None
