"""The history of one session: its conversation from the beginning, and the calls of it that wait.

Promises that what can be read is there, whatever is wrong with the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import to_builtins
from msgspec.structs import asdict

from flameagent.client.agent_connection import AgentConnection
from flameagent.client.approvals import Pending
from flameagent.client.connection import Connection, translate_errors
from flameagent.client.errors import ConflictError, DamagedError, UsageError
from flameagent.client.failures import failure_as_json, read_failed_turns
from flameagent.client.person import find_memory
from flameagent.client.sessions import session_state
from flameagent.client.timings import asked_at, turn_times
from flameagent.conversation import (
    Block,
    Conversation,
    ConversationError,
    ConversationLog,
    Item,
    Rewind,
    Summarized,
    Turn,
    attachments,
    output_of,
)
from flameagent.conversation.attachments import AttachmentGone
from flameagent.conversation.failures import Failure
from flameagent.conversation.timing import NO_TIMING
from flameagent.flame import FlameError
from flameagent.flame.frontend import Session
from flameagent.flame.objects import patiently

if TYPE_CHECKING:
    from flameagent.memory.person import Fact


@dataclass(frozen=True)
class History:
    """A conversation from its beginning; `damage` says what is wrong with what comes after it, if anything.

    `conversation` is None for a session without context, which keeps nothing. `busy` says that a task runs, which
    may be the one that carries out a decision. `newer_facts` are what the agent goes by in the place of the
    conversation's own: another session of its owner has replaced them since, or forgotten them (None). `failures` are
    the turns that failed, and `asked` when turns of older programs were asked, as Flame knows it (epoch milliseconds,
    by their IDs), where that is wanted.
    """

    session_id: str
    open: bool
    conversation: Conversation | None
    damage: DamagedError | None = None
    busy: bool = False
    newer_facts: Mapping[str, Fact | None] = field(default_factory=dict)
    failures: Sequence[Failure] = ()
    asked: Mapping[str, int] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """`open`, `waiting` (for an approval) or `closed`."""
        return session_state(self.open, self.waiting is not None)

    @property
    def waiting(self) -> Pending | None:
        """The calls that wait for an approval."""
        waiting = self.conversation.waiting if self.conversation else None
        return Pending.of(self.session_id, waiting) if waiting else None

    @property
    def blocks(self) -> list[Block]:
        """The items in order: each turn's, and those added outside a turn."""
        return self.conversation.blocks if self.conversation else []

    @property
    def parts(self) -> list[Block | Summarized]:
        """The same with the summaries of what the model is not shown any more, where they were made."""
        summaries = self.conversation.summaries if self.conversation else []
        return sorted([*self.blocks, *summaries], key=lambda part: part.place)

    @property
    def everything(self) -> list[Block | Summarized | Rewind]:
        """The same with what was rewound, in the order in which it came about, and the rewinds themselves."""
        rewinds = self.conversation.rewinds if self.conversation else []
        taken = [block for rewind in rewinds for block in rewind.blocks]
        return sorted([*self.parts, *taken, *rewinds], key=lambda part: part.place)

    def shown(self, *, turn: int | None = None, every: bool = False) -> list[Block]:
        """The blocks, or those of one turn; with `every` those that were rewound too.

        Raises `UsageError` where there is no such turn.
        """
        blocks = [part for part in self.everything if isinstance(part, Block)] if every else self.blocks
        if turn is None:
            return blocks
        numbers = [block.turn.number for block in blocks if block.turn]
        if turn not in numbers:
            several = f"turns {min(numbers)} to {max(numbers)}" if numbers else "no turns"
            has = f"only turn {numbers[0]}" if len(numbers) == 1 else several
            raise UsageError(f"There is no turn {turn}: the conversation has {has}.", session_id=self.session_id)
        return [block for block in blocks if block.turn is not None and block.turn.number == turn]

    def as_json(self, *, turn: int | None = None, every: bool = False) -> dict[str, Any]:
        """The history as `history --json` prints it; `messages` are the items that no turn added.

        With `turn` only that turn, with `every` those that were rewound too.
        """
        conversation = self.conversation or Conversation()
        shown = self.shown(turn=turn, every=every)
        kept = {id(block) for block in self.blocks}
        return {
            "session_id": self.session_id,
            "state": self.state,
            "title": conversation.title,
            "origin": conversation.origin,
            "owner": conversation.owner,
            "metadata": conversation.metadata,
            "prompt": conversation.prompt,
            "model": conversation.model,
            "usage": asdict(conversation.usage),
            "facts": conversation.facts,
            "newer_facts": {key: fact and _fact_as_json(fact) for key, fact in self.newer_facts.items()},
            "summaries": summaries_as_json(conversation),
            "waiting": self.waiting.as_json() if self.waiting else None,
            "again": conversation.retry_question,
            "messages": [item for block in shown if block.turn is None for item in block.items],
            "turns": [
                {
                    **turn_as_json(block.turn, block.items),
                    "timing": turn_times(block.turn, block.items, self.asked).as_json(),
                    "rewound": id(block) not in kept,
                }
                for block in shown
                if block.turn is not None
            ],
            "failures": [failure_as_json(each) for each in self.failures] if turn is None else [],
        }


def summaries_as_json(conversation: Conversation) -> list[dict[str, Any]]:
    """The summaries as `history --json` and `export --format json` print them, oldest first.

    Each is of the first `turns` turns and `items` items, and was made after the turn `after`.
    """
    made = []
    for each in conversation.summaries:
        before = [block.turn.number for block in conversation.blocks if block.turn and block.place < each.place]
        summary = each.summary
        made.append(
            {
                "text": summary.text,
                "turns": summary.turn_count,
                "items": summary.item_count,
                "after": max(before, default=0),
                "model": summary.model,
                "usage": asdict(summary.usage),
                "at": summary.at,
            }
        )
    return made


