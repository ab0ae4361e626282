"""Sessions that begin as a copy: forks of a session of this engine, and conversations that were exported from one.

Promises that a copy stands alone, and that there is a session only when the copy is complete: what a process that
is killed leaves behind is an object that no session names.
"""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable, Mapping, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import msgspec

from flameagent.apis import MyContext
from flameagent.client.agent_connection import AgentConnection
from flameagent.client.connection import translate_errors, undisturbed
from flameagent.client.environment import resources
from flameagent.client.errors import ClientError, UsageError
from flameagent.conversation import (
    Block,
    ConversationError,
    ConversationLog,
    EditBody,
    Source,
    attachments,
    context,
    copy_edit,
)
from flameagent.conversation.attachments import AttachmentGone, AttachmentStore
from flameagent.flame import NotFound, Refused
from flameagent.flame.frontend import Frontend, Session
from flameagent.flame.objects import patiently
from flameagent.flame.resources import Resources
from flameagent.text import all_well_formed, well_formed

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

    def data(self) -> Mapping[str, bytes]:
        """The attachments that it has the bytes of, by their hash."""


def fork(
    connection: AgentConnection,
    session: Session,
    at: int | None = None,
    owner: str = "",
    session_id: str | None = None,
) -> Copy:
    """A new session of that owner that begins with the first `at` turns of this one, or with all that can be read.

    Its turns say where they were: they are not remembered of the owner of the copy. The session may be closed, and
    its conversation damaged; a turn that waits for an approval is left behind. With a `session_id` it is the session
    of that ID, and one that is there already stays as it is. Raises `UsageError` where there is no such turn,
    `DamagedError` where nothing can be read.
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
        brought = [from_session(session.id, block) for block in blocks]
        edit = copy_edit(end, brought, origin=session.id, title=conversation.title)
        named = attachments.named(blocks)
        gone: list[str] = []

        def bring(copy: AttachmentStore) -> None:
            for name in named:
                try:
                    copy.put(patiently(partial(log.attachments.read, name), connection.patience))
                except AttachmentGone:
                    gone.append(named[name].name)

        same = dict[str, Any](tools=conversation.tools, model=conversation.chosen_model)
        made = begin_session(connection, conversation.prompt, edit, bring, owner=owner, session_id=session_id, **same)
        if gone:
            left = f"{left} Gone are the data of {', '.join(dict.fromkeys(gone))}.".strip()
    return Copy(made.id, session.id, end.turn_count, left)


def from_session(session_id: str, block: Block) -> Block:
    """The same block, whose turn says that it was of that session."""
    turn = block.turn
    if turn is None or turn.source is not None:
        return block
    source = Source(session_id, turn.number, turn.at)
    return msgspec.structs.replace(block, turn=msgspec.structs.replace(turn, source=source))


def import_conversation(connection: AgentConnection, found: Importable, user: str) -> Copy:
    """A new session of that user with all of that conversation, which they have imported."""
    with translate_errors():
        connection.greet()
        connection.register()
        data = found.data()

        def bring(copy: AttachmentStore) -> None:
            for each in data.values():
                copy.put(each)

        edit = msgspec.structs.replace(found.edit(), by=user)
        made = begin_session(connection, found.prompt, edit, bring, owner=user)
    without = [each.name for each in attachments.named(edit.blocks).values() if each.sha256 not in data]
    left = f"The file has no data of {', '.join(dict.fromkeys(without))}." if without else ""
    return Copy(made.id, found.session_id, len(found.turns), left)


def begin_session(
    connection: AgentConnection,
    prompt: str,
    edit: EditBody | None = None,
    bring: Callable[[AttachmentStore], None] = lambda _: None,
    *,
    owner: str = "",
    session_id: str | None = None,
    messages: Sequence[Mapping[str, Any]] = (),
    tools: Sequence[str] = (),
    model: str = "",
) -> Session:
    """A new session under a fresh ID, whose conversation begins with this edit; `bring` stores what it names.

    Only its `owner` can ask in it; "": everybody can. `messages` are items before the first turn, `tools` and
    `model` as in `MyContext`. With a `session_id` the one that is there under it already, where there is one.
    """
    asked = resources(connection.environ)
    application = connection.application.name
    items = [json.dumps(all_well_formed(dict(each))) for each in messages]
    base = context.write(MyContext(well_formed(prompt), items or None, owner, list(tools) or None, model))
    while True:
        named = session_id or f"{application}-{''.join(random.choices(_ID_CHARACTERS, k=6))}"  # noqa: S311 - a name
        if session_id is not None:
            with suppress(NotFound):
                return _own(connection, connection.frontend.session(session_id))
        prefix = f"{application}/{named}"
        reference = patiently(partial(connection.cache.put, prefix, base), connection.patience)
        if edit is not None:
            log = ConversationLog(connection.cache, reference.key, guard=undisturbed)
            bring(log.attachments)
            log.append(edit)
        session = _created(connection.frontend, named, application, reference.encode(), asked)
        if session.common_data == reference.encode():  # otherwise the ID was taken, and the session is somebody's
            return session
        if session_id is not None:  # somebody was first
            connection.cache.delete(reference.key)
            return _own(connection, session)


def _created(
    frontend: Frontend, session_id: str, application: str, common_data: bytes, asked: Resources | None
) -> Session:
    """The session, made now or there before, by who asked for other resources, too."""
    try:
        return frontend.create_session(session_id, application, common_data, asked)
    except Refused as error:
        try:
            return frontend.session(session_id)
        except NotFound:
            raise error from None


def _own(connection: AgentConnection, session: Session) -> Session:
    if session.application != connection.application.name:
        raise UsageError(f"The session {session.id} is another application's.", session_id=session.id)
    return session
