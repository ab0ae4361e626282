"""The turns of a session that failed: what its agent has noted of them, and what Flame knows of tasks that have.

Flame tells it of turns in which a process died, took too long or could not be started, and of those that were
cancelled before they began; the agent's notes tell of all others, which to Flame have ended well. A turn counts as
failed as long as the conversation has no answer to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from msgspec import structs

from flameagent.client import payloads, sessions, task_result
from flameagent.client.agent_connection import AgentConnection
from flameagent.client.connection import first_key, translate_errors
from flameagent.client.errors import DamagedError
from flameagent.client.events import OnProgress
from flameagent.client.overview import Overview, overview
from flameagent.client.session_info import SessionInfo, find_text
from flameagent.conversation import ConflictError, ConversationError, ConversationReader
from flameagent.conversation.failures import Failure, failure_keys, read_failures
from flameagent.flame import FlameError, NotFound
from flameagent.flame.frontend import Frontend, Session, Task, TaskState
from flameagent.flame.objects import Rows

_BATCH = 500


@dataclass(frozen=True)
class FailedTurns:
    """A session with the turns of it that failed, the oldest first."""

    session: SessionInfo
    failures: list[Failure]

    def as_json(self) -> dict[str, Any]:
        """As `sessions --failed --json` prints it."""
        return {**self.session.as_json(), "failures": [failure_as_json(each) for each in self.failures]}


def failure_as_json(failure: Failure) -> dict[str, Any]:
    """A failure as `history --json` and `sessions --failed --json` print it."""
    return {
        "turn_id": failure.turn,
        "question": failure.question,
        "attachments": failure.attachments,
        "user": failure.user,
        "began": failure.began,
        "ended": failure.ended,
        "code": failure.code,
        "reason": failure.reason,
        "decision": failure.decision,
        "model": failure.model,
        "usage": structs.asdict(failure.usage),
        "task": failure.task,
    }


def failures_of(
    session: Session,
    application: str,
    frontend: Frontend,
    get: Callable[[str], Rows],
    reader: ConversationReader | None,
    *,
    since: int = 0,
    until: int | None = None,
    tasks: bool = True,
) -> list[Failure]:
    """The turns of a session that failed in a time (epoch milliseconds), the oldest first.

    Without `tasks` Flame is known to have none that has failed. Raises `FlameError`.
    """
    noted = {each.attempt: each for each in read_failures(get, failure_keys(application, session.id))}
    told = _by_flame(session.id, frontend, since) if tasks else []
    for each in told:
        note = noted.get(each.attempt)  # of an attempt whose process died as it told of it
        noted[each.attempt] = (
            each if note is None else structs.replace(each, model=note.model, usage=note.usage, began=note.began)
        )
    found = [each for each in noted.values() if each.ended >= since and (until is None or each.ended <= until)]
    return sorted((each for each in found if not _is_answered(each, reader)), key=lambda each: each.ended)


def read_failed_turns(connection: AgentConnection, session: Session) -> list[Failure]:
    """All turns of a session that failed, the oldest first. Raises `ClientError`."""
    with translate_errors(session.id):
        log = connection.log(session)
        name = connection.application.name
        tasks = bool(session.failed)
        return failures_of(session, name, connection.frontend, connection.cache.get, log, tasks=tasks)


def list_failed(
    connection: AgentConnection,
    *,
    since: int = 0,
    until: int | None = None,
    state: str = "",
    limit: int | None = None,
    search: str = "",
    on_progress: OnProgress | None = None,
) -> list[FailedTurns]:
    """The sessions with turns that failed in a time, the newest first; those that are otherwise like that.

    A `search` looks through the questions and reasons of these turns, too, which are in no conversation.
    How large all objects are says which sessions have any; where many are read, `on_progress` is told how many.
    Raises `ClientError`.
    """
    with translate_errors():
        connection.greet()
        with overview(connection) as engine:
            failed = dict(failed_turns(connection, engine, since, until, on_progress))
        only = partial(sessions.list_sessions, connection, state=state, only=failed.keys(), on_progress=on_progress)
        listed = only()
        if search:
            said = {info.session_id: info for info in only(search=search)}
            listed = [
                said.get(info.session_id, replace(info, match=match))
                for info in listed
                if (match := find_text(_texts(failed[info.session_id]), search)) or info.session_id in said
            ]
    return [FailedTurns(info, failed[info.session_id]) for info in listed][:limit]


def _texts(failures: Sequence[Failure]) -> Iterator[tuple[str, str]]:
    """What a search looks through beside the conversation, in which nothing of them is."""
    for failure in failures:
        yield "failed", failure.question
        yield "failed", failure.reason
        yield from (("failed", name) for name in failure.attachments)


def failed_turns(
    connection: AgentConnection, engine: Overview, since: int, until: int | None, on_progress: OnProgress | None
) -> Iterator[tuple[str, list[Failure]]]:
    """The IDs of the sessions with turns that failed in a time, each with these. Raises `FlameError`."""
    own, name = engine.sessions(), connection.application.name
    with_tasks = engine.with_failed_tasks(own, since)
    sizes = engine.sizes(len(own))
    may = [
        each
        for each in own
        if sizes is None or each.id in with_tasks or any(sizes.get(key) for key in failure_keys(name, each.id))
    ]
    frontend = connection.frontend  # opened once, before the threads that share it

    def read(session: Session) -> list[Failure]:
        reader = None
        with suppress(DamagedError):
            reader = ConversationReader(engine, first_key(session), patience=0.0) if session.common_data else None
        with suppress(FlameError):
            tasks = session.id in with_tasks
            return failures_of(session, name, frontend, engine.get, reader, since=since, until=until, tasks=tasks)
        return []

    for start in range(0, len(may), _BATCH):
        if on_progress is not None and len(may) > _BATCH:
            on_progress(f"reading failures, {start} of {len(may)}")
        batch = may[start : start + _BATCH]
        if engine.readers == 1:
            found: Sequence[list[Failure]] = list(map(read, batch))
        else:
            with ThreadPoolExecutor(engine.readers) as readers:
                found = list(readers.map(read, batch))
        yield from ((session.id, failures) for session, failures in zip(batch, found, strict=True) if failures)


def _by_flame(session_id: str, frontend: Frontend, since: int) -> Iterator[Failure]:
    for task in frontend.tasks(session_id):
        asked = payloads.question(task.input)
        if task.state not in (TaskState.FAILED, TaskState.CANCELLED) or asked is None or task.completed < since:
            continue
        with suppress(NotFound):
            yield _failure(frontend.task(session_id, task.id), task)  # which says why


def _failure(task: Task, listed: Task) -> Failure:
    asked = payloads.question(listed.input)
    assert asked is not None
    return Failure.of_question(
        asked,
        turn=payloads.turn_id(listed.input) or f"{task.session_id}/{task.id}",
        task=task.id,
        began=listed.created,
        ended=listed.completed,
        code="cancelled" if task.state == TaskState.CANCELLED else "failed",
        reason=task_result.why(task),
    )


def _is_answered(failure: Failure, reader: ConversationReader | None) -> bool:
    """Whether the conversation has an answer to the turn: of a second attempt, or of a later one under its ID."""
    if reader is None:
        return False
    try:
        return reader.read_turn(failure.turn) is not None
    except (ConflictError, ConversationError, FlameError):  # it was cancelled long ago; or nobody knows
        return False