def turn_as_json(turn: Turn, items: list[Item]) -> dict[str, Any]:
    """A turn as `history --json` and `export --format json` print it."""
    return {
        "turn": turn.number,
        "turn_id": turn.id,
        "question": turn.question,
        "answer": str(turn.answer.get("answer", "")),
        "user": turn.user,
        "context": turn.context,
        "agent": str(turn.answer.get("agent", "")),
        "output": output_of(turn.answer),
        "output_type": str(turn.answer.get("output_type", "")),
        "items": items,
        "facts": turn.facts,
        "own_facts": turn.own_facts,
        "recalled": turn.recalled,
        "usage": asdict(turn.usage),
        "request_usage": turn.answer.get("request_usage") or [],
        "model": turn.model,
        "attachments": to_builtins(turn.attachments),
        "unseen": turn.omitted_items,
        "at": turn.at,
        "decisions": [
            {
                "by": decided.by,
                "at": decided.at,
                "approved": decided.approved,
                "rejected": decided.rejected,
                "always": decided.always_approved,
                "reason": decided.reason,
                "calls": to_builtins(decided.calls),
            }
            for decided in turn.decisions
        ],
    }


def read_history(
    connection: AgentConnection, wanted: str, *, failures: bool = False, timings: bool = False
) -> History:
    """A session's history from its beginning, as far as it can be read; with `failures` what failed, too.

    With `timings` Flame is asked when turns were asked whose records do not say it.

    Raises `ClientError`.
    """
    session = connection.look_up(wanted)
    failed = read_failed_turns(connection, session) if failures else ()
    with translate_errors(session.id):
        log = connection.log(session)
        if log is None:
            return History(session.id, session.open, None, failures=failed)
        conversation = log.load()
        untimed = timings and any(turn.timing == NO_TIMING for turn, _ in conversation.turns())
        asked = asked_at(connection.frontend.tasks(session.id)) if untimed else {}
        at_work = conversation.waiting is not None and connection.is_busy(session.id)
    damage = DamagedError(str(conversation.damage), session_id=session.id) if conversation.damage else None
    newer = _newer_facts(connection, conversation)
    return History(session.id, session.open, conversation, damage, at_work, newer, failed, asked)


def _newer_facts(connection: AgentConnection, conversation: Conversation) -> dict[str, Fact | None]:
    """What is remembered otherwise of the owner; nothing where that cannot be read, which harms no history.

    The whole memory is read only where its newest records say something else, or something was taken back.
    """
    about = {key: text for key, text in conversation.facts.items() if key not in conversation.own_facts}
    if not (about and conversation.owner and connection.remembers):
        return {}
    with suppress(FlameError, ConversationError):
        if key := find_memory(connection, conversation.owner):
            known = ConversationLog(connection.cache, key).refresh().facts
            if conversation.rewinds or any(known.get(each) != text for each, text in about.items()):
                from flameagent.memory.person import PersonMemory  # brings SQLite, which others do not need

                said = PersonMemory(connection.cache, key).verdicts()
                newer = {each: said[each] for each in about if each in said}
                return {each: fact for each, fact in newer.items() if fact is None or fact.value != about[each]}
    return {}


def _fact_as_json(fact: Fact) -> dict[str, Any]:
    return {"value": fact.value, "session_id": fact.session, "turn": fact.turn, "at": fact.at}


def read_newest(connection: AgentConnection, wanted: str) -> Conversation:
    """A session's conversation from its newest segment on. Raises `ClientError`; `DamagedError` too."""
    session = connection.look_up(wanted)
    with translate_errors(session.id):
        log = connection.log(session)
        conversation = patiently(log.refresh, connection.patience) if log else Conversation()
        if conversation.damage:
            raise conversation.damage
        return conversation


def read_attachments(connection: AgentConnection, found: History) -> dict[str, bytes]:
    """The bytes of what the turns of a history name, by their hash; those that are gone are left out.

    Raises `ClientError`.
    """
    wanted = attachments.named(found.blocks)
    if not wanted:
        return {}
    with translate_errors(found.session_id):
        log = connection.log(connection.look_up(found.session_id))
        read: dict[str, bytes] = {}
        for name in wanted:
            with suppress(AttachmentGone):
                assert log is not None  # it has turns
                read[name] = patiently(partial(log.attachments.read, name), connection.patience)
        return read


def read_attachment(connection: AgentConnection, wanted: str, name: str) -> bytes | None:
    """The bytes with that hash which are kept in a session, of a turn that runs, too; None where there are none.

    Raises `ClientError`.
    """
    found = connection.look_up(wanted)
    with translate_errors(found.id), suppress(AttachmentGone):
        if log := connection.log(found):
            return patiently(partial(log.attachments.read, name), connection.patience)
    return None


def read_pending(connection: Connection, session: Session) -> Pending:
    """The calls of a session that wait for a decision now.

    Raises `ConflictError` where none do, or where someone has decided and that is being carried out.
    """
    with translate_errors(session.id):
        log = connection.log(session)
        conversation = patiently(log.refresh, connection.patience) if log else Conversation()
        if conversation.damage:
            raise conversation.damage
        if conversation.waiting is None:
            raise ConflictError("Nothing waits for a decision in this session.")
        found = replace(Pending.of(session.id, conversation.waiting), others=frozenset(conversation.call_ids()))
        # In this order: a task that runs now may have decided; one that does not has brought all that it will.
        if found.decision is not None and connection.is_busy(session.id):
            raise ConflictError(
                f"{found.decision.by or 'Someone'} has decided, and that is being carried out. Look at the history."
            )
        return found
