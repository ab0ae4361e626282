"""`Client`: asking the agent, and looking after its sessions, from Python.

Promises what the command line promises, because that is made of it: answers, or a `ClientError` whose message
is a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from flameagent import tracing
from flameagent.apis import Decision, Question
from flameagent.client import (
    approvals,
    errors,
    events,
    fork,
    history,
    person,
    rewind,
    turns,
)
from flameagent.client import question as questions
from flameagent.client.approvals import Pending
from flameagent.client.arguments import methods_checked
from flameagent.client.attachments import Attachable, gather, question_field, upload
from flameagent.client.connection import translate_errors
from flameagent.client.events import Listener, OnCall, OnProgress, OnText
from flameagent.client.reply import Reply
from flameagent.client.session_keeper import SessionKeeper
from flameagent.client.turn import Turn
from flameagent.conversation import ConversationLog
from flameagent.flame.frontend import Session
from flameagent.settings import TIMEOUT


@methods_checked
class Client(SessionKeeper):
    """The agent on one engine. Made by `flameagent.client.connect`; opens connections when they are needed.

    For any number of threads. As a context manager it closes them; nobody may use it then. `AsyncClient` is the same
    for an event loop.
    """

    def ask(
        self,
        question: str,
        session: str | None = None,
        prompt: str | None = None,
        model: str = "",
        timeout: float = TIMEOUT,
        on_progress: OnProgress | None = None,
        on_text: OnText | None = None,
        on_call: OnCall | None = None,
        *,
        user: str | None = None,
        context: Mapping[str, Any] | None = None,
        turn_id: str | None = None,
        attachments: Sequence[Attachable] = (),
    ) -> Reply:
        """Ask in a session (by ID or a part of it that only it has), or in a new one, and wait for the answer.

        `prompt` is a new session's system prompt; `model` a model by name for this turn; `timeout` is in seconds;
        `user` is who asks, without it as configured; `context` is a JSON object that the agent's tools see; `turn_id`
        names the turn, so that it is asked once however often it is sent; `attachments` are images, files and texts:
        paths, or names with their bytes. `on_progress` is told what happens. `on_text` is told what the agent says
        while it comes, and `on_call` which tools it calls, with what arguments, both on this thread; what counts is
        the reply: of a turn that had to begin again they have told each attempt, and the events of `turn` say where
        one begins. A reply with `pending` calls is no answer yet: `decide`. Raises `ClientError`; `WaitingError`
        where calls wait already.
        """
        listen = events.listener(on_progress, on_text, on_call)
        asked = question, session, prompt, model, timeout, listen
        turn = self.prepare(*asked, user=user, context=context, turn_id=turn_id, attachments=attachments)
        return _answered(turn, listen)

    def turn(
        self,
        question: str,
        session: str | None = None,
        prompt: str | None = None,
        model: str = "",
        timeout: float = TIMEOUT,
        *,
        user: str | None = None,
        context: Mapping[str, Any] | None = None,
        turn_id: str | None = None,
        attachments: Sequence[Attachable] = (),
    ) -> Turn:
        """Ask as `ask` does, and do not wait: iterating over the turn gives its events, and `reply` its answer.

        Raises `ClientError`, `UnclearError` and `TimedOut` where it may have been asked all the same.
        """
        asked = question, session, prompt, model, timeout, events.ignore
        told: dict[str, Any] = {"user": user, "context": context, "turn_id": turn_id, "attachments": attachments}
        return self.prepare(*asked, **told).send()

    def attach(
        self,
        session: str,
        turn_id: str | None = None,
        after: int = 0,
        timeout: float = TIMEOUT,
        *,
        live: bool = False,
        decision_id: str = "",
    ) -> Turn:
        """A turn that somebody has asked, by its ID, or the one that runs: the events after the number `after`.

        Also one that has ended: its events are there until the session's next turn runs, then those that its record
        tells, with numbers of their own, unless only what is `live` is wanted. Raises `ClientError`; `UsageError`
        where there is no such turn. A turn that waited may go on behind a decision that is named by its ID.
        """
        found = self._connection.look_up(session)
        more: dict[str, Any] = {"arrange": partial(self._connection.arrange, found.id), "timeout": timeout}
        return turns.attach(self._connection, found, turn_id, after, **more, live=live, decision_id=decision_id)

    def steer(
        self,
        session: str,
        message: str,
        timeout: float = TIMEOUT,
        *,
        user: str | None = None,
        turn_id: str | None = None,
    ) -> Turn:
        """Give the turn that runs in a session a message, which goes in before its next call of the model.

        The events and the reply are those of that turn, whose `steered` has the message's ID, which is `turn_id`, if
        given: once. Where no turn runs, or it ends without the message, that is asked as a question under that ID.
        Raises `ClientError`; with the reply `WaitingError` where the turn waits for an approval.
        """
        asked = message, session, None, "", timeout, events.ignore
        return self.prepare(*asked, "steer", user=user, turn_id=turn_id).send()

    def interrupt(
        self,
        session: str,
        question: str,
        timeout: float = TIMEOUT,
        *,
        user: str | None = None,
        context: Mapping[str, Any] | None = None,
        turn_id: str | None = None,
        attachments: Sequence[Attachable] = (),
    ) -> Turn:
        """Cancel the turn that runs in a session, if one does, and ask; those that wait behind it come before.

        Parameters as for `turn`. Raises `ClientError`.
        """
        asked = question, session, None, "", timeout, events.ignore
        told: dict[str, Any] = {"user": user, "context": context, "turn_id": turn_id, "attachments": attachments}
        return self.prepare(*asked, "interrupt", **told).send()

    def decide(
        self,
        session: str,
        approve: Sequence[str] = (),
        reject: Sequence[str] = (),
        reason: str = "",
        always: bool = False,
        by: str | None = None,
        timeout: float = TIMEOUT,
        on_progress: OnProgress | None = None,
        on_text: OnText | None = None,
        on_call: OnCall | None = None,
        *,
        outputs: Mapping[str, str] | None = None,
    ) -> Reply:
        """Approve or reject calls of a session that wait (by ID or a part that only they have), and go on.

        `reason` is told to the model; `always` approves later calls of the approved tools too; `by` is who
        decides: the user, unless it is given. `outputs` are what this client's own tools said, by the whole ID of
        the call. Calls that are not named wait on: the reply has them as `pending`. Raises `ClientError`;
        `ConflictError` where nothing waits, or someone else has decided.
        """
        pending = self.pending(session)
        chosen = pending.chosen(approve) if approve else (), pending.chosen(reject) if reject else ()
        decision = approvals.make_decision(pending, *chosen, reason, always, by, outputs)
        listen = events.listener(on_progress, on_text, on_call)
        return _answered(self.prepare_decision(pending, decision, "", timeout, listen), listen)

    def prepare(
        self,
        question: str,
        session: str | None = None,
        prompt: str | None = None,
        model: str = "",
        timeout: float = TIMEOUT,
        listen: Listener | None = None,
        running: Literal["wait", "steer", "interrupt"] = "wait",
        *,
        user: str | None = None,
        context: Mapping[str, Any] | None = None,
        turn_id: str | None = None,
        is_new: bool = False,
        attachments: Sequence[Attachable] = (),
        budget: dict[str, Any] | None = None,
    ) -> Turn:
        """Make everything ready to ask, the session included, and ask nothing yet: the parts of `ask`.

        A turn that is `running` is waited for, or gets the message as by `steer`, or is cancelled as by `interrupt`.
        A `turn_id` that `is_new` was just made: nobody has asked under it, and nobody is looked for who has.
        `budget` is what the user may still use today, as a `Question` has it.
        """
        began = _trace()
        user = self.user if user is None else user
        files = gather(attachments, self._environ)
        named = question_field(each.described for each in files)
        asked = questions.make(question, model=model, user=user, context=context, turn_id=turn_id, attachments=named)
        asked.budget = budget
        if running == "steer" and files:
            raise errors.UsageError("A message for a turn that runs takes no attachments: ask a question with them.")
        if session is not None and prompt is not None:
            raise errors.UsageError("A prompt is for a new session; this one has its own from its beginning.")

        log: ConversationLog | None = None

        def open_session() -> Session:
            nonlocal log
            connection = self._connection
            if session is not None:
                found = connection.open(session)
                log, asked.memory = person.admit(connection, found, asked.user)
            else:
                found = fork.begin_session(connection, prompt or "", owner=asked.user)
                asked.memory = person.memory_of(connection, asked.user)
            upload(connection, found, files)
            return found

        opened = self._connection.begin_turn(open_session, listen or events.ignore)
        if running == "steer":
            asked.steer = turns.running_turn(self._connection, opened)
        elif running == "interrupt":
            turns.cancel_running(self._connection, opened)
        is_named = turn_id is not None and not is_new
        return self._turn(opened, asked, timeout, listen, began, named=is_named, log=log)

    def pending(self, session: str) -> Pending:
        """The calls of a session that wait for a decision.

        Raises `ClientError`; `SessionClosed`, and `ConflictError` where none wait or someone has just decided.
        """
        with translate_errors():
            self._connection.greet()
            found = self._connection.open(session)
        return history.read_pending(self._connection, found)

    def prepare_decision(
        self,
        pending: Pending,
        decision: Decision,
        model: str = "",
        timeout: float = TIMEOUT,
        listen: Listener | None = None,
        *,
        budget: dict[str, Any] | None = None,
    ) -> Turn:
        """Make everything ready to go on with the turn, and decide nothing yet: the parts of `decide`."""
        began, wanted = _trace(), pending.session_id
        opened = self._connection.begin_turn(lambda: self._connection.open(wanted), listen or events.ignore, wanted)
        question = Question(pending.question, pending.turn_id, model, decision=decision, budget=budget)
        question.traceparent = pending.traceparent
        log, question.memory = person.admit(self._connection, opened, None)
        return self._turn(opened, question, timeout, listen, began, log=log)

    def prepare_retry(
        self,
        session: str,
        model: str = "",
        timeout: float = TIMEOUT,
        listen: Listener | None = None,
        *,
        turn_id: str | None = None,
        budget: dict[str, Any] | None = None,
    ) -> Turn:
        """Take the last turn back and make everything ready to ask its question again: the parts of `retry`.

        `turn_id` is the ID of the new turn, where it is given.
        """
        began = _trace()
        opened = self._connection.begin_turn(lambda: self._connection.open(session), listen or events.ignore)
        log, memory = person.admit(self._connection, opened, questions.name_of(self.user))
        question, data = rewind.take_back_the_last(self._connection, opened)
        again = question_field(data.attachments)
        told: dict[str, Any] = {"user": self.user, "context": data.context or None, "turn_id": turn_id}
        asked = questions.make(question, model=model, attachments=again, **told)
        asked.memory, asked.budget = memory, budget
        return self._turn(opened, asked, timeout, listen, began, log=log)

    def retry(
        self,
        session: str,
        model: str = "",
        timeout: float = TIMEOUT,
        on_progress: OnProgress | None = None,
        on_text: OnText | None = None,
        on_call: OnCall | None = None,
    ) -> Reply:
        """Take the last turn of a session back, one that waits included, and ask its question again.

        Parameters as for `ask`. When it fails the turn stays taken back, and another `retry` asks the same question.
        Raises `ClientError`; `ConflictError` while a turn runs.
        """
        listen = events.listener(on_progress, on_text, on_call)
        return _answered(self.prepare_retry(session, model, timeout, listen), listen)

    def _turn(
        self,
        session: Session,
        question: Question,
        timeout: float,
        listen: Listener | None,
        began: int,
        *,
        named: bool = False,
        log: ConversationLog | None = None,
    ) -> Turn:
        """`began` is when the wish for it came, in epoch nanoseconds."""
        self._note_last(session.id)
        span = self._span(question, session, began)
        more = dict[str, Any](followed=listen is not None, named=named, log=log)
        return turns.make(self._connection, session, question, timeout, **more, span=span)

    def _span(self, question: Question, session: Session, began: int) -> tracing.Span:
        """The span of a turn, which it belongs to from now on; of a decision, below the one that it had."""
        if tracing.recorder() is None:
            return tracing.NOTHING
        about = {
            "session.id": session.id,
            "gen_ai.conversation.id": session.id,
            "flame.turn.id": question.id,
            "flame.application": self._connection.application.name,
        }
        name = "decide" if question.decision else "ask"
        span = tracing.begin(name, about, kind="client", parent=question.traceparent, start=began)
        question.traceparent = span.traceparent
        tracing.note("open session", began, tracing.now(), of=span)
        return span


def _answered(turn: Turn, listen: Listener | None) -> Reply:
    turn.send()
    return turn.wait(listen)


def _trace() -> int:
    """Record where that is wanted; the time, in epoch nanoseconds."""
    tracing.start("flame-agent-client")
    return tracing.now()
