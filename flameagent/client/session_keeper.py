"""`SessionKeeper`: looking after the sessions of an agent, from Python."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from flameagent.client import (
    approvals,
    failures,
    fork,
    history,
    last_session,
    memory,
    report,
    rewind,
    sessions,
    status,
)
from flameagent.client import question as questions
from flameagent.client.agent_connection import AgentConnection
from flameagent.client.application import Application
from flameagent.client.arguments import methods_checked
from flameagent.client.connection import translate_errors
from flameagent.client.engine import Engine
from flameagent.client.environment import Environment
from flameagent.client.errors import ClientError, UsageError
from flameagent.client.events import OnProgress
from flameagent.client.failures import FailedTurns
from flameagent.client.fork import Copy, Importable
from flameagent.client.history import History
from flameagent.client.memory import Memory
from flameagent.client.prices import Prices
from flameagent.client.report import Report
from flameagent.client.rewind import Rewound
from flameagent.client.sessions import SessionInfo
from flameagent.client.status import Status
from flameagent.client.turn_watch import TurnWatch
from flameagent.conversation import Block, Conversation, EditBody
from flameagent.flame.frontend import Session
from flameagent.text import all_well_formed, well_formed

_METADATA = 64 * 1024  # bytes; they are part of each segment's base
_TOOLS = 128 * 1024
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@methods_checked
class SessionKeeper:
    """What looks after the sessions of an agent on one engine: lists, shows, names, copies, closes and deletes them.

    For any number of threads. As a context manager it closes its connections; nobody may use it then.
    """

    def __init__(
        self,
        engine: Engine,
        application: Application,
        environ: Environment,
        *,
        for_many: bool = False,
        watch: TurnWatch | None = None,
    ) -> None:
        """With `for_many` sessions are found by their exact ID alone, and which was used last is not noted.

        A `watch` is told of all turns.
        """
        self.engine = engine
        self.application = application
        self._environ = environ
        self._connection = AgentConnection(engine, application, environ, for_many=for_many)
        self._connection.watch = watch

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def user(self) -> str:
        """Who asks, unless a turn says otherwise; "" where nobody is known."""
        if (acting := approvals.acting_user.get()) is not None:
            return acting
        named = " ".join(self._environ.get("FLAME_AGENT_USER", "").split())
        return named or (approvals.current_user() if self.engine.of_one_user else "")

    @property
    def passes_settings(self) -> bool:
        """True where the model settings of this environment count: on a cluster its executor managers' do."""
        return self.engine.takes_settings

    def close(self) -> None:
        """Close the connections."""
        sessions.wipe(self._connection)
        self._connection.close()

    def reach(self, on_progress: OnProgress | None = None) -> None:
        """See that the engine answers; the embedded one is started where it does not run. Raises `ClientError`."""
        if on_progress:
            on_progress(self.engine.contact)
        with translate_errors():
            self._connection.greet()

    def begin_session(
        self,
        session_id: str | None = None,
        prompt: str = "",
        messages: Sequence[Mapping[str, Any]] = (),
        *,
        user: str | None = None,
        model: str = "",
        metadata: Mapping[str, str] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """A new session of `user`, in which nothing is asked yet; its ID, which is `session_id`, if that is given.

        `prompt` is its system prompt, `messages` are items that it begins with, and `model` is that of its turns
        which name none. `metadata` are kept with it. `tools` are those of this client: each has a `name`, a
        `description` and `parameters` (a JSON schema); a call of one waits until `decide` has its output. One that is
        there already under that ID stays as it is. Raises `ClientError`.
        """
        edit = metadata_edit(metadata) if metadata else None
        told = _tools(tools)
        with translate_errors():
            self._connection.greet()
            self._connection.register()
            made = fork.begin_session(
                self._connection,
                well_formed(prompt),
                edit,
                owner=self._named(user),
                session_id=session_id,
                messages=messages,
                tools=told,
                model=well_formed(model),
            )
            return made.id

    def set_metadata(self, session: str, metadata: Mapping[str, str]) -> str:
        """Give a session other metadata, in place of those that it has; returns its ID. Raises `ClientError`."""
        found, edit = self._connection.look_up(session), metadata_edit(metadata)
        with translate_errors(found.id):
            log = self._connection.log(found)
            if log is None:
                raise ClientError("This session has no context: it keeps no metadata.")
            log.append(edit)
        return found.id

    def owner(self, session: str) -> str:
        """Whose session it is; "" where it is everybody's. Raises `ClientError`."""
        found = self._connection.look_up(session)
        with translate_errors(found.id):
            log = self._connection.log(found)
            return log.refresh().owner if log else ""

    def conversation(self, session: str) -> Conversation:
        """A session's conversation as far as a question needs it: all that it is, and its newest items.

        Raises `ClientError`.
        """
        return history.read_newest(self._connection, session)

    def add_items(self, session: str, items: Sequence[Mapping[str, Any]], *, edit_id: str | None = None) -> Block:
        """Add items, as the Agents SDK has them, to an open session without asking; what was added.

        With an `edit_id` they are added once, however often that is asked for. Raises `ClientError`; `ConflictError`
        while a turn runs, `WaitingError` where one waits for an approval.
        """
        with translate_errors():
            self._connection.greet()
            found = self._connection.open(session)
        return rewind.add_items(self._connection, found, items, edit_id)

    def fork(
        self, session: str, at: int | None = None, *, user: str | None = None, session_id: str | None = None
    ) -> Copy:
        """A new session that begins with the first `at` turns of this one, or with all of it, and stands alone.

        It is `user`'s, who copies, whosever this one is. Also of a closed session, and of what can be read of a
        damaged one; a turn that waits for an approval is left behind. With a `session_id` the copy is the session of
        that ID, and one that is there already stays as it is. Raises `ClientError`; `UsageError` where there is no
        such turn.
        """
        found = self._connection.look_up(session)
        with translate_errors():
            self._connection.register()
        copy = fork.fork(self._connection, found, at, self._named(user), session_id)
        self._note_last(copy.session_id)
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

    def sessions(
        self,
        state: str = "",
        limit: int | None = None,
        search: str = "",
        *,
        on_progress: OnProgress | None = None,
    ) -> list[SessionInfo]:
        """The application's sessions, newest first; those in a state, the newest N, those with a text.

        A `state` is `open`, `waiting` (for an approval) or `closed`; `search` looks in titles and histories. What
        earlier lists have read is not read again; where that is much the first time, `on_progress` is told. Raises
        `ClientError`.
        """
        return sessions.list_sessions(
            self._connection, state=state, limit=limit, search=search, on_progress=on_progress
        )

    def failed_sessions(
        self,
        since: int = 0,
        until: int | None = None,
        state: str = "",
        limit: int | None = None,
        search: str = "",
        *,
        on_progress: OnProgress | None = None,
    ) -> list[FailedTurns]:
        """The sessions with turns that failed in a time (epoch milliseconds), newest first, with these turns.

        `state`, `limit` and `search` as in `sessions`. Raises `ClientError`.
        """
        return failures.list_failed(
            self._connection,
            since=since,
            until=until,
            state=state,
            limit=limit,
            search=search,
            on_progress=on_progress,
        )

    def report(self, since: int = 0, until: int | None = None, *, on_progress: OnProgress | None = None) -> Report:
        """The turns of the agent in a time (epoch milliseconds): failures, how long they took, models, tools.

        What models cost is by the `prices` of the settings. Raises `ClientError`.
        """
        prices = Prices.of(self._environ)
        end = int(time.time() * 1000) if until is None else until
        return report.make_report(self._connection, since, end, prices, on_progress=on_progress)

    def describe(
        self, found: Sequence[Session], own: Sequence[Session] | None = None, search: str = ""
    ) -> list[SessionInfo]:
        """Sessions that Flame has told of, as they are in the list of such a search; `short` is the whole ID.

        `own` are all that the agent has: what is known of others is forgotten. Raises `ClientError`.
        """
        return sessions.read_sessions(self._connection, found, own, search)

    def session(self, session: str, search: str = "") -> SessionInfo:
        """One session as it is in the list, searched as that is. Raises `ClientError`."""
        return sessions.read_session(self._connection, session, search)

    def history(self, session: str, *, failures: bool = False, timings: bool = False) -> History:
        """A session's conversation, also of a closed one, as far as it can be read; with `failures` what failed, too.

        With `timings` Flame is asked when turns of older programs were asked. Raises `ClientError`.
        """
        return history.read_history(self._connection, session, failures=failures, timings=timings)

    def attachments(self, found: History) -> dict[str, bytes]:
        """What the turns of a history name, by the hash of the bytes; without what is gone. Raises `ClientError`."""
        return history.read_attachments(self._connection, found)

    def attachment(self, session: str, sha256: str) -> bytes | None:
        """One of them, by the session and its hash; None where it is not there. Raises `ClientError`."""
        return history.read_attachment(self._connection, session, sha256)

    def rename(self, session: str, title: str) -> tuple[str, str]:
        """Give a session a title; "" takes it away. Its ID, and the title as it is kept. Raises `ClientError`."""
        found = self._connection.look_up(session)
        return found.id, rewind.rename(self._connection, found, title)

    def import_conversation(self, found: Importable, *, user: str | None = None) -> Copy:
        """A new session of `user`, who imports it, with a conversation that was read from a file.

        Raises `ClientError`.
        """
        user = self._named(user)
        copy = fork.import_conversation(self._connection, found, user)
        copy = memory.remember_import(self._connection, copy, user)
        self._note_last(copy.session_id)
        return copy

    def memory(self, user: str | None = None) -> Memory:
        """What the agent remembers of a person: of who asks, unless it is said. `UsageError` where that is nobody."""
        return Memory(self._connection, self._named(user))

    def delete_session(self, session: str) -> str:
        """Delete a session with all that it holds, for good; returns its ID. Can be repeated after a crash.

        Raises `ConflictError` while a turn runs.
        """
        return sessions.delete(self._connection, session)

    def close_session(self, session: str) -> str:
        """Close a session, so that nothing can be added; returns its ID. Can be repeated.

        Raises `ConflictError` while a turn runs.
        """
        return sessions.close(self._connection, session)

    def status(self) -> Status:
        """The engine, agent and model that a question would meet now. Starts nothing."""
        return status.observe(self.engine, self.application, self._environ, self._connection)

    def _note_last(self, session_id: str) -> None:
        if not self._connection.for_many:
            last_session.write(self.engine.identity, self.application.name, session_id)

    def _named(self, user: str | None) -> str:
        return questions.name_of(self.user if user is None else user)


def metadata_edit(metadata: Mapping[str, str]) -> EditBody:
    """The edit that gives a session these metadata. Raises `UsageError` for what is too long or no text."""
    if not all(isinstance(text, str) for pair in metadata.items() for text in pair):
        raise UsageError("Metadata are texts under texts.")
    kept = {well_formed(key): well_formed(text) for key, text in metadata.items()}
    if len(json.dumps(kept)) > _METADATA:
        raise UsageError(f"The metadata are longer than {_METADATA // 1024} kB.")
    return EditBody("metadata", metadata=kept, by=approvals.current_user())


def _tools(tools: Sequence[Mapping[str, Any]]) -> list[str]:
    """The tools of a client as a session begins with them. Raises `UsageError` for what is none."""
    told = []
    for each in tools:
        name, parameters = each.get("name"), each.get("parameters")
        if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
            raise UsageError("The name of a tool is 1 to 64 letters, digits, _ and -.")
        if not isinstance(parameters or {}, Mapping) or not isinstance(each.get("description") or "", str):
            raise UsageError(f"The parameters of the tool {name} are a JSON schema, and its description is a text.")
        kept = {"name": name, "description": each.get("description") or "", "parameters": dict(parameters or {})}
        told.append(json.dumps(all_well_formed(kept)))
    names = [json.loads(each)["name"] for each in told]
    if len(set(names)) < len(names):
        raise UsageError("Two tools have one name.")
    if sum(map(len, told)) > _TOOLS:
        raise UsageError(f"The tools are longer than {_TOOLS // 1024} kB.")
    return told
