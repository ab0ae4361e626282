"""Replays: questions of a conversation asked again in sessions of their own, with the outputs that its record has.

Promises that the conversation is left as it is, that nothing is remembered of anybody, and that no tool runs unless
that is asked for: the session says so itself, in a record that an older worker refuses by its version. A session is
deleted when its replay ends; one whose client was killed is left, under a title that says what it is.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from msgspec.structs import replace

from flameagent.client import fork, sessions, turns
from flameagent.client.agent_connection import AgentConnection
from flameagent.client.attachments import question_field
from flameagent.client.connection import translate_errors
from flameagent.client.errors import ClientError, ConflictError, NoSuchSession, UsageError
from flameagent.client.question import make
from flameagent.client.reply import Reply
from flameagent.client.session_id import the_one
from flameagent.client.turn import Turn
from flameagent.conversation import (
    Block,
    Checkpoint,
    Conversation,
    ConversationError,
    EditBody,
    Item,
    Replay,
    Usage,
    attachments,
    copy_edit,
)
from flameagent.conversation import Turn as StoredTurn
from flameagent.conversation.attachments import AttachmentGone, AttachmentStore
from flameagent.conversation.item_text import describe_item
from flameagent.conversation.replayed import NOT_RUN, RecordedOutputs, recorded_calls, tool_of
from flameagent.conversation.timing import NO_TIMING
from flameagent.flame import FlameError
from flameagent.flame.frontend import Session
from flameagent.flame.objects import patiently
from flameagent.memory.place import HOLDER

Outcome = Literal["recorded", "not_run", "would_wait", "ran", "handoff", "refused"]
"""What became of a call: it has the record's output, was not carried out, would wait for an approval, ran, handed
over, or was refused by a guardrail, or because there is no such tool."""

_PATIENCE = 20.0  # seconds until a turn that was cancelled has ended


@dataclass(frozen=True)
class MadeCall:
    """A call of a tool; `arguments` as the model wrote them, `output` as a text."""

    tool: str
    arguments: str
    output: str
    outcome: Outcome

    def as_json(self) -> dict[str, Any]:
        """The call as `replay --json` prints it."""
        return {"tool": self.tool, "arguments": self.arguments, "output": self.output, "outcome": self.outcome}


@dataclass(frozen=True)
class RecordedTurn:
    """A turn as it was recorded, with what went with its question."""

    turn: StoredTurn
    items: list[Item] = field(repr=False)

    @property
    def seconds(self) -> float | None:
        """For how long it was worked on, without the time for which it waited; None where no record says so."""
        return None if self.turn.timing == NO_TIMING else self.turn.timing.ran / 1000

    @property
    def answer(self) -> str:
        """What was answered."""
        return str(self.turn.answer.get("answer", ""))

    @property
    def calls(self) -> list[MadeCall]:
        """Its calls, in their order."""
        return made_calls(self.items, None, run_tools=False)

    def as_json(self) -> dict[str, Any]:
        """The turn as `replay --json` prints it."""
        return {
            "answer": self.answer,
            "calls": [call.as_json() for call in self.calls],
            "model": self.turn.model,
            "usage": usage_as_json(self.turn.usage),
            "seconds": self.seconds,
        }


class Recording(Protocol):
    """A conversation as it was recorded, of a session or a file."""

    @property
    def session_id(self) -> str:
        """The session that it is of."""

    @property
    def turns(self) -> list[RecordedTurn]:
        """Its turns, in their order."""

    def begin(self, number: int) -> Beginning:
        """What a session begins with in which the turn of that number is asked again."""

    def attachment(self, sha256: str) -> bytes:
        """The bytes of an attachment. Raises `AttachmentGone`."""


@dataclass(frozen=True)
class Beginning:
    """A conversation before one of its turns: a copy of it, its prompt, its client's tools and its model."""

    edit: EditBody
    prompt: str = ""
    tools: tuple[str, ...] = ()
    model: str = ""


