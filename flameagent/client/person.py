"""The person who asks: which sessions are theirs, and where what the agent remembers of them is."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from typing import NamedTuple

from flameagent.apis import MyContext
from flameagent.client import approvals
from flameagent.client.agent_connection import AgentConnection, KnownMemory
from flameagent.client.connection import translate_errors, undisturbed
from flameagent.client.errors import NoSuchSession
from flameagent.conversation import ConversationLog, MissingError, context
from flameagent.conversation import DamagedError as Damaged
from flameagent.flame import NotFound
from flameagent.flame.frontend import Session
from flameagent.flame.objects import patiently
from flameagent.memory import place
from flamewire.failpoints import failpoint
from flamewire.object_ref import ObjectRef

_KNOWN_FOR = 60.0  # seconds that nobody asks for a key again
_KEYS = 1000  # of so many people at once


class Admitted(NamedTuple):
    """A session in which somebody may do something: its conversation, as far as it was read, if it keeps one.

    `memory` is the key of what is remembered of its owner, "" where nothing is to be.
    """

    log: ConversationLog | None
    memory: str


def admit(connection: AgentConnection, session: Session, user: str | None) -> Admitted:
    """Have a user ask in a session, or with None anybody decide: it is theirs or everybody's.

    Raises `NoSuchSession` for a session of somebody else, and other `ClientError`s.
    """
    with translate_errors(session.id):
        log = connection.log(session)
        owner = patiently(log.refresh, connection.patience).owner if log else ""
        if owner and user not in (None, owner):
            name = connection.application.name
            raise NoSuchSession(
                f"No session of {name} has {session.id!r} in its ID. The command `sessions` lists them."
            )
        return Admitted(log, memory_of(connection, owner))


def memory_of(connection: AgentConnection, user: str) -> str:
    """The key of what is to be remembered of a person; "" for nobody, and where nothing is. Raises `FlameError`.

    It may be that of a moment ago: where all was erased in between, the worker finds what was begun then.
    """
    if not (user and connection.remembers):
        return ""
    known, now = connection.memories.get(user), time.monotonic()
    if known is None or known.until < now or known.generation != connection.generation:
        if len(connection.memories) >= _KEYS:
            connection.memories.clear()
        known = KnownMemory(open_memory(connection, user), connection.generation, now + _KNOWN_FOR)
        connection.memories[user] = known
    return known.key


def take_back(connection: AgentConnection, session: Session, owner: str, turns: Collection[str] | None) -> None:
    """Take turns of a session, by ID, or with None all, back from what is remembered of its owner.

    Raises `FlameError`. A memory that cannot be read is passed over: nobody is shown anything of it.
    """
    from flameagent.memory.person import PersonMemory  # brings SQLite, which a question does not need

    with suppress(MissingError, Damaged):
        if owner and (turns is None or turns) and (key := find_memory(connection, owner)):
            memory, by = PersonMemory(connection.cache, key, undisturbed), approvals.current_user()
            if turns is None:
                memory.withdraw_session(session.id, by)
            else:
                memory.withdraw(session.id, turns, by)


def find_memory(connection: AgentConnection, user: str) -> str:
    """The key of what is remembered of a person; "" where nothing ever was. Raises `FlameError`."""
    try:
        found = connection.frontend.session(place.session_id(connection.application.name, user))
    except NotFound:
        return ""
    return ObjectRef.decode(found.common_data).key if found.common_data else ""


def open_memory(connection: AgentConnection, user: str) -> str:
    """The key of what is remembered of a person, which is begun where nothing was. Raises `FlameError`."""
    if key := find_memory(connection, user):
        return key
    application = connection.application.name
    base = context.write(MyContext(user=user))
    erasing = _is_being_erased(connection, user)
    reference = connection.cache.put(place.prefix(application, user), base)
    failpoint("memory: made")
    if erasing:
        _mark_erased(connection, reference.key)
    session_id = place.session_id(application, user)
    made = connection.frontend.create_session(session_id, place.HOLDER, reference.encode())
    if made.common_data is not None and made.common_data != reference.encode():  # somebody was first
        connection.cache.delete(reference.key)
        return ObjectRef.decode(made.common_data).key
    if not erasing and _is_being_erased(connection, user):  # since it was looked
        _mark_erased(connection, reference.key)
    return reference.key


def _is_being_erased(connection: AgentConnection, user: str) -> bool:
    try:
        connection.frontend.session(place.erasing_id(connection.application.name, user))
    except NotFound:
        return False
    return True


def _mark_erased(connection: AgentConnection, key: str) -> None:
    """Have nothing from before come back into a memory that was begun while the one before it was being erased."""
    from flameagent.memory.person import PersonMemory

    PersonMemory(connection.cache, key, undisturbed).erase()
