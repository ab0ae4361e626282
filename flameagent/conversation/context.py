"""A session's base: the `MyContext` that the client pickled, read without running what a pickle can run."""

from __future__ import annotations

import json
import pickle

from apis import MyContext
from flameagent.conversation.errors import DamagedError
from flameagent.conversation.records import Item
from flamewire.unpickling import unpickle


def write(context: MyContext) -> bytes:
    """The bytes that `flamepy.service.Session(app, ctx=context)` puts as the base."""
    return pickle.dumps(context, protocol=4)


def read(data: bytes | None) -> tuple[str, list[Item]]:
    """The prompt and the items before the first turn.

    Raises `DamagedError` (record 0) for anything that is not a pickled `apis.MyContext` whose messages
    are JSON objects.
    """
    try:
        context = unpickle(data, MyContext)
    except ValueError as error:
        raise DamagedError(0, f"The session's context is not an apis.MyContext ({error}).") from error
    if not isinstance(context, MyContext) or not isinstance(context.prompt or "", str):
        raise DamagedError(0, "The session's context is not an apis.MyContext with a prompt.")
    items: list[Item] = []
    if not isinstance(context.messages, list | tuple | None):
        raise DamagedError(0, "The messages of the session's context are not a list.")
    for number, message in enumerate(context.messages or [], 1):
        try:
            item = json.loads(message)
        except (TypeError, ValueError, RecursionError):
            item = None
        if not isinstance(item, dict):
            raise DamagedError(0, f"Message {number} of the session's context is not a JSON object.")
        items.append(item)
    return context.prompt or "", items
