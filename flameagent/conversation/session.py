"""`FlameSession`: a session of the OpenAI Agents SDK that is kept in Flame's CommonData.

Promises what the SDK's `Session` protocol asks (`agents/memory/session.py`, 0.24.0), and that inside
`async with session.turn(id)` everything becomes one record or nothing. Imports nothing of the SDK: its
protocol is structural, and importing it takes seconds.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from apis import Answer
from flameagent.conversation.answers import answer_fields, stored_answer
from flameagent.conversation.conversation import Conversation
from flameagent.conversation.errors import CancelledError, ConflictError, ConversationError, WaitingError
from flameagent.conversation.log import ConversationLog
from flameagent.conversation.records import (
    Body,
    Call,
    DecisionBody,
    EditBody,
    Facts,
    Item,
    PendingBody,
    TurnBody,
    Usage,
)
from flameagent.conversation.state import PendingApproval, StoredTurn
from flamewire.failpoints import failpoint

if TYPE_CHECKING:
    from agents.items import TResponseInputItem
    from agents.memory import SessionSettings

WINDOW = 200
"""How many items the model sees at most, unless the session is told otherwise."""

_T = TypeVar("_T")


@dataclass
class StagedTurn:
    """A turn while it runs: what it will add. Set `answer`, and `usage` and `model` where they are known.

    With `state` (the SDK's `RunState` as JSON) and `calls` set it stops: it is kept, and waits for a decision.
    `resumed` is what it waited as, where it goes on.
    """

    id: str
    question: str
    items: list[Item] = field(default_factory=list)
    facts: Facts = field(default_factory=dict)
    answer: Answer | None = None
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    state: dict[str, Any] | None = None
    calls: list[Call] = field(default_factory=list)
    resumed: PendingApproval | None = None
    number: int = 0
    revision: int = 0
    omitted_items: int = 0


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
        self._window = window
        self._turn: StagedTurn | None = None
        self._earlier_items: list[Item] = []
        self._starts_at = 0
        self._lock = threading.Lock()  # the log is for one thread at a time

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """The newest `limit` items (None: all that there are to see), oldest first; the caller's to change.

        Without `limit` that of `session_settings` counts, if it has one.
        """
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        turn = self._running()
        if turn is None:
            items = await asyncio.to_thread(self._alone, self._everything)
        else:
            items = self._earlier_items + turn.items
        if limit is not None:
            items = items[-limit:] if limit > 0 else []
            if turn is not None:
                turn.omitted_items = self._starts_at + max(len(self._earlier_items) - limit, 0)
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
            await self._outcome(self._log.append, EditBody("add", items=copied))

    async def pop_item(self) -> TResponseInputItem | None:
        """Remove the newest item and return it; None when there is none.

        Inside a turn only the turn's own items can be taken back: `ConversationError` otherwise.
        """
        turn = self._running()
        if turn is None:
            return await self._outcome(self._pop)
        if not turn.items:
            raise ConversationError("Inside a turn only items of that turn can be popped.")
        return cast("TResponseInputItem", turn.items.pop())

    async def clear_session(self) -> None:
        """Remove all items. Inside a turn: those of that turn."""
        turn = self._running()
        if turn is not None:
            turn.items.clear()
        else:
            await self._outcome(self._log.append, EditBody("clear"))

    def history(self) -> list[str]:
        """All items as JSON strings, oldest first, as `MyContext.messages` has them. Blocks while it reads."""
        staged = self._turn.items if self._turn else []
        return [json.dumps(item) for item in [*self._alone(self._everything), *staged]]

    @property
    def shows_all(self) -> bool:
        """Whether the turn that runs sees the conversation from its beginning."""
        limit = self.session_settings.limit if self.session_settings else None
        return self._starts_at == 0 and limit is None and self._log.conversation.whole

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
        """Which model answered last; empty: none yet."""
        return self._log.conversation.model

    @property
    def facts(self) -> dict[str, str]:
        """What is remembered, oldest first; inside a turn with what it has changed."""
        changes = self._turn.facts if self._turn else {}
        kept = {key: text for key, text in self._log.conversation.facts.items() if key not in changes}
        return kept | {key: text for key, text in changes.items() if text is not None}

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
        """Whether a decision of that name is in the conversation, as it was last read (`stored` reads it)."""
        return decision in self._log.conversation.decided

    async def decide(self, decision: DecisionBody) -> None:
        """Record what was decided of the turn that goes on, before any of its tools run.

        Raises `ConflictError` when someone else has decided, and what an append raises.
        """
        if self._turn is None or self._turn.resumed is None:
            raise ConversationError("No turn goes on here.")
        await self._outcome(self._append, decision, self._turn.revision)
        failpoint("decision: recorded")
        self._turn.revision = self._log.conversation.revision

    async def stored(self, turn_id: str, question: str) -> Answer | None:
        """The Answer of a turn that is in the conversation already, or None. A cache that is away is waited for.

        Raises `ConflictError` when that turn answered another question, or was cancelled long ago.
        """
        turn = await asyncio.to_thread(self._alone, self._stored_turn, turn_id)
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
            await asyncio.to_thread(self._alone, self._begin, staged, resume, read)
            yield staged
            answer = staged.answer = staged.answer or Answer("")
            answer.turn, answer.turn_id, answer.model = staged.number, staged.id, staged.model
            stored = await self._outcome(self._append, _body(staged, answer), staged.revision)
            if stored is not None:
                staged.answer = _answer(stored, staged.question)
            elif (waiting := self._log.conversation.waiting) is not None:
                answer.on = waiting.record_id
        finally:
            self._turn, self._earlier_items = None, []
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

    def _alone(self, function: Callable[..., _T], *arguments: Any) -> _T:
        with self._lock:
            return function(*arguments)

    async def _outcome(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Run a change in a thread and wait for what becomes of it, even when cancelled meanwhile."""
        running = asyncio.ensure_future(asyncio.to_thread(self._alone, function, *arguments))
        cancelled: asyncio.CancelledError | None = None
        while not running.done():
            try:
                await asyncio.wait({running})
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
        if cancelled is not None:
            running.exception()  # else asyncio complains that nobody asked for it
            raise cancelled
        return running.result()

    def _stored_turn(self, turn_id: str) -> StoredTurn | None:
        def read() -> StoredTurn | None:
            self._log.refresh()
            return self._log.stored_turn(turn_id)

        return self._log.patiently(read)

    def _append(self, body: Body, revision: int) -> StoredTurn | None:
        return self._log.append(body, revision=revision)

    def _begin(self, staged: StagedTurn, resume: str, read: bool) -> None:
        """Read what the model will see, and take over what the turn had staged when it stopped."""
        conversation = self._log.patiently(lambda: self._read_window(read))
        staged.omitted_items = self._starts_at
        staged.number, staged.revision = conversation.turn_count + 1, conversation.revision
        waiting = conversation.waiting
        if not resume:
            if staged.id in conversation.cancelled:  # else it would run, and be refused at its end
                raise CancelledError("The turn was cancelled; nothing was added.")
            if waiting is not None:
                raise WaitingError("A tool call of this conversation waits for an approval: decide on it first.")
            return
        if waiting is None or waiting.record_id != resume:
            raise ConflictError("That does not wait any more: someone else has decided. Look at the history.")
        staged.resumed, pending = waiting, waiting.pending
        staged.id, staged.question = pending.turn, pending.question
        staged.items, staged.facts = list(pending.items), dict(pending.facts)
        staged.usage, staged.model = pending.usage, pending.model

    def _read_window(self, read: bool) -> Conversation:
        conversation = self._log.refresh() if read else self._log.conversation
        while True:
            if conversation.damage:
                raise conversation.damage
            start = 0 if self._window is None else conversation.window(self._window)
            if conversation.unloaded_items <= start:
                break
            conversation = self._log.load(start)
        self._earlier_items, self._starts_at = conversation.items_from(start), start
        return conversation

    def _everything(self) -> list[Item]:
        self._log.refresh()
        conversation = self._log.load(0)
        if conversation.damage:
            raise conversation.damage
        return conversation.items()

    def _pop(self) -> TResponseInputItem | None:
        while True:
            items = self._everything()
            if not items:
                return None
            try:
                self._log.append(EditBody("pop"), revision=self._log.conversation.revision)
            except ConflictError:
                continue
            return cast("TResponseInputItem", items[-1])


def _body(staged: StagedTurn, answer: Answer) -> Body:
    if staged.state is None:
        return TurnBody(
            turn=staged.id,
            question=staged.question,
            items=staged.items,
            answer=answer_fields(answer),
            usage=staged.usage,
            model=staged.model,
            facts=staged.facts,
            omitted_items=staged.omitted_items,
        )
    return PendingBody(
        turn=staged.id,
        question=staged.question,
        calls=staged.calls,
        state=staged.state,
        items=staged.items,
        usage=staged.usage,
        model=staged.model,
        facts=staged.facts,
    )


def _answer(turn: StoredTurn, question: str) -> Answer:
    if turn.question != question:
        raise ConflictError("A turn of that ID has already answered another question; nothing was added.")
    return stored_answer(turn)


def _plain(item: Any) -> Any:
    """An item as plain JSON types; the SDK's own items may be pydantic objects."""
    return item.model_dump(exclude_unset=True) if hasattr(item, "model_dump") else item
