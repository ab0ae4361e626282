"""Attachments on their way to a model: a question's become parts of its message, references become data.

Promises that a run, and all that is kept of it, holds references alone: the data are put in their places in what one
request sends, for models of ours and those that an agent brings.
"""

from __future__ import annotations

import asyncio
from typing import Any

from flameagent.apis import Question
from flameagent.conversation import AttachmentError, Item, attachments
from flameagent.conversation.attachments import Reference
from flameagent.service.turn import RunningTurn, running


async def question_input(question: Question, turn: RunningTurn | None) -> str | list[Item]:
    """Return what a run begins with: the question, or with attachments a message, which the turn then names.

    Raises `AttachmentError` where one is not there.
    """
    if not question.attachments:
        return question.question
    if turn is None:
        raise AttachmentError("A session without context keeps no attachments: begin one with context.")
    try:
        attached = attachments.read_list(question.attachments)
    except ValueError as error:
        raise AttachmentError(f"The question's attachments cannot be read: {error}. Nothing was added.") from error
    await turn.session.attach(attached)
    parts: list[Item] = [{"type": "input_text", "text": question.question}, *map(attachments.part, attached)]
    return [{"role": "user", "content": parts}]


async def with_data(items: Any) -> Any:
    """Return the items of a request with data in the place of references; themselves where nothing refers."""
    turn = running.get()
    if turn is None or isinstance(items, str) or not turn.session.names_attachments:
        return items
    session, gone = turn.session, list[str]()

    def read(reference: Reference) -> bytes | None:
        data = session.attached_data(reference)
        if data is None:
            gone.append(reference.name)
        return data

    items = await asyncio.to_thread(attachments.whole, items, read)
    for name in gone:
        turn.say(f"The model was not shown {name}, whose data are gone.")
    return items
