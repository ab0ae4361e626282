"""The Responses dialect, driven by the official client: asked, followed, gone on with, copied and taken back."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.acceptance.program import eventually
from tests.acceptance.server.conftest import Served
from tests.support.model_server import ModelServer, Step, error

AGENT = "openai-agent"


def png() -> bytes:
    """A picture of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


def user(*parts: Any) -> dict[str, Any]:
    content = [{"type": "input_text", "text": each} if isinstance(each, str) else each for each in parts]
    return {"role": "user", "content": content}


def test_a_question_is_answered_and_the_response_stays(served: Served, ada: str) -> None:
    with served.openai(ada) as client:
        made = client.responses.create(model=AGENT, input="who are you?", metadata={"colour": "blue"})
        assert (made.status, made.output_text, made.model) == ("completed", "answer 1: who are you?", AGENT)
        assert made.usage is not None and made.usage.total_tokens == made.usage.input_tokens + 5
        assert made.conversation is not None and made.metadata == {"colour": "blue"}
        kept = client.responses.retrieve(made.id)
        assert (kept.output, kept.usage, kept.metadata) == (made.output, made.usage, made.metadata)
        (asked,) = client.responses.input_items.list(made.id).data
        assert asked.type == "message" and asked.content[0].text == "who are you?"  # type: ignore[union-attr]


def test_the_events_of_a_response_come_to_what_it_is(served: Served, ada: str, model: ModelServer) -> None:
    model.steps.append(Step(text="It rains in Berlin today.", reasoning="Let me think."))
    with served.openai(ada) as client:
        with client.responses.stream(model=AGENT, input="and in Berlin?") as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_response()
        assert final.output_text == "It rains in Berlin today."
        assert kinds[:3] == ["response.created", "response.in_progress", "response.output_item.added"]
        assert kinds.count("response.output_item.done") == len(final.output) == 2
        assert kinds[-1] == "response.completed"
        again = list(client.responses.retrieve(final.id, stream=True))
        assert [event.type for event in again] == kinds
        rest = list(client.responses.retrieve(final.id, stream=True, starting_after=6))
        assert rest == again[7:]
        with client.responses.stream(response_id=final.id, starting_after=5) as stream:
            assert [event.sequence_number for event in stream][:1] == [6]
            assert stream.get_final_response().output_text == final.output_text


def test_a_response_goes_on_and_an_older_one_is_gone_on_with_in_a_copy(served: Served, ada: str) -> None:
    with served.openai(ada) as client:
        first = client.responses.create(model=AGENT, input="one")
        second = client.responses.create(model=AGENT, input="two", previous_response_id=first.id)
        assert second.output_text == "answer 2: two" and second.conversation == first.conversation
        other = client.responses.create(model=AGENT, input="instead", previous_response_id=first.id)
        assert other.output_text == "answer 2: instead" and other.conversation != first.conversation
        third = client.responses.create(input="three", previous_response_id=second.id)
        assert third.output_text == "answer 3: three" and third.conversation == first.conversation
        assert client.responses.create(input="more", previous_response_id=other.id).output_text == "answer 3: more"
        assert first.conversation is not None
        fourth = client.responses.create(input="four", conversation=first.conversation.id)
        assert fourth.output_text == "answer 4: four"
        fifth = client.responses.create(input="five", conversation={"id": first.conversation.id})
        assert fifth.output_text == "answer 5: five"