@dataclass(frozen=True)
class Again:
    """What came of a question that was asked again.

    `seconds` are as those of a recorded turn; of one that failed by the clock. `error` says why there is no answer
    where it has `failed`. Of a turn that would wait, the calls say for what.
    """

    status: Literal["answered", "would_wait", "failed"]
    session_id: str
    turn_id: str = ""
    answer: str = ""
    calls: list[MadeCall] = field(default_factory=list)
    model: str = ""
    agent: str = ""
    output: Any = None
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    note: str = ""
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """The answer as `replay --json` prints it."""
        return {
            "status": self.status,
            "answer": self.answer,
            "calls": [call.as_json() for call in self.calls],
            "model": self.model,
            "agent": self.agent,
            "output": self.output,
            "usage": usage_as_json(self.usage),
            "seconds": round(self.seconds, 3),
            "note": self.note,
            "error": self.error,
            "session_id": self.session_id,
            "turn_id": self.turn_id,
        }


def usage_as_json(usage: Usage) -> dict[str, int]:
    """What a turn used, by all its names."""
    return {name: int(getattr(usage, name)) for name in Usage.__struct_fields__}


def made_calls(
    items: Iterable[Item],
    recorded: RecordedOutputs | None,
    *,
    run_tools: bool,
    waiting: Mapping[str, str] | None = None,
) -> list[MadeCall]:
    """The calls among items, with what became of each; the outputs that they were given are taken of `recorded`.

    Without `recorded` they are those of the record itself. `waiting` are the IDs of calls that wait.
    """
    items, waits = list(items), waiting or {}
    outputs = {str(i.get("call_id")): i.get("output") for i in items if i.get("type") == "function_call_output"}
    found = []
    for item in items:
        kind, call_id = str(item.get("type") or ""), str(item.get("call_id"))
        if kind == "function_call":
            tool, arguments = tool_of(item), str(item.get("arguments") or "")
            given = recorded.take(tool, arguments) if recorded and call_id not in waits else None
            output = outputs.get(call_id)
            text = describe_item({"type": "function_call_output", "output": output})[1] if output is not None else ""
            if call_id in waits:
                outcome: Outcome = "would_wait"
            elif recorded is None or (given is not None and given.output == output):
                outcome = "recorded"
            elif text == NOT_RUN:
                outcome = "not_run"
            elif _hands_over(text):
                outcome = "handoff"
            else:
                outcome = "ran" if run_tools else "refused"
            found.append(MadeCall(tool, arguments, text, outcome))
        elif kind.endswith("_call"):  # a tool of the model's server, or one that is no function
            outcome = "ran" if recorded else "recorded"
            made = MadeCall(kind.removesuffix("_call"), describe_item(item)[1], "", outcome)
            if name := item.get("name"):  # of an MCP server, which the model's asks, or of one that takes a text
                arguments = str(item.get("arguments") or item.get("input") or "")
                made = MadeCall(str(name), arguments, str(item.get("output") or ""), outcome)
            found.append(made)
    return found


def _hands_over(output: str) -> bool:
    try:
        return [*json.loads(output)] == ["assistant"]
    except (ValueError, TypeError, RecursionError):
        return False


@dataclass(frozen=True)
class SessionRecording:
    """The conversation of a session."""

    connection: AgentConnection
    session: Session
    conversation: Conversation
    turns: list[RecordedTurn]

    @property
    def session_id(self) -> str:
        """The session's ID."""
        return self.session.id

    def begin(self, number: int) -> Beginning:
        """What a session begins with in which the turn of that number is asked again."""
        conversation = self.conversation
        try:
            end, blocks = conversation.checkpoint_at(number - 1)
        except ConversationError as error:
            raise UsageError(str(error), session_id=self.session.id) from error
        brought = [fork.from_session(self.session.id, block) for block in blocks]
        return Beginning(
            without_permissions(copy_edit(end, brought, origin=self.session.id, title="")),
            conversation.prompt,
            tuple(conversation.tools),
            conversation.chosen_model,
        )

    def attachment(self, sha256: str) -> bytes:
        """The bytes of an attachment. Raises `AttachmentGone`."""
        with translate_errors(self.session.id):
            log = self.connection.log(self.session)
            assert log is not None
            return bytes(patiently(partial(log.attachments.read, sha256), self.connection.patience))


