"""Sessions that begin as a copy: forks of a session of this engine, and conversations that were exported from one.

Promises that a copy stands alone, and that there is a session only when the copy is complete: what a process that
is killed leaves behind is an object that no session names.
"""

from __future__ import annotations

import random
import string
from collections.abc import Sized
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from apis import MyContext
from flameagent.client.agent_connection import AgentConnection
from flameagent.client.connection import translate_errors, undisturbed
from flameagent.client.errors import ClientError, UsageError
from flameagent.conversation import ConversationError, ConversationLog, EditBody, context, copy_edit
from flameagent.flame.frontend import Session
from flameagent.flame.objects import patiently
from flameagent.text import well_formed

_ID_CHARACTERS = string.ascii_uppercase + string.digits


@dataclass(frozen=True)
class Copy:
    """A new session with `turns` turns of `origin`.

    `left` says what was left behind, where something was: a turn that waits, what comes after damage.
    """

    session_id: str
    origin: str
    turns: int
    left: str = ""

    def as_json(self) -> dict[str, Any]:
        """The copy as `fork --json` and `import --json` print it."""
        return {"session_id": self.session_id, "origin": self.origin, "turns": self.turns, "left": self.left}


class Importable(Protocol):
    """A conversation from elsewhere, with which a session can begin: a file that was exported, for one."""

    @property
    def session_id(self) -> str:
        """The session that it was of."""

    @property
    def prompt(self) -> str:
        """The system prompt; "" for the agent's own."""

    @property
    def turns(self) -> Sized:
        """Its turns."""

    def edit(self) -> EditBody:
        """The edit that a conversation with all of it begins with."""


def fork(connection: AgentConnection, session: Session, at: int | None = None) -> Copy:
    """A new session that begins with the first `at` turns of this one, or with all that can be read.

    The session may be closed, and its conversation damaged; a turn that waits for an approval is left behind.
    Raises `UsageError` where there is no such turn, `DamagedError` where nothing can be read.
    """
    with translate_errors(session.id):
        log = connection.log(session)
        if log is None:
            raise ClientError("This session has no context: there is nothing to copy.")
        log.refresh()
        conversation = log.load(0)
        if conversation.damage and conversation.damage.record == 0:
            raise conversation.damage
        turns = conversation.turn_count if at is None else at
        try:
            end, blocks = conversation.checkpoint_at(turns)
        except ConversationError as error:
            raise UsageError(str(error)) from error
        left = ""
        if at is None and conversation.damage:
            left = f"Only what can be read was copied. {conversation.damage}"
        elif conversation.waiting is not None and turns == conversation.turn_count:
            left = "The turn that waits for an approval was left behind."
        edit = copy_edit(end, blocks, origin=session.id, title=conversation.title)
        made = begin_session(connection, conversation.prompt, edit)
    return Copy(made.id, session.id, end.turn_count, left)


def import_conversation(connection: AgentConnection, found: Importable) -> Copy:
    """A new session with all of that conversation."""
    with translate_errors():
        connection.greet()
        connection.register()
        made = begin_session(connection, found.prompt, found.edit())
    return Copy(made.id, found.session_id, len(found.turns))


def begin_session(connection: AgentConnection, prompt: str, edit: EditBody | None = None) -> Session:
    """A new session under a fresh ID, whose conversation begins with this edit."""
    application = connection.application.name
    base = context.write(MyContext(well_formed(prompt)))
    while True:
        session_id = f"{application}-{''.join(random.choices(_ID_CHARACTERS, k=6))}"  # noqa: S311 - a name
        prefix = f"{application}/{session_id}"
        reference = patiently(partial(connection.cache.put, prefix, base), connection.patience)
        if edit is not None:
            ConversationLog(connection.cache, reference.key, guard=undisturbed).append(edit)
        session = connection.frontend.create_session(session_id, application, reference.encode())
        if session.common_data == reference.encode():  # otherwise the ID was taken, and the session is somebody's
            return session