def test_what_was_said_before_begins_a_session(served: Served, ada: str, model: ModelServer) -> None:
    before: list[Any] = [
        {"role": "developer", "content": "Be kind."},
        user("My name is Ada."),
        {
            "type": "message",
            "role": "assistant",
            "id": "msg_1",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hello Ada.", "annotations": []}],
        },
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "mcp_call",
            "id": "mcp_1",
            "server_label": "x",
            "name": "recall",
            "arguments": "{}",
            "output": "a: b",
        },
        user("I live in Bern."),
        user("Where do I live?"),
    ]
    with served.openai(ada) as client:
        made = client.responses.create(model=AGENT, input=before, instructions="You know people.")
        assert made.output_text == "answer 3: Where do I live?"
        sent = model.bodies[-1]["messages"]
        assert sent[0]["role"] == "system" and sent[0]["content"].startswith("You know people.")
        assert [each["content"] for each in sent if each["role"] == "tool"] == ["a: b"]
        assert made.instructions == "You know people."
        items = client.responses.input_items.list(made.id, order="asc", limit=100).data
        assert [item.type for item in items] == ["message"] * 3 + ["function_call", "function_call_output"] + (
            ["message"] * 2
        )
        more = client.responses.create(
            input=[user("One."), user("Two.")], previous_response_id=made.id, instructions="You know people."
        )
        assert more.output_text == "answer 4: One.\n\nTwo."
        with pytest.raises(openai.BadRequestError, match="instructions of a conversation are those"):
            client.responses.create(input="x", previous_response_id=made.id, instructions="Others.")
        with pytest.raises(openai.BadRequestError, match="takes messages of the user alone"):
            client.responses.create(
                input=[{"role": "assistant", "content": "x"}, user("y")], conversation=made.conversation.id
            )  # type: ignore[union-attr]


def test_images_and_files_go_with_the_question(served: Served, ada: str, model: ModelServer) -> None:
    image = "data:image/png;base64," + base64.b64encode(png()).decode()
    text = "data:text/plain;base64," + base64.b64encode(b"Bern is a city.").decode()
    with served.openai(ada) as client:
        parts = [{"type": "input_image", "image_url": image, "detail": "auto"}]
        parts += [{"type": "input_file", "filename": "bern.txt", "file_data": text}]
        made = client.responses.create(model=AGENT, input=[user("what is this?", *parts)])
        assert made.status == "completed"
        sent = json.dumps(model.bodies[-1]["messages"])
        assert image in sent and "Bern is a city." in sent
        (asked,) = client.responses.input_items.list(made.id, include=["message.input_image.image_url"]).data
        assert [part.type for part in asked.content] == ["input_text", "input_image", "input_file"]  # type: ignore[union-attr]
        assert asked.content[1].image_url == image  # type: ignore[union-attr]
        assert client.responses.create(model=AGENT, input=[user(parts[0])]).status == "completed"
        earlier = client.responses.create(model=AGENT, input=[user("look", parts[0]), user("what is it?")])
        assert earlier.status == "completed"
        for wrong in (
            {"type": "input_image", "image_url": "https://example.org/x.png"},
            {"type": "input_image", "file_id": "file_1"},
            {"type": "input_file", "filename": "x", "file_url": "https://example.org/x"},
            {"type": "input_file", "filename": "x", "file_data": "%"},
            {"type": "input_file", "filename": "x", "file_data": base64.b64encode(b"\0\1\2").decode()},
        ):
            with pytest.raises(openai.BadRequestError):
                client.responses.create(model=AGENT, input=[user("x", wrong)])
            with pytest.raises(openai.BadRequestError):
                client.responses.create(model=AGENT, input=[user("x", wrong), user("y", wrong)])


class Weather(BaseModel):
    city: str
    rain: bool


def test_structured_text_is_parsed_by_the_client(served: Served, ada: str, model: ModelServer) -> None:
    model.steps.extend([Step(text='{"city": "Bern", "rain": true}')] * 2)
    with served.openai(ada) as client:
        parsed = client.responses.parse(model=AGENT, input="weather?", text_format=Weather)
        assert parsed.output_parsed == Weather(city="Bern", rain=True)
        with client.responses.stream(model=AGENT, input="weather?", text_format=Weather) as stream:
            assert stream.get_final_response().output_parsed == Weather(city="Bern", rain=True)


