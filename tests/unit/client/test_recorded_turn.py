"""What the record of a turn tells whoever asked: also what an agent of an older version left out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flameagent.apis import Answer, MyContext, Question
from flameagent.client.recorded_turn import RecordedTurn
from flameagent.conversation import ConversationLog, TurnBody, context
from flameagent.flame.frontend import Session
from tests.support.memory_cache import MemoryCache


@pytest.mark.parametrize(
    ("given", "recorded", "note"),
    [
        ({"tenant": 7}, {}, "The agent did not take the data of the question: it runs an older version."),
        ({"tenant": 7}, {"tenant": 7}, ""),
        (None, {}, ""),
        ({}, {}, ""),
    ],
)
def test_data_that_an_older_agent_left_out_are_told(
    given: dict[str, Any] | None, recorded: dict[str, Any], note: str
) -> None:
    cache = MemoryCache()
    key = cache.put("app/s", context.write(MyContext())).key
    ConversationLog(cache, key).append(TurnBody("t1", "who?", [], {"answer": "you"}, context=recorded))
    connection: Any = SimpleNamespace(log=lambda session: ConversationLog(cache, key))
    session = Session("s", "app", True, 0, None, 0, 0)
    reply = RecordedTurn(connection, session, Question("who?", "t1", context=given)).reply(Answer("you", 1, "t1"))
    assert (reply.answer, reply.note) == ("you", note)
