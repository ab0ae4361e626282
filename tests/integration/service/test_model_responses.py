"""The Responses API: the same guards, and a conversation that goes on whichever API its items came from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from agents import ModelSettings

from flameagent.model_choice import ModelAnswerError
from flameagent.service.models import build
from flameagent.service.models.chat import ChatModel
from flameagent.service.models.explain import explain
from flameagent.service.models.responses import ResponsesModel
from tests.integration.service import test_model_answers as answers
from tests.integration.service.test_model_answers import choice_of, items_of
from tests.support.model_server import Call, ModelServer, Step, error

run = partial(answers.run, api="responses")
failure = partial(answers.failure, api="responses")

ADDS = Step(calls=(Call("add", '{"a": 1, "b": 2}', "c1"), Call("add", '{"a": 3, "b": 4}', "c2")))


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(strict=True) as server:
        yield server


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_the_settings_decide_the_api() -> None:
    assert isinstance(build.build(choice_of("http://127.0.0.1:1/v1", api="responses")), ResponsesModel)
    assert isinstance(build.build(choice_of("http://127.0.0.1:1/v1")), ChatModel)


async def test_an_answer_comes_back_with_its_usage(server: ModelServer, stream: bool) -> None:
    result = await run(server.url, "how are you?", stream=stream)
    assert result.final_output == "answer 1: how are you?"
    usage = result.context_wrapper.usage
    assert (usage.requests, usage.input_tokens, usage.output_tokens) == (1, 5, 5)
    (request,) = server.requests
    assert (request.path, request.json["instructions"]) == ("/v1/responses", "be brief")
    assert request.json["store"] is False


async def test_calls_are_answered_and_replayed(server: ModelServer, stream: bool) -> None:
    server.steps.extend([ADDS, Step(text="done")])
    result = await run(server.url, stream=stream)
    assert result.final_output == "done"
    outputs = [item["output"] for item in server.bodies[1]["input"] if item.get("type") == "function_call_output"]
    assert outputs == ["3", "7"]
    again = await run(server.url, [*items_of(result), {"role": "user", "content": "more"}], stream=stream)
    assert again.final_output == "answer 2: more"


@pytest.mark.parametrize("call_id", ["call_0", ""])
async def test_call_ids_are_unique_in_a_conversation(server: ModelServer, stream: bool, call_id: str) -> None:
    calls = (Call("add", '{"a": 1, "b": 1}', call_id), Call("add", '{"a": 2, "b": 2}', call_id))
    server.steps.extend([Step(calls=calls), Step(calls=calls), Step(text="first")])
    first = await run(server.url, stream=stream)
    ids = [item["call_id"] for item in items_of(first) if item.get("type") == "function_call"]
    assert len(ids) == len(set(ids)) == 4
    assert all(ids)


@pytest.mark.parametrize("store", [None, True])
async def test_reasoning_is_kept_and_replayed_encrypted(
    server: ModelServer, stream: bool, store: bool | None
) -> None:
    """Between a call and its output the model goes on thinking where it was; no ID has to be known for that."""
    server.steps.extend([Step(calls=ADDS.calls, reasoning="I add"), Step(text="done", reasoning="I say")])
    result = await run(server.url, stream=stream, settings=ModelSettings(store=store))
    assert [body["store"] for body in server.bodies] == [bool(store)] * 2
    reasoning = [item for item in server.bodies[1]["input"] if item.get("type") == "reasoning"]
    assert [item["encrypted_content"] for item in reasoning] == ["a:I add"]
    assert not [item["id"] for item in server.bodies[1]["input"] if "id" in item]
    kept = [item["id"] for item in items_of(result) if item.get("type") == "reasoning"]
    assert kept == ["rs_1", "rs_2"]  # the conversation has the items as they came


async def test_reasoning_of_another_account_is_left_out(server: ModelServer, stream: bool) -> None:
    server.steps.append(Step(text="done", reasoning="secret"))
    first = await run(server.url, stream=stream)
    server.account = "b"
    result = await run(server.url, [*items_of(first), {"role": "user", "content": "more"}], stream=stream)
    assert result.final_output == "answer 2: more"
    assert "reasoning" not in [item.get("type") for item in server.bodies[-1]["input"]]


async def test_a_model_that_does_not_reason_is_asked_for_it_once(server: ModelServer, stream: bool) -> None:
    server.reasons = False
    server.steps.extend([ADDS, Step(text="done")])
    assert (await run(server.url, stream=stream)).final_output == "done"
    assert [bool(body["include"]) for body in server.bodies] == [True, False, False]


async def test_another_bad_request_is_not_tried_again(server: ModelServer, stream: bool) -> None:
    server.steps.append(error(400, "no such tool"))
    assert "refused the request (400): no such tool" in await failure(server.url, stream=stream)
    assert len(server.bodies) == 1


@pytest.mark.parametrize("order", ["chat to responses", "responses to chat"])
async def test_a_conversation_goes_on_on_the_other_api(server: ModelServer, stream: bool, order: str) -> None:
    first, _, second = order.split()
    server.fields = {"reasoning_content"}
    server.steps.extend([Step(calls=ADDS.calls, reasoning="I add"), Step(text="done", reasoning="I say")])
    began = await answers.run(server.url, stream=stream, api=first)
    items = [*items_of(began), {"role": "user", "content": "more"}]
    server.steps.extend([Step(calls=ADDS.calls, reasoning="again"), Step(text="more done")])
    went_on = await answers.run(server.url, items, stream=stream, api=second)
    assert went_on.final_output == "more done"
    items = [*items_of(went_on), {"role": "user", "content": "and back"}]
    back = await answers.run(server.url, items, stream=stream, api=first)
    assert back.final_output == "answer 3: and back"
    paths = [request.path.removeprefix("/v1/").partition("/")[0] for request in server.requests]
    assert paths == [first] * 2 + [second] * 2 + [first]
    told = server.bodies[-1].get("messages") or server.bodies[-1]["input"]
    assert "done" in json.dumps(told)
    assert json.dumps(told).count('"3"') == 2  # the outputs of both


async def test_what_only_the_responses_api_knows_is_left_out_on_chat_completions(
    server: ModelServer, stream: bool
) -> None:
    items = [
        {"role": "user", "content": "what is new?"},
        {
            "type": "web_search_call",
            "id": "ws_1",
            "status": "completed",
            "action": {"type": "search", "query": "new"},
        },
        {"type": "message", "role": "assistant", "id": "msg_1", "content": [{"type": "output_text", "text": "much"}]},
        {"role": "user", "content": "more"},
    ]
    result = await answers.run(server.url, items, stream=stream)
    assert result.final_output == "answer 2: more"


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (Step(), "answered with nothing"),
        (Step(text="  \n"), "answered with nothing"),
        (Step(reasoning="hm"), "answered with nothing"),
        (Step(choices=False), "answered with nothing"),
        (Step(text="half of", finish="length"), "cut off at its length limit"),
        (Step(calls=(Call("add", '{"a":'),), finish="length"), "cut off at its length limit"),
        (Step(text="some", finish="content_filter"), "content filter withheld"),
        (Step(text="out of order", finish="failed"), "answered with an error: out of order"),
        (Step(refusal="I will not."), "refused to answer: I will not."),
        (Step(body="<html>sign in</html>", content_type="text/html"), "AGENT_API=chat"),
        (Step(body="<html>sign in</html>"), "AGENT_API=chat"),
        (Step(body="[1, 2]"), "AGENT_API=chat"),
        (Step(body='{"hello": "world"}'), "AGENT_API=chat"),
        (Step(body="null"), "AGENT_API=chat"),
        (Step(body=""), "AGENT_API=chat"),
        (Step(body="data: {not json\n\n", content_type="text/event-stream"), "AGENT_API=chat"),
        (Step(body="data: 5\n\n", content_type="text/event-stream"), "AGENT_API=chat"),
        (Step(body='data: {"hello": "world"}\n\n', content_type="text/event-stream"), "AGENT_API=chat"),
    ],
)
async def test_an_answer_that_is_none_is_an_error(
    server: ModelServer, stream: bool, step: Step, sentence: str
) -> None:
    server.steps.append(step)
    with pytest.raises(ModelAnswerError) as raised:
        await run(server.url, stream=stream)
    assert sentence in explain(raised.value)


@pytest.mark.parametrize(
    "item",
    [
        "text",
        {"type": 5},
        {"type": "message", "content": 5},
        {"type": "message", "content": [{"type": "output_text", "text": 5}]},
        {"type": "function_call", "call_id": "c", "name": "add"},
        {"type": "function_call", "call_id": "c", "arguments": "{}"},
        {"type": "function_call", "call_id": "c", "name": "add", "arguments": 5},
    ],
)
async def test_an_item_of_another_shape_is_an_error(server: ModelServer, stream: bool, item: object) -> None:
    answer = {"object": "response", "status": "completed", "output": [item]}
    event = {"type": "response.completed", "response": answer}
    sse = Step(body=f"event: response.completed\ndata: {json.dumps(event)}\n\n", content_type="text/event-stream")
    server.steps.append(sse if stream else Step(body=json.dumps(answer)))
    with pytest.raises(ModelAnswerError, match="AGENT_API=chat"):
        await run(server.url, stream=stream)


async def test_a_sparse_answer_is_an_answer(server: ModelServer, stream: bool) -> None:
    """Small servers leave out what nobody needs, and repeat nothing at the end of a stream."""
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hello"}]}
    events = [
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"output": [], "status": "completed"}},
    ]
    sse = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    whole = {"output": [item]}
    step = Step(body=sse, content_type="text/event-stream") if stream else Step(body=json.dumps(whole))
    server.steps.append(step)
    assert (await run(server.url, stream=stream)).final_output == "hello"


@pytest.mark.parametrize("how", ["length", "chunked", "silent"])
async def test_an_answer_that_breaks_off_is_an_error(server: ModelServer, stream: bool, how: Any) -> None:
    server.steps.append(Step(text="a long answer that never comes to its end", broken=how))
    if how == "silent" and stream:
        server.steps[0] = Step(body="", broken="silent")
    with pytest.raises(ModelAnswerError, match="broke off in the middle"):
        await run(server.url, stream=stream)


async def test_a_stream_leaves_its_connection_for_the_next(server: ModelServer) -> None:
    server.steps.extend([ADDS, ADDS, Step(text="done")])
    assert (await run(server.url, stream=True)).final_output == "done"
    assert len({request.client for request in server.requests}) == 1


async def test_an_error_in_a_stream_is_said(server: ModelServer) -> None:
    event = {"type": "error", "code": "server_error", "message": "overloaded", "param": None}
    server.steps.append(Step(body=f"event: error\ndata: {json.dumps(event)}\n\n", content_type="text/event-stream"))
    assert "overloaded" in await failure(server.url, stream=True)


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (error(401), "refused the API key"),
        (error(404), "check AGENT_API, AGENT_MODEL and OPENAI_BASE_URL"),
        (error(429, Retry_After="7"), "ask again in 7 s"),
        (error(500), "has a problem of its own (500)"),
        (error(400, "too long", "context_length_exceeded"), "set AGENT_HISTORY lower"),
    ],
)
async def test_an_error_status_says_what_to_do(server: ModelServer, stream: bool, step: Step, sentence: str) -> None:
    server.steps.append(step)
    assert sentence in await failure(server.url, stream=stream)


async def test_a_server_that_does_not_answer_in_time_is_given_up(server: ModelServer, stream: bool) -> None:
    server.steps.append(Step(text="late", delay=60))
    assert "did not answer in time" in await failure(server.url, stream=stream, timeout=0.3)


async def test_a_stream_that_stops_without_ending_is_given_up(server: ModelServer) -> None:
    server.steps.append(Step(text="late", chunk_delay=60))
    assert "stopped in the middle" in await failure(server.url, stream=True, timeout=2.0)


async def test_a_busy_server_is_asked_again(server: ModelServer, stream: bool) -> None:
    server.steps.extend([error(429, Retry_After="0.01"), error(500, Retry_After="0.01")])
    assert (await run(server.url, stream=stream, retries=2)).final_output == "answer 1: hi"
