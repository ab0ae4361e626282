"""A session's base: the `MyContext` that the client pickled, read without running what a pickle can run."""

from __future__ import annotations

import json
from typing import NamedTuple

from flameagent import wire
from flameagent.apis import MyContext
from flameagent.conversation.errors import DamagedError
from flameagent.conversation.records import Item


def write(context: MyContext) -> bytes:
    """The bytes that `flamepy.service.Session(app, ctx=context)` puts as the base."""
    return wire.write(context)


class Base(NamedTuple):
    """What a session begins with: its prompt, the items before the first turn, and its owner; "" is nobody.

    `tools` are those that whoever asks runs, as in `MyContext`, and `model` the one of its turns, "" the settings'.
    """

    prompt: str
    items: list[Item]
    owner: str
    tools: tuple[str, ...] = ()
    model: str = ""


def read(data: bytes | None) -> Base:
    """The base of a session.

    Raises `DamagedError` (record 0) for anything that is not a pickled `apis.MyContext` whose messages
    are JSON objects.
    """
    try:
        context = wire.read(data, MyContext)
    except ValueError as error:
        raise DamagedError(0, f"The session's context is not an apis.MyContext ({error}).") from error
    if not isinstance(context, MyContext) or not isinstance(context.prompt or "", str):
        raise DamagedError(0, "The session's context is not an apis.MyContext with a prompt.")
    if not isinstance(context.user or "", str):
        raise DamagedError(0, "The user of the session's context is not a text.")
    tools, model = context.tools or [], context.model or ""
    if not isinstance(tools, list | tuple) or not all(isinstance(each, str) for each in (*tools, model)):
        raise DamagedError(0, "The tools and the model of the session's context are not texts.")
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
    return Base(context.prompt or "", items, context.user or "", tuple(tools), model)
