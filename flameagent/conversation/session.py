"""`FlameSession`: a session of the OpenAI Agents SDK that is kept in Flame's CommonData.

Promises what the SDK's `Session` protocol asks (`agents/memory/session.py`, 0.24.0), and that inside
`async with session.turn(id)` everything becomes one record or nothing. Imports nothing of the SDK: its
protocol is structural, and importing it takes seconds.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import msgspec

from flameagent import tracing
from flameagent.apis import Answer
from flameagent.conversation import attachments
from flameagent.conversation.answers import repeated_answer
from flameagent.conversation.attachments import AttachmentGone, AttachmentStore, Reference
from flameagent.conversation.codec import plain_item
from flameagent.conversation.errors import AttachmentError, ConflictError, ConversationError
from flameagent.conversation.failures import Failure
from flameagent.conversation.log import ConversationLog
from flameagent.conversation.passages import Passage, add_summary, may_have_passage, next_passage
from flameagent.conversation.reader import Window
from flameagent.conversation.records import Attached, DecisionBody, EditBody, Item, Summary, Turn, changed_facts
from flameagent.conversation.serial_calls import SerialCalls
from flameagent.conversation.spent import Spent, spent_in, spent_in_vain
from flameagent.conversation.staging import StagedTurn
from flameagent.conversation.state import PendingApproval, State
from flameagent.text import all_well_formed
from flamewire.failpoints import failpoint

if TYPE_CHECKING:
    from agents.items import TResponseInputItem
    from agents.memory import SessionSettings

WINDOW = 200
"""The number of items that the model sees at most, unless the session is told otherwise."""

_started_in: ContextVar[dict[FlameSession, StagedTurn]] = ContextVar("the turns that this code was started in")


class FlameSession:
    """One conversation, as the Agents SDK uses it.

    Pass it to `Runner.run(agent, question, session=session)`. Used directly, each call is a record of its own and
    `get_items()` gives everything; inside `turn()` changes are staged and `get_items()` gives the window: whole
    turns, `window` items at most (None: all). Images and files of a turn are kept as objects of the session;
    `get_items()` gives them back as data, or with `refers` as references, for who puts the data in where they are
    sent. A change that is cancelled while it is appended is waited for, and then raises `asyncio.CancelledError`.
    Errors are those of `flameagent.conversation.errors`, and `FlameError` when the cache does not answer.
    """

    session_settings: SessionSettings | None = None
    gives_copies = True
    """`get_items` gives dicts of plain JSON that nobody else has: who takes them need not copy them again."""

    def __init__(
        self,
        session_id: str,
        log: ConversationLog,
        *,
        window: int | None = WINDOW,
        session_settings: SessionSettings | None = None,
        refers: bool = False,
    ) -> None:
        self.session_id = session_id
        self.session_settings = session_settings
        self._log = log
        self._calls = SerialCalls()  # of the log
        self._window_limit = window
        self._refers = refers
        self._turn: StagedTurn | None = None
        self._seen = Window(0, [])  # before the turn that runs
        self._spent: dict[str, Spent] = {}

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
        copied: list[Any] = msgspec.to_builtins(items)  # dicts copied one by one, in C
        if not self._refers and self.names_attachments:
            copied = await asyncio.to_thread(attachments.whole, copied, self.attached_data)
        return copied

    async def add_items(self, items: Sequence[TResponseInputItem]) -> None:
        """Add items at the end; each a JSON object. None is no change. Halves of characters become U+FFFD."""
        written = [json.dumps(plain_item(item)) for item in items]
        copied: list[Item] = [json.loads(text) for text in written]
        if not copied:
            return
        turn = self._running()
        if turn is not None:
            for place, text in enumerate(written):
                if attachments.may_have_data(text):
                    copied[place] = await self.extracted(copied[place])
            turn.items.extend(copied)
        else:
            await self._calls.change(self._log.append, EditBody("add", items=all_well_formed(copied)))

    async def attach(self, attached: Sequence[Attached]) -> None:
        """Have the turn that runs name attachments of its question.

        Raises `AttachmentError` where the session has one of them not, `ConversationError` outside a turn.
        """
        turn = self._running()
        if turn is None:
            raise ConversationError("Attachments are named by a turn.")
        for each in attached:
            if not await asyncio.to_thread(self._log.patiently, partial(self.attachments.has, each.sha256)):
                raise AttachmentError(f"The attachment {each.name} is not there any more; nothing was added.")
        turn.attachments = [*attached, *turn.attachments]

    async def extracted(self, value: Item, call: str = "") -> Item:
        """The same with the images and files in it stored as objects, and named by the turn that runs.

        `call` is the tool call that they came of, where the value does not say.

        Raises `ConversationError` outside a turn.
        """
        turn = self._running()
        if turn is None:
            raise ConversationError("Images and files are kept with a turn.")
        changed, found = await asyncio.to_thread(attachments.extracted, value, self._put, call)
        known = {each.sha256 for each in turn.attachments}
        turn.attachments += [each for each in found if each.sha256 not in known]
        return cast("Item", changed)

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
            await self._calls.change(self._log.append, EditBody("clear"))

    def history(self) -> list[str]:
        """All items as JSON strings, oldest first, as `MyContext.messages` has them. Blocks while it reads."""
        staged = self._turn.items if self._turn else []
        return [json.dumps(item) for item in [*self._calls.call(self._items), *staged]]

    async def turns_since(self, turn_id: str) -> tuple[list[Turn], bool]:
        """The turns that were added after that one, and True; all turns, and False, where it is none of them.

        What was not read yet is read for this, and not kept. Raises `DamagedError`, `FlameError`.
        """
        return await self._calls.read(self._turns_since, turn_id)

    async def spent(self, failures: Sequence[Failure]) -> list[Spent]:
        """What its turns and summaries, and these failures, have used of models, as the conversation was last read.

        The first call reads all of it, and keeps none of that. Raises `DamagedError`, `FlameError`.
        """
        return await self._calls.read(self._spent_so_far, failures)

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
    def state(self) -> State:
        """What else the conversation is, as it was last read; not to be changed."""
        return self._log.conversation

    @property
    def agent(self) -> str:
        """The name of the agent that answered last; empty: none yet, or an older program did not say."""
        return self._log.conversation.agent

    @property
    def owner(self) -> str:
        """The user whose session it is; empty: everybody's."""
        return self._log.conversation.owner

    @property
    def recorded(self) -> list[Turn]:
        """The turns that were read, oldest first: those of the window at least."""
        return [turn for turn, _ in self._log.conversation.turns()]

    @property
    def rewound(self) -> set[str]:
        """The IDs of the turns that were read to be taken back, but for those that a copy brought."""
        return {turn for rewind in self._log.conversation.rewinds for turn in rewind.own_turns}

    @property
    def last_turn(self) -> str:
        """The ID of the newest turn, as the conversation was last read; empty: none yet."""
        recent = self._log.conversation.recent
        return recent[-1].turn if recent else ""

    @property
    def facts(self) -> dict[str, str]:
        """The facts that are remembered, oldest first; inside a turn with its changes."""
        return changed_facts(self._log.conversation.facts, self._turn.facts if self._turn else {})

    @property
    def own_facts(self) -> set[str]:
        """The keys of the facts that are of this conversation only, or were changed by the turn that runs."""
        return {*self._log.conversation.own_facts, *(self._turn.facts if self._turn else ())}

    @property
    def shown_items(self) -> int:
        """The number of items before it that the turn which runs shows the model."""
        return len(self._seen.items)

    @property
    def shown_turns(self) -> set[str]:
        """The IDs of the turns that the model is shown."""
        return self._log.conversation.turns_from(self._turn.omitted_items if self._turn else 0)

    def learn(self, key: str, text: str | None, *, own: bool = False) -> None:
        """Remember a text under a key, or forget it (None), with the turn that runs; `own`: for this conversation.

        Raises `ConversationError` outside a turn.
        """
        turn = self._running()
        if turn is None:
            raise ConversationError("Facts are learned inside a turn.")
        turn.facts.pop(key, None)
        turn.facts[key] = text
        turn.own_facts = [*(each for each in turn.own_facts if each != key), *([key] if own else [])]

    @property
    def summary(self) -> Summary:
        """The newest summary of what left the window; its text is empty where there is none."""
        return self._log.conversation.summary

    async def next_passage(self) -> Passage | None:
        """The oldest part of what left the window and is in no summary, or None. Raises `DamagedError`."""
        if not await self._calls.call_quickly(may_have_passage, self._log, self._window_limit):
            return None
        return await self._calls.read(next_passage, self._log, self._window_limit)

    async def add_summary(self, passage: Passage, summary: Summary) -> bool:
        """Add the summary up to the passage's end; False where that is no longer what is needed."""
        return await self._calls.change(add_summary, self._log, passage, summary)

    @property
    def attachments(self) -> AttachmentStore:
        """The attachments of the conversation, by the hash of their bytes."""
        return self._log.attachments

    def attached_data(self, reference: Reference) -> bytes | None:
        """The bytes that a reference names; None where they are gone. Blocks; a cache that is away is waited for."""
        try:
            return self._log.patiently(partial(self.attachments.read, reference.sha256))
        except AttachmentGone:
            return None

    @property
    def names_attachments(self) -> bool:
        """True where a turn that was read has attachments, or the one that runs."""
        if self._turn is not None and self._turn.attachments:
            return True
        blocks = self._log.conversation.blocks
        return any(block.turn is not None and block.turn.attachments for block in blocks)

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
        with tracing.span("record decision"):
            await self._calls.change(partial(self._log.append, decision, revision=self._turn.revision))
        failpoint("decision: recorded")
        self._turn.revision = self._log.conversation.revision

    async def stored(self, turn_id: str, question: str) -> Answer | None:
        """The Answer of a turn that is in the conversation already, or None. A cache that is away is waited for.

        Raises `ConflictError` when that turn answered another question, or was cancelled long ago.
        """
        read = self._calls.call_quickly if self._log.reads_at_once else self._calls.read
        turn = await read(self._log.read_turn, turn_id)
        return None if turn is None else repeated_answer(turn, turn_id, question)

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
            seen = None if read else await self._calls.call_quickly(self._begin_loaded, staged, resume)
            self._seen = seen if seen is not None else await self._calls.read(self._begin, staged, resume, read)
            yield staged
            if staged.state is not None and attachments.may_have_data(json.dumps(staged.state)):
                staged.state = await self.extracted(staged.state, "?")  # a nested run's, whose calls are not told
            answer = staged.finish()
            append = partial(self._log.append, staged.record(answer), revision=staged.revision)
            with tracing.span("append"):
                stored = await self._calls.change(append)
            if stored is not None:
                staged.answer = repeated_answer(stored, staged.id, staged.question)
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

    def _put(self, data: bytes) -> str:
        return self._log.patiently(partial(self._log.attachments.put, data))

    def _begin(self, staged: StagedTurn, resume: str, read: bool) -> Window:
        """Read what the model will see, and have the turn begin behind it."""
        return self._begin_behind(self._log.read_window(self._window_limit, fresh=read), staged, resume)

    def _begin_loaded(self, staged: StagedTurn, resume: str) -> Window | None:
        """The same without reading; None where something has to be read."""
        seen = self._log.loaded_window(self._window_limit)
        return None if seen is None else self._begin_behind(seen, staged, resume)

    def _begin_behind(self, seen: Window, staged: StagedTurn, resume: str) -> Window:
        staged.omitted_items = seen.start
        staged.begin(self._log.conversation, resume)
        return seen

    def _items(self) -> list[Item]:
        return self._log.load_all().items()

    def _turns_since(self, turn_id: str) -> tuple[list[Turn], bool]:
        read = [turn for turn, _ in self._log.conversation.turns()]
        known = next((place for place, turn in enumerate(read, 1) if turn.id == turn_id), 0)
        if known:
            return read[known:], True
        if not self._log.conversation.whole:
            read = [turn for turn, _ in self._log.apart().load_all().turns()]
        return read, False

    def _spent_so_far(self, failures: Sequence[Failure]) -> list[Spent]:
        read = self._log.conversation
        found = {each.id: each for each in spent_in(read)}
        if not read.whole and self._spent.keys().isdisjoint(found):
            found |= {each.id: each for each in spent_in(self._log.apart().load_all())}
        self._spent |= found
        return [*self._spent.values(), *spent_in_vain(failures, read)]

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
