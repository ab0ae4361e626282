"""What a request for a chat completion says, and how much of a history a session has."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flameagent.client.events import AttemptBegan, TextDelta
from flameagent.client.reply import Reply
from flameagent.flame.frontend import Session
from flameagent.server.agents import new_session_id
from flameagent.server.dialects.chat_completions import delete_left
from flameagent.server.dialects.chat_completions.answer import Telling, usage_of
from flameagent.server.dialects.chat_completions.chat import common
from flameagent.server.dialects.chat_completions.request import Asked, read
from flameagent.server.errors import RequestError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
FIELDS = ("model", "messages", "stream", "stream_options", "tools", "n", "modalities", "response_format", "metadata")
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool"]) | JSON},
    optional={"content": JSON | st.lists(st.fixed_dictionaries({"type": st.sampled_from(["text", "file"])}))},
)


def asked(*messages: dict[str, Any], **headers: str) -> Asked:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read({"model": "agent", "messages": list(messages)}, named)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def agent(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON) | st.fixed_dictionaries({"messages": st.lists(MESSAGE)}))
def test_whatever_comes_is_read_or_refused(body: dict[str, Any]) -> None:
    try:
        assert read({"model": "agent", **body}, {}).exchanges
    except RequestError as error:
        assert error.status == 400 and error.param


def test_questions_that_were_not_answered_go_with_the_next_one() -> None:
    found = asked(user("a"), agent(""), user("b"), agent("B"), user("c"))
    assert found.texts == ["a\n\nb", "c"]
    assert found.history == [{"role": "user", "content": "a\n\nb"}, {"role": "assistant", "content": "B"}]


def test_what_the_agent_said_first_and_tools_are_no_exchanges() -> None:
    system = {"role": "system", "content": "Be brief."}
    tool = {"role": "tool", "tool_call_id": "1", "content": "72"}
    found = asked(system, agent("Hello!"), user("a"), tool, agent("A"), user("b"))
    assert (found.prompt, found.before, found.texts) == ("Be brief.", "Hello!", ["a", "b"])
    assert [each["content"] for each in found.history] == ["Hello!", "a", "A"]


def test_a_placeholder_without_a_value_is_none() -> None:
    found = asked(user("a"), x_chat_id="{{LIBRECHAT_BODY_CONVERSATIONID}}", x_openwebui_chat_id="c")
    assert (found.chat, found.message, found.task) == ("c", "", "")
    assert read({"model": "m", "messages": [user("a")], "metadata": {"chat_id": "d"}}, {}).chat == "d"
    with pytest.raises(RequestError, match="x-chat-id has more than 500 characters"):
        asked(user("a"), x_chat_id="c" * 501)


def test_who_asks_is_never_in_the_body() -> None:
    assert read({"model": "m", "messages": [user("a")], "user": "ada", "metadata": {"user": "ada"}}, {}).chat == ""


@pytest.mark.parametrize(
    ("said", "texts", "count"),
    [
        (["a", "b"], ["a", "b", "c"], 2),
        (["a", "b"], ["a", "x"], 1),
        (["a "], ["a"], 1),
        (["### Task:\nUse this.\nplan\nWhat?"], ["What?"], 1),
        (["Use this.\nWhat?"], ["What?"], 0),
        ([], ["a"], 0),
    ],
)
def test_texts_are_compared_from_the_first_on(said: list[str], texts: list[str], count: int) -> None:
    assert common(said, texts) == count


def test_what_an_attempt_has_said_that_was_lost_is_told_apart() -> None:
    telling = Telling("t")
    events = [TextDelta("He"), AttemptBegan(), TextDelta("Hel"), TextDelta("lo")]
    told = "".join(delta["content"] for event in events for delta in telling.of(event))
    assert told == "He\n\n(The agent was lost and begins again.)\n\nHello"
    rest = telling.rest(Reply("s", 1, "t", "Hello!", added=[{"role": "assistant", "content": "Hello!"}]))
    assert rest == [{"content": "!"}]


def test_an_answer_that_no_message_says_is_told_at_the_end() -> None:
    assert Telling("t").rest(Reply("s", 1, "t", "Hello!")) == [{"content": "Hello!"}]


def test_usage_has_the_names_of_this_dialect() -> None:
    told = usage_of({"input_tokens": 5, "output_tokens": 2, "cached_tokens": 3, "reasoning_tokens": 1})
    assert told == {
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }


async def test_what_a_killed_server_has_left_is_deleted_and_nothing_else() -> None:
    deleted: list[str] = []
    left = new_session_id("agent", "-task")

    def session(name: str, created: int, application: str = "agent") -> Session:
        return Session(name, application, True, created, b"", 0, 0)

    owned, now = new_session_id("agent", "-task"), int(time.time() * 1000)
    sessions = [
        session(left, 1),
        session(owned, 1),
        session(new_session_id("agent", "-task"), now),
        session(new_session_id("agent"), 1),
        session("agent-my-task", 1),
        session(new_session_id("other", "-task"), 1, "other"),
    ]

    class Client:
        async def owner(self, name: str) -> str:
            return "ada" if name == owned else ""

        async def delete_session(self, name: str) -> None:
            deleted.append(name)

    class Served:
        connection = SimpleNamespace(frontend=SimpleNamespace(sessions=lambda: sessions))

        async def names(self) -> list[str]:
            return ["agent"]

        async def client(self, name: str) -> Client:
            return Client()

    await delete_left(Served())  # type: ignore[arg-type]
    assert deleted == [left]
