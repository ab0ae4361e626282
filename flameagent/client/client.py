"""`Client`: asking the agent and looking after its sessions, from Python.

Promises what the command line promises, because that is made of it: answers, or a `ClientError` whose message
is a sentence.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from apis import Decision, Question
from flameagent.client import approvals, errors, events, fork, history, last_session, rewind, sessions, status
from flameagent.client.agent_connection import AgentConnection
from flameagent.client.application import Application
from flameagent.client.approvals import Pending
from flameagent.client.connection import translate_errors
from flameagent.client.engine import Engine
from flameagent.client.environment import Environment
from flameagent.client.events import Listener, OnCall, OnProgress, OnText
from flameagent.client.fork import Copy, Importable
from flameagent.client.history import History
from flameagent.client.question import check
from flameagent.client.reply import Reply
from flameagent.client.rewind import Rewound
from flameagent.client.sessions import SessionInfo
from flameagent.client.status import Status
from flameagent.client.stream import Stream
from flameagent.client.turn import Turn
from flameagent.flame import NotFound, Refused
from flameagent.flame.frontend import Session
from flameagent.settings import TIMEOUT


class Client:
    """The agent on one engine. Made by `flameagent.client.connect`; opens connections when they are needed.

    For one thread. As a context manager it closes them.
    """

    def __init__(self, engine: Engine, application: Application, environ: Environment) -> None:
        self.engine = engine
        self.application = application
        self._environ = environ
        self._connection = AgentConnection(engine, application, environ)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def passes_settings(self) -> bool:
        """True where the model settings of this environment count: on a cluster its executor managers' do."""
        return self.engine.takes_settings

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def reach(self, on_progress: OnProgress | None = None) -> None:
        """See that the engine answers; the embedded one is started where it does not run. Raises `ClientError`."""
        if on_progress:
            on_progress(self.engine.contact)
        with translate_errors():
            self._connection.greet()

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
    ) -> Reply:
        """Ask in a session (by ID or a part of it that only it has), or in a new one, and wait for the answer.

        `prompt` is a new session's system prompt; `model` a model by name for this turn; `timeout` is in
        seconds; `on_progress` is told what happens. `on_text` is told what the agent says while it comes, and
        `on_call` which tools it calls, with what arguments, both on this thread; what counts is the reply: of a
        turn that had to begin again they have told the first attempt. A reply with `pending` calls is no answer
        yet: `decide`. Raises `ClientError`; `WaitingError` where calls wait already.
        """
        listen = events.listener(on_progress, on_text, on_call)
        return _answered(self.prepare(question, session, prompt, model, timeout, listen), listen)

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
    ) -> Reply:
        """Approve or reject calls of a session that wait (by ID or a part that only they have), and go on.

        `reason` is told to the model; `always` approves later calls of the approved tools too; `by` is who
        decides: the user, unless it is given. Calls that are not named wait on: the reply has them as `pending`.
        Raises `ClientError`; `ConflictError` where nothing waits, or someone else has decided.
        """
        pending = self.pending(session)
        chosen = pending.chosen(approve) if approve else (), pending.chosen(reject) if reject else ()
        decision = approvals.make_decision(pending, *chosen, reason, always, by)
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
    ) -> Turn:
        """Make everything ready to ask, the session included, and ask nothing yet: the parts of `ask`."""
        text = check(question)
        if session is not None and prompt is not None:
            raise errors.UsageError("A prompt is for a new session; this one has its own from its beginning.")

        def open_session() -> Session:
            connection = self._connection
            return connection.open(session) if session is not None else fork.begin_session(connection, prompt or "")

        opened = self._connection.begin_turn(open_session, listen or events.ignore)
        return self._turn(opened, Question(text, str(uuid.uuid4()), model), timeout, listen)

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
    ) -> Turn:
        """Make everything ready to go on with the turn, and decide nothing yet: the parts of `decide`."""
        wanted = pending.session_id
        opened = self._connection.begin_turn(lambda: self._connection.open(wanted), listen or events.ignore, wanted)
        question = Question(pending.question, pending.turn_id, model, decision=decision)
        return self._turn(opened, question, timeout, listen)

    def prepare_retry(
        self,
        session: str,
        model: str = "",
        timeout: float = TIMEOUT,
        listen: Listener | None = None,
    ) -> Turn:
        """Take the last turn back and make everything ready to ask its question again: the parts of `retry`."""
        opened = self._connection.begin_turn(lambda: self._connection.open(session), listen or events.ignore)
        question = rewind.take_back_the_last(self._connection, opened)
        asked = Question(check(question), str(uuid.uuid4()), model)
        return self._turn(opened, asked, timeout, listen)

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

    def fork(self, session: str, at: int | None = None) -> Copy:
        """A new session that begins with the first `at` turns of this one, or with all of it, and stands alone.

        Also of a closed session, and of what can be read of a damaged one; a turn that waits for an approval is left
        behind. Raises `ClientError`; `UsageError` where there is no such turn.
        """
        found = self._connection.look_up(session)
        with translate_errors():
            self._connection.register()
        copy = fork.fork(self._connection, found, at)
        last_session.write(self.engine.identity, self.application.name, copy.session_id)
        return copy

    def rewind(self, session: str, turns: int, force: bool = False) -> Rewound:
        """Keep the first `turns` turns of a session; those after them stay in the whole history.

        With `force` a turn that runs is cancelled first. Raises `ClientError`; `ConflictError` where a turn runs and
        without `force`, `UsageError` where there is nothing to take back.
        """
        with translate_errors():
            self._connection.greet()
            found = self._connection.open(session)
        return rewind.rewind(self._connection, found, turns, force=force)

    def last_session(self) -> str:
        """The ID of the session that this client used last on this engine. Raises `NoSuchSession`."""
        return last_session.read(self.engine.identity, self.application.name)

    def sessions(self, state: str = "", limit: int | None = None, search: str = "") -> list[SessionInfo]:
        """The application's sessions, newest first; those in a state, the newest N, those with a text.

        A `state` is `open`, `waiting` (for an approval) or `closed`; `search` looks in titles and histories. Raises
        `ClientError`.
        """
        return sessions.list_sessions(self._connection, state=state, limit=limit, search=search)

    def session(self, session: str) -> SessionInfo:
        """One session as it is in the list. Raises `ClientError`."""
        return sessions.read_session(self._connection, session)

    def history(self, session: str) -> History:
        """A session's conversation, also of a closed one, as far as it can be read. Raises `ClientError`."""
        return history.read_history(self._connection, session)

    def rename(self, session: str, title: str) -> tuple[str, str]:
        """Give a session a title; "" takes it away. Its ID, and the title as it is kept. Raises `ClientError`."""
        found = self._connection.look_up(session)
        return found.id, rewind.rename(self._connection, found, title)

    def import_conversation(self, found: Importable) -> Copy:
        """A new session with a conversation that `transcript.document` has read. Raises `ClientError`."""
        copy = fork.import_conversation(self._connection, found)
        last_session.write(self.engine.identity, self.application.name, copy.session_id)
        return copy

    def delete_session(self, session: str) -> str:
        """Delete a session with all that it holds, for good; returns its ID. Can be repeated after a crash.

        Raises `ConflictError` while a turn runs.
        """
        session_id = self.close_session(session)
        with translate_errors(session_id):
            # The session last: while it is there, whoever deletes it again gets to its objects.
            self._connection.cache.delete(f"{self.application.name}/{session_id}")
            self._connection.frontend.delete_session(session_id)
        return session_id

    def close_session(self, session: str) -> str:
        """Close a session, so that nothing can be added; returns its ID. Can be repeated.

        Raises `ConflictError` while a turn runs.
        """
        found = self._connection.look_up(session)
        with translate_errors(found.id):
            try:
                self._connection.frontend.close_session(found.id)
            except NotFound:
                raise
            except Refused as error:
                raise errors.ConflictError(
                    f"The session {found.id} cannot be closed while a turn runs ({error})."
                ) from error
        return found.id

    def status(self) -> Status:
        """The engine, agent and model that a question would meet now. Starts nothing."""
        return status.observe(self.engine, self.application, self._environ, self._connection)

    def _turn(self, session: Session, question: Question, timeout: float, listen: Listener | None) -> Turn:
        last_session.write(self.engine.identity, self.application.name, session.id)
        stream = None
        if listen is not None and session.common_data is not None:  # without context an agent has no cache
            stream = Stream(self._connection, f"{self.application.name}/{session.id}")
        return Turn(
            self._connection,
            session,
            question,
            arrange=lambda: self._connection.arrange(session.id),
            timeout=timeout,
            stream=stream,
        )


def _answered(turn: Turn, listen: Listener | None) -> Reply:
    turn.send()
    return turn.wait(listen)
