"""Chat completions: programs that send the whole history, by the openai client and as Open WebUI and LibreChat ask.

The requests in tests/data/chat are written after the source of both programs.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.acceptance.program import Program, ended, eventually
from tests.acceptance.server.conftest import Served, serving, token_of
from tests.support.model_server import ModelServer, Step, error

AGENT = "openai-agent"
RECORDED = Path(__file__).parents[2] / "data" / "chat"


def said(*texts: str) -> list[Any]:
    """What user and agent say in turn."""
    return [{"role": "assistant" if number % 2 else "user", "content": text} for number, text in enumerate(texts)]


def headers_of(chat: str, message: str = "") -> dict[str, str]:
    return {"x-chat-id": chat, **({"x-message-id": message} if message else {})}


def ask(client: openai.OpenAI, chat: str, *texts: str, message: str = "", **more: Any) -> str:
    """The answer in a chat, and nothing else in the response that a program would stumble over."""
    asked = client.chat.completions.create(
        model=AGENT, messages=said(*texts), extra_headers=headers_of(chat, message), **more
    )
    assert asked.choices[0].finish_reason == "stop" and asked.choices[0].message.tool_calls is None
    return asked.choices[0].message.content or ""


def turns_of(program: Program, session: str) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = program("history", session, "--json").json["turns"]
    return turns


def session_of(client: openai.OpenAI, chat: str, *texts: str, message: str = "") -> str:
    raw = client.chat.completions.with_raw_response.create(
        model=AGENT, messages=said(*texts), extra_headers=headers_of(chat, message)
    )
    return str(raw.headers["x-flame-agent-session"])


@pytest.fixture
def client(served: Served, ada: str) -> Iterator[openai.OpenAI]:
    with served.openai(ada) as client:
        yield client


@pytest.fixture
def chat() -> str:
    return str(uuid.uuid4())


def test_a_history_without_a_chat_is_what_a_session_begins_with(
    client: openai.OpenAI, embedded: Program, model: ModelServer
) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=AGENT,
        messages=[{"role": "system", "content": "Be a parrot."}, *said("One.", "1", "Two.", "2", "Three.")],
    )
    asked = raw.parse()
    assert asked.choices[0].message.content == "answer 3: Three." and asked.model == AGENT
    assert asked.usage and asked.usage.total_tokens == asked.usage.prompt_tokens + asked.usage.completion_tokens > 0
    history = embedded("history", raw.headers["x-flame-agent-session"], "--json").json
    assert (history["owner"], history["prompt"], len(history["turns"])) == ("ada", "Be a parrot.", 1)
    assert [each["content"] for each in history["messages"]] == ["One.", "1", "Two.", "2"]


def test_a_chat_goes_on_in_its_session(client: openai.OpenAI, embedded: Program, chat: str) -> None:
    first = ask(client, chat, "Hi.")
    assert first == "answer 1: Hi."
    assert ask(client, chat, "Hi.", "an answer that came back changed", "And now?") == "answer 2: And now?"
    session = session_of(client, chat, "Hi.", first, "And now?")  # which asks nothing: it is the same again
    assert [turn["question"] for turn in turns_of(embedded, session)] == ["Hi.", "And now?"]
    assert chat not in session


def test_a_chat_of_another_user_is_another_chat(
    client: openai.OpenAI, served: Served, bob: str, embedded: Program, chat: str
) -> None:
    ask(client, chat, "Mine.")
    with served.openai(bob) as other:
        assert ask(other, chat, "Mine.", user="ada", metadata={"user": "ada"}) == "answer 1: Mine."
        theirs = session_of(other, chat, "Mine.")
    assert session_of(client, chat, "Mine.") != theirs
    assert embedded("history", theirs, "--json").json["owner"] == "bob"


def test_an_answer_comes_in_chunks_with_its_usage(client: openai.OpenAI, chat: str, model: ModelServer) -> None:
    model.steps.append(Step(text="One, two, three, four.", reasoning="Counting.", chunk_delay=0.3))
    with client.chat.completions.create(
        model=AGENT,
        messages=said("Count."),
        stream=True,
        stream_options={"include_usage": True},
        extra_headers=headers_of(chat),
    ) as stream:
        chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant" and len({chunk.id for chunk in chunks}) == 1
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(deltas) == "One, two, three, four." and len([delta for delta in deltas if delta]) > 1
    assert chunks[-2].choices[0].finish_reason == "stop" and not chunks[-1].choices and chunks[-1].usage
    thought = [chunk.choices[0].delta.model_dump().get("reasoning_content") for chunk in chunks if chunk.choices]
    assert "".join(filter(None, thought)) == "Counting."


def test_words_before_a_tool_is_called_are_a_paragraph_of_their_own(
    client: openai.OpenAI, chat: str, model: ModelServer
) -> None:
    from tests.support.model_server import Call

    model.steps += [Step(text="Let me look.", calls=(Call("recall", "{}"),)), Step(text="Found.")]
    with client.chat.completions.create(
        model=AGENT, messages=said("Look."), stream=True, extra_headers=headers_of(chat)
    ) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Let me look.\n\nFound."
    assert all(chunk.choices[0].delta.tool_calls is None for chunk in chunks)


def test_an_error_in_the_middle_is_raised_by_the_client_and_nothing_is_added(
    client: openai.OpenAI, embedded: Program, chat: str, model: ModelServer
) -> None:
    model.steps += [error(400, "scripted refusal")] * 2
    with (
        client.chat.completions.create(
            model=AGENT, messages=said("Hi."), stream=True, extra_headers=headers_of(chat)
        ) as stream,
        pytest.raises(openai.APIError, match="scripted refusal"),
    ):
        list(stream)
    with pytest.raises(openai.InternalServerError, match="scripted refusal") as raised:
        ask(client, chat, "Hi.")
    assert raised.value.response.headers["x-should-retry"] == "false"
    # Programs keep the question that failed in their history; it goes with the next one.
    messages = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": ""}, *said("Are you there?")]
    raw = client.chat.completions.with_raw_response.create(
        model=AGENT,
        messages=messages,
        extra_headers=headers_of(chat),  # type: ignore[arg-type]
    )
    assert raw.parse().choices[0].message.content == "answer 1: Hi.\n\nAre you there?"
    assert len(turns_of(embedded, raw.headers["x-flame-agent-session"])) == 1


@pytest.mark.parametrize("program", ["open-webui", "librechat"])
def test_what_a_chat_program_sends_becomes_the_session_that_its_user_sees(
    served: Served, ada: str, embedded: Program, model: ModelServer, program: str
) -> None:
    recorded = json.loads((RECORDED / f"{program}.json").read_text())
    session, before = "", ""
    with served.http(ada) as http:
        for each in recorded["requests"]:
            asked = len(model.bodies)
            response = http.post("/v1/chat/completions", json=each["body"], headers=each["headers"])
            assert response.status_code == 200, f"{each['what']}: {response.text}"
            assert content_of(response) == each["answer"], each["what"]
            turn = response.headers["x-flame-agent-turn"]
            if each.get("recorded", True):
                assert response.headers["x-flame-agent-session"] == (session := session or turn_session(response))
                assert ("again" not in each) or (turn != before and len(model.bodies) == asked + 1), each["what"]
                before = turn
            else:
                eventually(partial(is_gone, embedded, turn_session(response)))
    assert [turn["question"] for turn in turns_of(embedded, session)] == recorded["questions"]


def is_gone(program: Program, session: str) -> bool:
    return ended(program.start("history", session, "--json"), code=None).code == 4


def turn_session(response: httpx2.Response) -> str:
    return str(response.headers["x-flame-agent-session"])


def content_of(response: httpx2.Response) -> str:
    """The text of an answer, whole or in chunks."""
    if not response.headers["content-type"].startswith("text/event-stream"):
        return str(response.json()["choices"][0]["message"]["content"])
    events = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    assert events.pop() == "[DONE]"
    return "".join(
        choice["delta"].get("content") or "" for event in events for choice in json.loads(event)["choices"]
    )


def test_the_same_request_again_is_answered_again_and_asks_nothing(
    client: openai.OpenAI, model: ModelServer, chat: str
) -> None:
    first = ask(client, chat, "Once.", message="m1")
    count = len(model.bodies)
    assert ask(client, chat, "Once.", message="m1") == ask(client, chat, "Once.") == first
    with client.chat.completions.create(
        model=AGENT, messages=said("Once."), stream=True, extra_headers=headers_of(chat, "m1")
    ) as stream:
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == first
    assert len(model.bodies) == count


def test_a_request_whose_connection_breaks_is_found_again_while_it_runs(
    served: Served, ada: str, embedded: Program, model: ModelServer, chat: str
) -> None:
    model.steps.append(Step(text="It took a while.", delay=2))
    body = {"model": AGENT, "messages": said("Slowly."), "stream": True}
    with served.http(ada) as http:
        with http.stream("POST", "/v1/chat/completions", json=body, headers=headers_of(chat)) as response:
            assert response.status_code == 200
        again = http.post("/v1/chat/completions", json=body, headers=headers_of(chat))
    assert content_of(again) == "It took a while."
    assert again.headers["x-flame-agent-turn"] == response.headers["x-flame-agent-turn"]
    assert len(turns_of(embedded, turn_session(again))) == 1


def test_a_server_that_is_killed_in_the_middle_of_an_answer_loses_nothing(
    served: Served, ada: str, embedded: Program, model: ModelServer, chat: str
) -> None:
    model.steps.append(Step(text="One, two, three, four, five, six.", chunk_delay=0.5))
    body = {"model": AGENT, "messages": said("Count."), "stream": True}
    with (
        serving(embedded.having(AGENT_MEMORY="off")) as other,
        other.http(ada) as http,
        served.http(ada) as elsewhere,
    ):
        with http.stream("POST", "/v1/chat/completions", json=body, headers=headers_of(chat, "m1")) as response:
            lines = response.iter_lines()
            while '"content":"One' not in next(lines):
                pass
            other.process.kill()
        again = elsewhere.post("/v1/chat/completions", json=body, headers=headers_of(chat, "m1"))
    assert content_of(again) == "One, two, three, four, five, six."
    assert again.headers["x-flame-agent-turn"] == response.headers["x-flame-agent-turn"]
    assert len(turns_of(embedded, turn_session(again))) == 1 and not model.steps


def test_what_is_edited_while_a_turn_runs_goes_on_in_a_copy(
    served: Served, ada: str, embedded: Program, model: ModelServer, chat: str
) -> None:
    with served.openai(ada) as client, served.http(ada) as http:
        ask(client, chat, "One.")
        model.steps.append(Step(text="It took a while.", delay=3))
        body = {"model": AGENT, "messages": said("One.", "1", "Slowly."), "stream": True}
        with http.stream("POST", "/v1/chat/completions", json=body, headers=headers_of(chat)) as response:
            old = turn_session(response)  # type: ignore[arg-type]
        assert ask(client, chat, "One.", "1", "Quickly.") == "answer 2: Quickly."
        new = session_of(client, chat, "One.", "1", "Quickly.")
        assert ask(client, chat, "One.", "1", "Quickly.", "2", "On.") == "answer 3: On."
    assert [turn["question"] for turn in turns_of(embedded, new)] == ["One.", "Quickly.", "On."]
    eventually(lambda: [turn["question"] for turn in turns_of(embedded, old)] == ["One.", "Slowly."])


def test_a_history_that_is_not_in_the_session_begins_another(
    client: openai.OpenAI, embedded: Program, chat: str
) -> None:
    ask(client, chat, "One.")
    assert ask(client, chat, "Un.", "1", "Deux.", "2", "Trois.") == "answer 3: Trois."
    assert ask(client, chat, "Un.", "1", "Deux.", "2", "Trois.", "3", "Quatre.") == "answer 4: Quatre."
    session = session_of(client, chat, "Un.", "1", "Deux.", "2", "Trois.", "3", "Quatre.")
    assert [turn["question"] for turn in turns_of(embedded, session)] == ["Trois.", "Quatre."]


def test_images_go_with_the_question(client: openai.OpenAI, embedded: Program, model: ModelServer, chat: str) -> None:
    png = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\npicture").decode()
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": png}}]
    raw = client.chat.completions.with_raw_response.create(
        model=AGENT,
        messages=[{"role": "user", "content": parts}],  # type: ignore[list-item, misc]
        extra_headers=headers_of(chat),
    )
    (turn,) = turns_of(embedded, raw.headers["x-flame-agent-session"])
    assert [each["name"] for each in turn["attachments"]] == ["image-1.png"]
    assert png in json.dumps(model.bodies[-1])


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "model", "is the name of an agent"),
        ({"model": AGENT}, "messages", "is a list with one message"),
        ({"model": AGENT, "messages": said("a", "b")}, "messages", "ends with a message of the user"),
        (
            {"model": AGENT, "messages": [{"role": "user", "content": 7}]},
            "messages[0].content",
            "is a text or a list",
        ),
        ({"model": AGENT, "messages": [{"role": "user", "content": " "}]}, "messages[0].content", "is empty"),
        ({"model": AGENT, "messages": [[]]}, "messages[0].role", "is one of system"),
        ({"model": AGENT, "messages": said("a"), "n": 2}, "n", "is 1"),
        ({"model": AGENT, "messages": said("a"), "stream": "yes"}, "stream", "is true or false"),
        ({"model": AGENT, "messages": said("a"), "stream_options": [1]}, "stream_options", "is an object"),
        ({"model": AGENT, "messages": said("a"), "modalities": 7}, "modalities", "is a list without"),
        ({"model": AGENT, "messages": said("a"), "tools": [{"type": "function"}]}, "tools", "are not taken"),
        ({"model": AGENT, "messages": said("a"), "response_format": {}}, "response_format", "is text"),
        (
            {
                "model": AGENT,
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "http://10.0.0.1/a.png"}}],
                    }
                ],
            },
            "messages[0].content[0].image_url",
            "is given with its data",
        ),
    ],
)
def test_what_cannot_be_served_is_named(
    served: Served, ada: str, body: dict[str, Any], param: str, message: str
) -> None:
    with served.http(ada) as http:
        refused = http.post("/v1/chat/completions", json=body)
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == param and message in refused.json()["error"]["message"]


def test_an_agent_that_is_not_served_is_no_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="There is no model"):
        client.chat.completions.create(model="gpt-4o", messages=said("Hi."))


def test_a_call_that_waits_is_told_in_words(tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests.chaos.storm import checkout
    from tests.support.desk import AGENTS, desk

    agents = AGENTS.replace('open("effects"', 'open("refunds"')
    with ModelServer(script=desk, strict=True) as model:
        program = checkout(tmp_path_factory.mktemp("desk"), agents, model, LOGNAME="ada")
        try:
            with serving(program) as server, server.openai(token_of(program, "ada")) as client:
                told = ask(client, "c", "refund 7")
                assert "- refund 7" in told and "flame-agent approve openai-agent-" in told
                session = session_of(client, "c", "refund 7", message="another")
                assert ask(client, "c", "refund 7", told, "Is it done?") == told
                with client.chat.completions.create(
                    model=AGENT, messages=said("refund 7"), stream=True, extra_headers=headers_of("c")
                ) as stream:
                    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == told
                program("approve", session, "-q")
                # A question that a human has decided on is not asked once more.
                assert ask(client, "c", "refund 7", message="one more") == "done: refund 7"
                assert ask(client, "c", "refund 7", told, "refund 8").startswith("The agent waits")
                edited = ask(client, "c", "refund 7", told, "refund 9")
                assert "- refund 9" in edited and "- refund 8" not in edited
                assert program("history", session, "--json").json["waiting"]["question"] == "refund 8"
        finally:
            program("engine", "stop")
