"""A reply as a program prints it."""

from __future__ import annotations

from flameagent.client.approvals import Pending
from flameagent.client.reply import Reply
from flameagent.conversation import Call, Conversation


def test_a_printed_reply_is_the_answer_and_its_repr_is_short() -> None:
    reply = Reply("s-1", 3, "t-3", "It is sunny.", added=[{"role": "user"}] * 100, conversation=Conversation())
    assert str(reply) == f"{reply}" == "It is sunny."
    assert "It is sunny." in repr(reply) and len(repr(reply)) < 300


def test_a_printed_reply_that_waits_says_for_what() -> None:
    calls = (Call("c-1", "forget", '{"key": "city"}'), Call("c-2", "pay", "no JSON"))
    reply = Reply("s-1", 0, "t-3", "", pending=Pending("s-1", "t-3", "forget it", "r-1", calls))
    assert str(reply) == "Waits for a decision on: forget city; pay no JSON"