def test_the_tokens_of_a_response_are_told(served: Served, ada: str, model: ModelServer) -> None:
    tokens = {
        "prompt_tokens": 100,
        "completion_tokens": 30,
        "total_tokens": 130,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 12},
    }
    head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunks = [
        head | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": None}]},
        head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        head | {"choices": [], "usage": tokens},
    ]
    body = "".join(f"data: {json.dumps(each)}\n\n" for each in chunks) + "data: [DONE]\n\n"
    model.steps.append(Step(body=body, content_type="text/event-stream"))
    with served.openai(ada) as client:
        used = client.responses.create(model=AGENT, input="count").usage
    assert used is not None
    assert (used.input_tokens, used.output_tokens, used.total_tokens) == (100, 30, 130)
    assert used.input_tokens_details.cached_tokens == 64 and used.output_tokens_details.reasoning_tokens == 12


def test_a_turn_that_failed_says_why_and_is_not_repeated(served: Served, ada: str, model: ModelServer) -> None:
    model.script = lambda _: error(400, "no such thing")
    with served.openai(ada, max_retries=2) as client:
        made = client.responses.create(model=AGENT, input="fail")
        assert made.status == "failed" and made.output == []
        assert made.error is not None and "no such thing" in made.error.message
        asked = len(model.bodies)
        kept = client.responses.retrieve(made.id)
        assert (kept.status, kept.error) == ("failed", made.error)
        with (
            pytest.raises(openai.APIError, match="no such thing"),
            client.responses.stream(model=AGENT, input="fail") as stream,
        ):
            stream.get_final_response()
        kinds = []
        with pytest.raises(openai.APIError, match="no such thing"):
            for event in client.responses.create(model=AGENT, input="fail", stream=True):
                kinds.append(event.type)
        assert kinds[-1] == "response.failed"
        assert len(model.bodies) == asked + 2
        model.script = lambda _: Step(text="well")
        assert client.responses.create(input="again", previous_response_id=made.id).output_text == "well"


def test_the_last_response_can_be_deleted_and_its_turn_with_it(served: Served, ada: str) -> None:
    with served.openai(ada) as client:
        first = client.responses.create(model=AGENT, input="one")
        second = client.responses.create(input="two", previous_response_id=first.id)
        with pytest.raises(openai.BadRequestError, match="only the last one"):
            client.responses.delete(first.id)
        client.responses.delete(second.id)
        for gone in (lambda: client.responses.retrieve(second.id), lambda: client.responses.delete(second.id)):
            with pytest.raises(openai.NotFoundError):
                gone()
        with pytest.raises(openai.NotFoundError):
            client.responses.create(input="x", previous_response_id=second.id)
        assert client.responses.create(input="2", previous_response_id=first.id).output_text == "answer 2: 2"


def test_a_response_is_worked_on_in_the_background_and_cancelled(
    served: Served, ada: str, model: ModelServer
) -> None:
    with served.openai(ada) as client:
        done = client.responses.create(model=AGENT, input="soon", background=True)
        assert done.status in ("queued", "in_progress", "completed") and done.background
        eventually(lambda: client.responses.retrieve(done.id).status == "completed")
        assert client.responses.cancel(done.id).status == "completed"

        model.steps.append(Step(text="late", delay=60))
        slow = client.responses.create(input="later", background=True, previous_response_id=done.id)
        eventually(lambda: client.responses.retrieve(slow.id).status == "in_progress")
        with pytest.raises(openai.ConflictError, match="at work"):
            client.responses.delete(slow.id)
        waits = client.responses.create(input="behind", background=True, previous_response_id=slow.id)
        assert client.responses.retrieve(waits.id).status == "queued"
        assert client.responses.cancel(slow.id).status == "cancelled"
        assert client.responses.retrieve(slow.id).status == "cancelled"
        eventually(lambda: client.responses.retrieve(waits.id).status == "completed")
        assert client.responses.retrieve(waits.id).output_text == "answer 2: behind"
        with pytest.raises(openai.APIError, match="cancelled"):
            list(client.responses.retrieve(slow.id, stream=True))
