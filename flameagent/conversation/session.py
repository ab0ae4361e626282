"""`FlameSession`: a session of the OpenAI Agents SDK that is kept in Flame's CommonData.

Promises what the SDK's `Session` protocol asks (`agents/memory/session.py`, 0.24.0), and that inside
`async with session.turn(id)` everything becomes one record or nothing. Imports nothing of the SDK: its
protocol is structural, and importing it takes seconds.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

import msgspec

from apis import Answer
from flameagent.conversation.answers import stored_answer
from flameagent.conversation.errors import ConflictError, ConversationError
from flameagent.conversation.log import ConversationLog
from flameagent.conversation.reader import Window
from flameagent.conversation.records import Body, DecisionBody, EditBody, Item, changed_facts
from flameagent.conversation.serial_calls import SerialCalls
from flameagent.conversation.staging import StagedTurn
from flameagent.conversation.state import PendingApproval, StoredTurn
from flamewire.failpoints import failpoint

if TYPE_CHECKING:
    from agents.items import TResponseInputItem
    from agents.memory import SessionSettings

WINDOW = 200
"""The number of items that the model sees at most, unless the session is told otherwise."""

_started_in: ContextVar[dict[FlameSession, StagedTurn]] = ContextVar("the turns that this code was started in")


class FlameSession:
    """One conversation, as the Agents SDK uses it.

    Pass it to `Runner.run(agent, question, session=session)`. Used directly, each call is a record of its
    own and `get_items()` gives everything; inside `turn()` changes are staged and `get_items()` gives the
    window: whole turns, `window` items at most (None: all). A change that is cancelled while it is being
    appended is waited for, as the SDK's own sessions do, and then raises `asyncio.CancelledError`.

    Errors are those of `flameagent.conversation.errors`, and `flameagent.flame.FlameError` when the cache
    does not answer.
    """

    session_settings: SessionSettings | None = None

    def __init__(
        self,
        session_id: str,
        log: ConversationLog,
        *,
        window: int | None = WINDOW,
        session_settings: SessionSettings | None = None,
    ) -> None:
        self.session_id = session_id
        self.session_settings = session_settings
        self._log = log
        self._calls = SerialCalls()  # of the log
        self._window_limit = window
        self._turn: StagedTurn | None = None
        self._seen = Window(0, [])  # before the turn that runs

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """The newest `limit` items (None: all that there are to see), oldest first; the caller's to change.

        Without `limit` that of `session_settings` counts, if it has one.
        """
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        turn = self._running()
        if turn is None:
            items = await self._calls.read(self._items)
        else:
            items = self._seen.items + turn.items
        if limit is not None:
            items = items[-limit:] if limit > 0 else []
            if turn is not None:
                turn.omitted_items = self._seen.start + max(len(self._seen.items) - limit, 0)
        copied: list[TResponseInputItem] = msgspec.to_builtins(items)  # dicts copied one by one, in C
        return copied

    async def add_items(self, items: Sequence[TResponseInputItem]) -> None:
        """Add items at the end; each a JSON object. None is no change."""
        copied: list[Item] = [json.loads(json.dumps(_plain(item))) for item in items]
        if not copied:
            return
        turn = self._running()
        if turn is not None:
            turn.items.extend(copied)
        else:
            await self._calls.change(self._append, EditBody("add", items=copied))

    async def pop_item(self) -> TResponseInputItem | None:
        """Remove the newest item and return it; None when there is none.

        Inside a turn only the turn's own items can be taken back: `ConversationError` otherwise.
        """
        turn = self._running()
        if turn is None:
            return await self._calls.change(self._pop)
        if not turn.items:
            raise ConversationError("Inside a turn only items of that turn can be popped.")
        return cast("TResponseInputItem", turn.items.pop())

    async def clear_session(self) -> None:
        """Remove all items. Inside a turn: those of that turn."""
        turn = self._running()
        if turn is not None:
            turn.items.clear()
        else:
            await self._calls.change(self._append, EditBody("clear"))

    def history(self) -> list[str]:
        """All items as JSON strings, oldest first, as `MyContext.messages` has them. Blocks while it reads."""
        staged = self._turn.items if self._turn else []
        return [json.dumps(item) for item in [*self._calls.call(self._items), *staged]]

    @property
    def shows_all(self) -> bool:
        """True where the turn that runs sees the conversation from its beginning."""
        limit = self.session_settings.limit if self.session_settings else None
        return self._seen.start == 0 and limit is None and self._log.conversation.whole

    def call_ids(self) -> set[str]:
        """The IDs of calls that are known: of all, while the turn `shows_all`; of those that have waited always."""
        staged = self._turn.items if self._turn else []
        return self._log.conversation.call_ids() | {str(item["call_id"]) for item in staged if item.get("call_id")}

    @property
    def prompt(self) -> str:
        """The session's system prompt; empty: the agent's own."""
        return self._log.conversation.prompt

    @property
    def model(self) -> str:
        """The model that answered last; empty: none yet."""
        return self._log.conversation.model

    @property
    def facts(self) -> dict[str, str]:
        """The facts that are remembered, oldest first; inside a turn with its changes."""
        return changed_facts(self._log.conversation.facts, self._turn.facts if self._turn else {})

    def learn(self, key: str, text: str | None) -> None:
        """Remember a text under a key, or forget it (None), with the turn that runs.

        Raises `ConversationError` outside a turn.
        """
        turn = self._running()
        if turn is None:
            raise ConversationError("Facts are learned inside a turn.")
        turn.facts.pop(key, None)
        turn.facts[key] = text

    @property
    def always_approved(self) -> tuple[str, ...]:
        """Rules, `TOOL of AGENT`: such calls need no approval any more in this conversation."""
        return self._log.conversation.always_approved

    @property
    def waiting(self) -> PendingApproval | None:
        """The turn that waits for an approval, as the conversation was last read (`stored` reads it)."""
        return self._log.conversation.waiting

    def has_decided(self, decision: str) -> bool:
        """True where a decision of that name is in the conversation, as it was last read (`stored` reads it)."""
        return decision in self._log.conversation.decided

    async def decide(self, decision: DecisionBody) -> None:
        """Record what was decided of the turn that goes on, before any of its tools run.

        Raises `ConflictError` when someone else has decided, and what an append raises.
        """
        if self._turn is None or self._turn.resumed is None:
            raise ConversationError("No turn goes on here.")
        await self._calls.change(self._append, decision, self._turn.revision)
        failpoint("decision: recorded")
        self._turn.revision = self._log.conversation.revision

    async def stored(self, turn_id: str, question: str) -> Answer | None:
        """The Answer of a turn that is in the conversation already, or None. A cache that is away is waited for.

        Raises `ConflictError` when that turn answered another question, or was cancelled long ago.
        """
        turn = await self._calls.read(self._stored_turn, turn_id)
        return None if turn is None else _answer(turn, question)

    @asynccontextmanager
    async def turn(
        self, turn_id: str, question: str, *, resume: str = "", read: bool = True
    ) -> AsyncIterator[StagedTurn]:
        """A turn: all or nothing.

        Leaving normally appends one record with everything that was added, after which `answer` is what the
        conversation holds; leaving with an exception adds nothing. With `resume` it is the turn that waits
        as that record, with what it had staged. Without `read` it begins on what `stored` has just read.
        Raises `WaitingError` when one waits and this is another, `ConflictError` when someone else added or
        decided meanwhile, `CancelledError`, `DamagedError`, `UnclearError`.
        """
        if self._turn is not None:
            raise ConversationError("A turn is already running in this session.")
        staged = self._turn = StagedTurn(turn_id, question)
        inside = _started_in.set(_started_in.get({}) | {self: staged})
        try:
            self._seen = await self._calls.read(self._begin, staged, resume, read)
            yield staged
            answer = staged.finish()
            stored = await self._calls.change(self._append, staged.record(answer), staged.revision)
            if stored is not None:
                staged.answer = _answer(stored, staged.question)
            elif (waiting := self._log.conversation.waiting) is not None:
                answer.on = waiting.record_id
        finally:
            self._turn, self._seen = None, Window(0, [])
            _started_in.reset(inside)

    def _running(self) -> StagedTurn | None:
        """The turn that a change belongs to; None: a record of its own.

        Raises `ConversationError` for code that a turn left behind when it ended, such as a streamed run that
        nobody reads any more: it may not add to the conversation afterwards.
        """
        started_in = _started_in.get({}).get(self)
        if started_in is not None and started_in is not self._turn:
            raise ConversationError("The turn that this belongs to has ended; nothing was added.")
        return self._turn

    def _stored_turn(self, turn_id: str) -> StoredTurn | None:
        def read() -> StoredTurn | None:
            self._log.refresh()
            return self._log.stored_turn(turn_id)

        return self._log.patiently(read)

    def _append(self, body: Body, revision: int | None = None) -> StoredTurn | None:
        return self._log.append(body, revision=revision)

    def _begin(self, staged: StagedTurn, resume: str, read: bool) -> Window:
        """Read what the model will see, and have the turn begin behind it."""

        def window() -> Window:
            if read:
                self._log.refresh()
            return self._log.load_window(self._window_limit)

        seen = self._log.patiently(window)
        staged.omitted_items = seen.start
        staged.begin(self._log.conversation, resume)
        return seen

    def _items(self) -> list[Item]:
        return self._log.load_all().items()

    def _pop(self) -> TResponseInputItem | None:
        while True:
            items = self._items()
            if not items:
                return None
            try:
                self._log.append(EditBody("pop"), revision=self._log.conversation.revision)
            except ConflictError:
                continue
            return cast("TResponseInputItem", items[-1])


def _answer(turn: StoredTurn, question: str) -> Answer:
    if turn.question != question:
        raise ConflictError("A turn of that ID has already answered another question; nothing was added.")
    return stored_answer(turn)


def _plain(item: Any) -> Any:
    """An item as plain JSON types; the SDK's own items may be pydantic objects."""
    return item.model_dump(exclude_unset=True) if hasattr(item, "model_dump") else item