def read(connection: AgentConnection, wanted: str) -> SessionRecording:
    """The conversation of a session of any agent of the engine, as far as it can be read.

    Raises `ClientError`; `UsageError` without turns.
    """
    session = _found(connection, wanted)
    with translate_errors(session.id):
        log = connection.log(session)
        conversation = log.load(0) if log else Conversation()
        if not conversation.turns():
            if conversation.damage:
                raise conversation.damage
            raise UsageError("There is no turn that could be asked again.", session_id=session.id)
    made = [RecordedTurn(turn, items) for turn, items in conversation.turns()]
    return SessionRecording(connection, session, conversation, made)


def _found(connection: AgentConnection, wanted: str) -> Session:
    """The session of the agent that is asked, or of another one: it may be one that has been changed."""
    try:
        return connection.look_up(wanted)
    except NoSuchSession as error:
        with translate_errors():
            others = {each.id: each for each in connection.frontend.sessions() if each.application != HOLDER}
        try:
            return others[the_one(wanted, list(others), connection.application.name)]
        except NoSuchSession:
            raise error from None


def without_permissions(edit: EditBody) -> EditBody:
    """The same copy without what was approved for good: a replay carries out nothing because of it."""

    def plain(block: Block) -> Block:
        if block.turn is None or not block.turn.decisions:
            return block
        decisions = [replace(each, always_approved=[]) for each in block.turn.decisions]
        return replace(block, turn=replace(block.turn, decisions=decisions))

    start: Checkpoint = replace(edit.checkpoint, always_approved=())
    return replace(edit, checkpoint=start, blocks=[plain(block) for block in edit.blocks])


