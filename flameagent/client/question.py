"""The question as it is sent, with what goes with it; checked before anything is started for it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from flameagent.apis import Question
from flameagent.client.errors import UsageError
from flameagent.text import all_well_formed, well_formed
from flamewire.limits import MESSAGE_LIMIT

_ROOM = 64 * 1024  # of Flame's message, for what is not the question
_LONGEST_ID = 200


def make(
    question: str,
    *,
    model: str = "",
    user: str = "",
    context: Mapping[str, Any] | None = None,
    turn_id: str | None = None,
    attachments: list[dict[str, Any]] | None = None,
) -> Question:
    """A turn's Question, by its ID or under a new one; `attachments` as a Question names those of its session.

    Raises `UsageError` for what cannot be asked.
    """
    text = check(question)
    data = None if context is None else _json_object(context)
    if turn_id is not None and not (len(turn_id.strip()) > 0 and len(turn_id) <= _LONGEST_ID):
        raise UsageError(f"A turn's ID is a text of 1 to {_LONGEST_ID} characters.")
    if data is not None and len(text.encode()) + len(json.dumps(data)) > MESSAGE_LIMIT - _ROOM:
        raise UsageError("The message and its data are too long for Flame; nothing was asked.")
    name = str(uuid.uuid4()) if turn_id is None else well_formed(turn_id)
    return Question(text, name, model, context=data, user=name_of(user), attachments=attachments)


def name_of(user: str) -> str:
    """A user's name as it is kept: any text, without space around it."""
    return well_formed(" ".join(user.split()))


def _json_object(context: Mapping[str, Any]) -> dict[str, Any]:
    try:
        data = json.loads(json.dumps(dict(context), allow_nan=False)) if isinstance(context, Mapping) else None
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"The data of a question are a JSON object: {error}. Nothing was asked.") from error
    if not isinstance(data, dict):
        raise UsageError("The data of a question are a JSON object; nothing was asked.")
    return dict(all_well_formed(data))


def check(question: str) -> str:
    """The question as it is sent: text without lone surrogates, which no model's server takes.

    Raises `UsageError` for one that is empty or too long for Flame.
    """
    question = well_formed(question)
    if not question.strip():
        raise UsageError("The message is empty; nothing was asked.")
    if len(question) > MESSAGE_LIMIT - _ROOM or len(question.encode()) > MESSAGE_LIMIT - _ROOM:
        limit = (MESSAGE_LIMIT - _ROOM) / 1024 / 1024
        raise UsageError(f"The message is too long for Flame, which takes {limit:.1f} MB; nothing was asked.")
    return question
