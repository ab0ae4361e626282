"""One turn: a question, or a decision on its calls, becomes a task; the task is watched, and what comes of it told.

Promises that a question is asked and a decision sent once, whatever goes away meanwhile: it is sent again only if
Flame's list of tasks does not have it, and under the same ID, under which the agent answers once. Every wait has an
end.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent import futures
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any

from apis import Answer, Question
from flameagent.client import approvals, errors, payloads
from flameagent.client.approvals import Pending
from flameagent.client.connection import Connection, translate_errors
from flameagent.client.stream import Progress, Stream
from flameagent.conversation import ConflictError, Conversation, ConversationError, ConversationLog, EditBody, Item
from flameagent.flame import FlameError, NotFlame, NotFound, Refused, Unclear, Unreachable
from flameagent.flame.frontend import Session, Task, TaskState
from flamewire.failpoints import failpoint

_SLICE = 1.0
_LOOK_EVERY = 5.0
_PAUSE = 0.3
_POLL = 0.05
_STARTS = 5  # of the embedded engine, after which it does not come back

_RAISED_FOR: dict[str, type[errors.ClientError]] = {
    "conflict": errors.ConflictError,
    "damaged": errors.DamagedError,
    "unclear": errors.UnclearError,
}


@dataclass(frozen=True)
class Reply:
    """What a turn brought: an answer, or calls that wait for an approval (`pending`).

    `turn` is its number; 0: it is in no conversation, because it waits or as `note` says. `added` are its items and
    `conversation` the whole as far as it was read, None where it could not be: then `note` says why.
    """

    session_id: str
    turn: int
    turn_id: str
    answer: str
    model: str = ""
    note: str = ""
    added: list[Item] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=dict)
    conversation: Conversation | None = None
    pending: Pending | None = None

    def as_json(self) -> dict[str, Any]:
        """What `-m … --json` prints."""
        return {
            "session_id": self.session_id,
            "turn": self.turn,
            "turn_id": self.turn_id,
            "status": "awaiting_approval" if self.pending else "answered",
            "answer": self.answer,
            "added": self.added,
            "pending": approvals.plain(self.pending.calls) if self.pending else [],
            "usage": self.usage,
            "model": self.model,
            "note": self.note,
        }


class Turn:
    """A question in an open session, or a decision on its calls: `send` it, `wait` for the answer, `cancel` it.

    `arrange` makes the engine ready for the turn, and is called again for one that came back; `timeout` is in
    seconds, from now on. With a `stream` the answer is told while it comes, on the thread that waits.
    """

    def __init__(
        self,
        connection: Connection,
        session: Session,
        question: Question,
        *,
        arrange: Callable[[], None],
        timeout: float,
        stream: Stream | None = None,
    ) -> None:
        self.session_id = session.id
        self.question = question
        self._connection = connection
        self._arrange = arrange
        self._session = session
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._stream = stream
        self._task_id = ""
        self._told = ""  # what was last said of the task's state
        self._log: ConversationLog | None = None

    @property
    def asked(self) -> bool:
        """Whether the engine has it."""
        return bool(self._task_id)

    def prolong(self) -> None:
        """From now on `wait` has its whole time again."""
        self._deadline = time.monotonic() + self._timeout

    def failed(self, error: errors.ClientError) -> dict[str, Any]:
        """What `-m … --json` prints for a turn that failed."""
        failed = {**Reply(self.session_id, 0, self.question.id, "").as_json(), "status": "failed"}
        if isinstance(error, errors.WaitingError):
            failed |= {"status": "awaiting_approval", "pending": approvals.plain(error.pending)}
        return failed

    def send(self) -> None:
        """Ask. Raises `ClientError`; `UnclearError` and `TimedOut` when it may have been asked all the same."""
        try:
            with translate_errors(self.session_id):
                self.question.stream = self._stream.open() if self._stream else ""
                try:
                    self._task_id = self._create()
                except (Unclear, Unreachable):
                    self._go_on(lambda _: None)
        except BaseException:
            self._end_stream()
            raise

    def wait(self, on_progress: Progress | None = None) -> Reply:
        """Wait for the answer. Raises `ClientError`: what failed, or `TimedOut`."""
        # Not as a context manager, which would wait for a look that nobody is interested in any more.
        looker = futures.ThreadPoolExecutor(1)
        try:
            with translate_errors(self.session_id):
                return self._answered(on_progress or (lambda _: None), looker)
        finally:
            looker.shutdown(wait=False)
            self._end_stream()

    def _answered(self, progress: Progress, looker: futures.Executor) -> Reply:
        looked = time.monotonic()
        while True:
            try:
                task = self._look(progress) if self._stream is None else self._look_and_read(progress, looker)
                if task.state.terminal:
                    return self._outcome(task)
                if time.monotonic() - looked >= _LOOK_EVERY:
                    # Flame 0.6 can say RUNNING for ever, after a node was lost.
                    looked = time.monotonic()
                    if (answer := self._stored()) is not None:
                        return self._reply(answer)
            except (Unreachable, NotFlame, NotFound):
                # NotFlame: a channel that is closed under a call says CANCELLED.
                if (reply := self._go_on(progress)) is not None:
                    return reply
            except Refused as error:  # the engine knows of it, and cannot go on with it: its disk is full
                if (answer := self._stored()) is not None:
                    return self._reply(answer)
                raise errors.UnclearError(
                    f"The engine cannot go on with this turn: {error}. It may have been added, or still be."
                ) from error
            self._in_time()

    def cancel(self) -> bool:
        """See to it that the turn can no longer be added. False when it has been: it is in the conversation.

        Raises `ClientError` where that cannot be done.
        """
        with translate_errors(self.session_id):
            log = self._conversation_log()
            if log is None:
                raise errors.ClientError("This session keeps no history, so its turn cannot be cancelled.")
            while True:
                conversation = log.refresh()
                if conversation.remembered(self.question.id):
                    return False
                try:
                    log.append(EditBody("cancel", turn=self.question.id), revision=conversation.revision)
                except ConflictError:
                    continue
                return True

    def _create(self) -> str:
        failpoint("client: before asking")
        task_id = self._connection.frontend.create_task(self.session_id, payloads.write(self.question))
        failpoint("client: asked")
        return task_id

    def _end_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def _look_and_read(self, progress: Progress, looker: futures.Executor) -> Task:
        """Look as `_look` does, and read the stream meanwhile and once more after it."""
        assert self._stream is not None
        said: deque[str] = deque()
        looking = looker.submit(self._look, said.append)
        while True:
            done = futures.wait([looking], _POLL).done
            while said:
                progress(said.popleft())
            self._stream.read()
            if done:
                return looking.result()

    def _look(self, progress: Progress) -> Task:
        """Look at the task after a change, or after a while. Raises `NotFound` where Flame does not know it."""
        frontend = self._connection.frontend
        patience = max(min(_SLICE, self._deadline - time.monotonic()), 0.05)
        for task in frontend.watch(self.session_id, self._task_id, patience):
            self._tell(task.state, progress)
            if task.state == TaskState.SUCCEED:
                return task
        task = frontend.task(self.session_id, self._task_id)
        self._tell(task.state, progress)
        return task

    def _tell(self, state: TaskState, progress: Progress) -> None:
        """Say what the task's state means, where that is new; what a turn that runs is at, the agent itself says."""
        if state == TaskState.RUNNING:
            meaning = "thinking" if self._stream is None else "starting the agent"
            if self._stream is not None and self._stream.told:
                return
        elif state == TaskState.PENDING:
            meaning = "waiting for a free executor"
            with suppress(FlameError):
                if self._connection.frontend.has_executor(self.session_id):
                    meaning = "starting the agent"
        else:
            meaning = "reading the answer"
        if meaning != self._told:
            self._told = meaning
            progress(meaning)

    def _go_on(self, progress: Progress) -> Reply | None:
        """The engine went away: wait for it, and see to it that the question is asked, once.

        The answer where the conversation has it already. Raises `NoSuchSession` when the session is gone.
        """
        progress("the engine went away: waiting for it")
        self._told, self._log = "", None  # it reads from a cache that is closed
        if self._stream is not None:
            self._stream.told = False
        starts = _STARTS
        while True:
            time.sleep(_PAUSE)
            try:
                self._connection.reopen()
                self._arrange()
                self._task_id = self._find() or ""
                if self._task_id:
                    return None
                if (answer := self._stored()) is not None:
                    return self._reply(answer)
                self._task_id = self._create()
                return None
            except NotFound as error:
                raise errors.NoSuchSession(
                    f"The session {self.session_id} is gone: Flame no longer knows it."
                ) from error
            except (Unclear, Unreachable, NotFlame, errors.NoEngine) as error:
                # NoEngine: the embedded one, which may have been killed in the middle of its start, too.
                starts -= isinstance(error, errors.NoEngine)
                if starts == 0:
                    raise
                self._in_time()

    def _find(self) -> str | None:
        """The task that asks or decides this. Task IDs begin anew in a session that was deleted and made again."""
        tasks, name = self._connection.frontend.tasks(self.session_id), payloads.name(self.question)
        return next((task.id for task in tasks if payloads.task_name(task.input) == name), None)

    def _in_time(self) -> None:
        if time.monotonic() >= self._deadline:
            raise errors.TimedOut(f"No answer within {self._timeout:g} s. The turn may still finish.")

    def _conversation_log(self) -> ConversationLog | None:
        if self._log is None:
            self._log = self._connection.log(self._session)
        return self._log

    def _stored(self) -> Answer | None:
        """What the conversation says came of this task; None too where the cache does not say."""
        try:
            return self._looked_up()
        except (FlameError, ConversationError, errors.DamagedError):
            return None

    def _looked_up(self) -> Answer | None:
        log = self._conversation_log()
        conversation = log.refresh() if log else None
        decision = self.question.decision
        if conversation is None or (decision is not None and decision.id not in conversation.decided):
            return None  # nothing; or what another decision on the same turn brought
        found = conversation.remembered(self.question.id)
        if found is not None:
            known = {field.name for field in fields(Answer)}
            return Answer(**{"answer": "", **{name: value for name, value in found.answer.items() if name in known}})
        waiting = conversation.waiting
        if waiting is not None and waiting.pending.turn == self.question.id and waiting.decision is None:
            return Answer("", code="waiting", pending=approvals.plain(waiting.pending.calls), on=waiting.on)
        return None

    def _outcome(self, task: Task) -> Reply:
        answer = payloads.answer(task.output) if task.state == TaskState.SUCCEED else None
        if answer is None or answer.code == "unclear":
            try:
                answer = self._looked_up() or answer
            except (FlameError, ConversationError) as error:
                if answer is None:
                    raise errors.UnclearError(
                        f"The turn failed ({task.message or task.state.name}), and the conversation cannot be "
                        f"read now: something may have been added. {error}"
                    ) from error
        if answer is None:
            raise errors.TurnFailed(self._why(task))
        if answer.error and answer.code == "waiting":
            raise errors.WaitingError(answer.error, pending=approvals.calls_of(answer))
        if answer.error:
            raised = _RAISED_FOR.get(answer.code)
            raise (
                raised(answer.error)
                if raised
                else errors.TurnFailed(_nothing_added(answer.error), code=answer.code or "failed")
            )
        return self._reply(answer)

    def _why(self, task: Task) -> str:
        if task.state == TaskState.CANCELLED:
            return "The turn was cancelled before it began: its session was closed. Nothing was added."
        if task.state == TaskState.SUCCEED:
            return "The agent answered with something that is not an apis.Answer; what it added is in the history."
        if "Connection refused" in task.message:  # what Flame 0.6.0 says from then on
            return (
                f"The session's instance has died, and Flame starts no other for it ({task.message}). Nothing was "
                "added. Restart its executor manager, 30 s after stopping it."
            )
        if task.message:
            return _nothing_added(task.message)
        return (
            f"The turn failed and Flame does not say why (task {task.id} of {self.session_id}); "
            "the log of the agent's instance may."
        )

    def _reply(self, answer: Answer) -> Reply:
        if answer.code == "waiting":
            return self._waits(answer)
        conversation, added, note = None, [], answer.note
        try:
            log = self._conversation_log()
            conversation = log.refresh() if log and answer.turn else None
            if conversation:
                added = next((items for turn, items in conversation.turns() if turn.id == self.question.id), [])
        except (FlameError, ConversationError, errors.DamagedError) as error:
            note = f"{note} The history cannot be read now: {error}".strip()
        return Reply(
            self.session_id,
            answer.turn,
            answer.turn_id or self.question.id,
            answer.answer,
            answer.model,
            note,
            added,
            answer.usage or {},
            conversation,
        )

    def _waits(self, answer: Answer) -> Reply:
        pending = Pending(
            self.session_id, self.question.id, self.question.question, answer.on, approvals.calls_of(answer)
        )
        return Reply(
            self.session_id,
            0,
            self.question.id,
            "",
            answer.model,
            answer.note,
            usage=answer.usage or {},
            pending=pending,
        )


def _nothing_added(sentence: str) -> str:
    """Say so, unless the sentence speaks of it itself."""
    said = "nothing was added" in sentence.lower() or "may have been added" in sentence
    return sentence if said else f"{sentence.rstrip('. ')}. Nothing was added."