class ReplaySession:
    """A session in which turns of a recording are asked again, the first of them with what was said before it.

    Others go on from the answers that they get here. As a context manager it deletes the session, unless it is kept.
    """

    def __init__(
        self,
        connection: AgentConnection,
        recording: Recording,
        turns: list[RecordedTurn],
        *,
        run_tools: bool = False,
        keep: bool = False,
    ) -> None:
        """Makes the session. Raises `ClientError`."""
        self._connection = connection
        self._run_tools = run_tools
        self._keep = keep
        self._recorded = RecordedOutputs(call for turn in turns for call in recorded_calls(turn.items))
        self._turn: Turn | None = None
        self._last: Again | None = None
        self._gone: list[str] = []
        self.left = ""
        first = turns[0].turn.number
        numbers = f"turn {first}" if len(turns) == 1 else f"turns {first} to {turns[-1].turn.number}"
        begins = recording.begin(first)
        edit = replace(
            begins.edit,
            origin=recording.session_id,
            title=f"Replay of {recording.session_id or 'a file'}, {numbers}",
            replay=Replay(self._recorded.left(), run_tools),
        )
        named = attachments.named([*edit.blocks, *(Block(turn.items, turn.turn) for turn in turns)])

        def bring(copy: AttachmentStore) -> None:
            for name in named:
                try:
                    copy.put(recording.attachment(name))
                except AttachmentGone:
                    self._gone.append(named[name].name)

        application = connection.application.name
        session_id = f"{application}-replay-{secrets.token_hex(4)}"
        about: dict[str, Any] = {"session_id": session_id, "tools": begins.tools, "model": begins.model}
        open_session = partial(fork.begin_session, connection, begins.prompt, edit, bring, **about)
        try:
            self._session = connection.begin_turn(open_session, lambda _: None)
        except BaseException:  # Ctrl-C, too: it may be there
            with suppress(ClientError):
                sessions.delete(connection, session_id)
            raise

    @property
    def session_id(self) -> str:
        """The session's ID."""
        return self._session.id

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._keep:
            self.delete()

    def ask(self, turn: RecordedTurn, model: str = "", timeout: float = 330.0) -> Again:
        """Ask the question of a turn again, as who asked it, with what went with it. Raises nothing of the turn's."""
        begun = time.monotonic()
        try:
            reply = self._asked(turn.turn, model, timeout)
        except ClientError as error:
            self.cancel()
            lasted = time.monotonic() - begun
            return Again("failed", self.session_id, seconds=lasted, error=str(error))
        self._turn = None
        self._last = self._outcome(reply, time.monotonic() - begun, turn)
        return self._last

    def cancel(self) -> None:
        """See to it that a turn that runs ends."""
        if (turn := self._turn) is not None:
            with suppress(ClientError):
                turn.cancel()

    def delete(self) -> None:
        """Delete the session; where that cannot be done, `left` says so."""
        self.cancel()
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                sessions.delete(self._connection, self.session_id)
                return
            except ConflictError as error:  # its turn has not ended yet
                if time.monotonic() > deadline:
                    self.left = f"The session {self.session_id} of the replay is left: {error}"
                    return
                time.sleep(0.2)
            except ClientError as error:
                self.left = f"The session {self.session_id} of the replay may be left: {error}"
                return

    def _asked(self, asked: StoredTurn, model: str, timeout: float) -> Reply:
        self._go_on()
        named = question_field(attachments.of_question(asked.attachments))
        question = make(
            asked.question, model=model, user=asked.user, context=asked.context or None, attachments=named
        )
        self._turn = turns.make(self._connection, self._session, question, timeout, followed=False, named=False)
        return self._turn.send().wait()

    def _outcome(self, reply: Reply, lasted: float, before: RecordedTurn) -> Again:
        items, waits, timing = reply.added, dict[str, str](), NO_TIMING
        for turn, _ in reply.conversation.turns()[-1:] if reply.conversation else ():
            timing = turn.timing
        if reply.pending is not None:
            waits = {call.id: call.tool for call in reply.pending.calls}
            with suppress(FlameError, ConversationError):
                log = self._connection.log(self._session)
                waiting = log.refresh().waiting if log else None
                items, timing = (waiting.pending.items, waiting.pending.timing) if waiting else ([], NO_TIMING)
        calls = made_calls(items, self._recorded, run_tools=self._run_tools, waiting=waits)
        shown = {str(item.get("call_id")) for item in items if item.get("type") == "function_call"}
        for call in reply.pending.calls if reply.pending else ():  # also those of agents that are used as tools
            if call.id not in shown:
                calls.append(MadeCall(call.tool, call.arguments, "", "would_wait"))
        steered = (
            "The messages that came while it ran are not asked again." if before.turn.answer.get("steered") else ""
        )
        gone = f"Gone are the data of {', '.join(dict.fromkeys(self._gone))}." if self._gone else ""
        return Again(
            "would_wait" if reply.pending else "answered",
            self.session_id,
            reply.turn_id,
            reply.answer,
            calls,
            reply.model,
            reply.agent,
            reply.output,
            Usage.of(reply.usage),
            lasted if timing == NO_TIMING else timing.ran / 1000,
            " ".join(filter(None, (reply.note, steered, gone))),
        )

    def _go_on(self) -> None:
        """Have the next question find the outputs that are left, and no turn that waits. Raises `ClientError`."""
        last, self._last = self._last, None
        if last is None:
            return
        with translate_errors(self.session_id):
            log = self._connection.log(self._session)
            assert log is not None
            log.refresh()
            if last.status == "would_wait":
                log.append(EditBody("cancel", turn=last.turn_id))
            log.append(EditBody("replay", replay=Replay(self._recorded.left(), self._run_tools)))
