"""Every bad answer of a model's server, over real HTTP and through the SDK's Runner."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from agents import Agent, ModelSettings, Runner, function_tool
from agents.exceptions import MaxTurnsExceeded
from agents.result import RunResultBase
from openai import Timeout

from flameagent.model_choice import Choice, ModelAnswerError
from flameagent.service.models import build
from flameagent.service.models.chat import ChatModel
from flameagent.service.models.explain import explain
from flameagent.service.models.openai_client import connect
from flameagent.service.models.responses import ResponsesModel
from tests.support.model_server import Call, ModelServer, Step, error

KEY = "sk-secret-0123456789"

Conversation = list[Any]


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(strict=True) as server:
        yield server


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def choice_of(url: str, **changes: Any) -> Choice:
    fields = {"name": "m", "provider": "compatible", "base_url": url, "api_key": KEY}
    return Choice(**{**fields, "source": "OPENAI_API_KEY", "timeout": 20.0, **changes})


@function_tool
def add(a: int, b: int) -> int:
    return a + b


async def run(
    url: str,
    question: str | Conversation = "hi",
    *,
    stream: bool,
    max_turns: int = 10,
    retries: int = 0,
    settings: ModelSettings | None = None,
    **changes: Any,
) -> RunResultBase:
    """Run a question; retries wait, so that only the tests about them make some."""
    build.prepare()
    choice = choice_of(url, **changes)
    chosen = (ResponsesModel if choice.api == "responses" else ChatModel)(choice, retries)
    agent = Agent(
        name="a", instructions="be brief", model=chosen, tools=[add], model_settings=settings or ModelSettings()
    )
    if not stream:
        return await Runner.run(agent, question, max_turns=max_turns)
    streamed = Runner.run_streamed(agent, question, max_turns=max_turns)
    async for _ in streamed.stream_events():
        pass
    return streamed


def items_of(result: RunResultBase) -> Conversation:
    return list(result.to_input_list())


async def failure(url: str, *, stream: bool, retries: int = 0, **changes: Any) -> str:
    """Run a question that fails, and return what the user would read."""
    with pytest.raises(Exception) as raised:
        await run(url, stream=stream, retries=retries, **changes)
    sentence = explain(raised.value, choice_of(url, **changes))
    assert KEY not in sentence
    assert "\n" not in sentence
    return sentence


async def test_an_answer_comes_back_with_its_usage(server: ModelServer, stream: bool) -> None:
    result = await run(server.url, "how are you?", stream=stream)
    assert result.final_output == "answer 1: how are you?"
    usage = result.context_wrapper.usage
    assert (usage.requests, usage.input_tokens, usage.output_tokens) == (1, 5, 5)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert [message["role"] for message in server.bodies[0]["messages"]] == ["system", "user"]


async def test_several_calls_at_once_are_answered(server: ModelServer, stream: bool) -> None:
    calls = (Call("add", '{"a": 1, "b": 2}', "c1"), Call("add", '{"a": 3, "b": 4}', "c2"))
    server.steps.extend([Step(calls=calls), Step(text="done")])
    result = await run(server.url, stream=stream)
    assert result.final_output == "done"
    outputs = [m["content"] for m in server.bodies[1]["messages"] if m["role"] == "tool"]
    assert outputs == ["3", "7"]


@pytest.mark.parametrize("index", [0, None])
async def test_calls_that_a_stream_does_not_tell_apart_are_run(server: ModelServer, index: int | None) -> None:
    calls = [
        {"index": index, "id": f"c{a}", "function": {"name": "add", "arguments": json.dumps({"a": a, "b": a})}}
        for a in (1, 2)
    ]
    chunks = [{"choices": [{"delta": {"tool_calls": [call]}}]} for call in calls]
    chunks.append({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    server.steps.extend([Step(body=body, content_type="text/event-stream"), Step(text="done")])
    assert (await run(server.url, stream=True)).final_output == "done"
    outputs = [m["content"] for m in server.bodies[1]["messages"] if m["role"] == "tool"]
    assert outputs == ["2", "4"]


@pytest.mark.parametrize("call_id", ["call_0", ""])
async def test_call_ids_are_unique_in_a_conversation(server: ModelServer, stream: bool, call_id: str) -> None:
    """A server that gives every call the same ID, or none, is refused by one that looks."""
    calls = (Call("add", '{"a": 1, "b": 1}', call_id), Call("add", '{"a": 2, "b": 2}', call_id))
    server.steps.extend([Step(calls=calls), Step(calls=calls), Step(text="first")])
    first = await run(server.url, stream=stream)
    server.steps.extend([Step(calls=calls), Step(text="second")])
    items: Conversation = [*items_of(first), {"role": "user", "content": "again"}]
    second = await run(server.url, items, stream=stream)
    assert second.final_output == "second"
    ids = [item["call_id"] for item in items_of(second) if item.get("type") == "function_call"]
    assert len(ids) == len(set(ids)) == 6
    assert all(ids)


async def test_a_call_id_that_is_new_stays(server: ModelServer, stream: bool) -> None:
    server.steps.extend([Step(calls=(Call("add", '{"a": 1, "b": 1}', "mine"),)), Step(text="done")])
    result = await run(server.url, stream=stream)
    assert [item["call_id"] for item in items_of(result) if "call_id" in item] == ["mine", "mine"]


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (Step(text="", usage=False), "answered with nothing"),
        (Step(text=" \n"), "answered with nothing"),
        (Step(text=None), "answered with nothing"),
        (Step(text="half of", finish="length"), "cut off at its length limit"),
        (Step(finish="length"), "cut off at its length limit"),
        (Step(calls=(Call("add", '{"a":'),), finish="length"), "cut off at its length limit"),
        (Step(text="some", finish="content_filter"), "content filter withheld"),
        (Step(finish="content_filter"), "content filter withheld"),
        (Step(refusal="I will not."), "refused to answer: I will not."),
        (Step(body="<html>sign in</html>", content_type="text/html"), "ends in /v1"),
        (Step(body="<html>sign in</html>"), "ends in /v1"),
        (Step(body="[1, 2]"), "ends in /v1"),
        (Step(body='{"hello": "world"}'), "ends in /v1"),
        (Step(body='"text"'), "ends in /v1"),
        (Step(body="null"), "ends in /v1"),
        (Step(body=""), "ends in /v1"),
        (Step(body="data: {not json\n\n", content_type="text/event-stream"), "ends in /v1"),
        (Step(body="data: 5\n\n", content_type="text/event-stream"), "ends in /v1"),
        (Step(body='data: {"hello": "world"}\n\n', content_type="text/event-stream"), "ends in /v1"),
        (Step(body="data: [DONE]\n\n", content_type="text/event-stream"), "ends in /v1"),
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
    "message",
    [
        "text",
        {"content": 5},
        {"content": [5]},
        {"tool_calls": "add"},
        {"tool_calls": [5]},
        {"tool_calls": [{"id": "c", "type": "function"}]},
        {"tool_calls": [{"id": "c", "function": {"name": "add", "arguments": 5}}]},
    ],
)
async def test_a_message_of_another_shape_is_an_error(server: ModelServer, stream: bool, message: object) -> None:
    choice = {"index": 0, "message": message, "delta": message, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice]})
    streamed = Step(body=f"data: {body}\n\ndata: [DONE]\n\n", content_type="text/event-stream")
    server.steps.append(streamed if stream else Step(body=body))
    with pytest.raises(
        ModelAnswerError, match=r"(another shape|without a name)\. Ask again, or choose another model"
    ):
        await run(server.url, stream=stream)


async def test_a_sparse_answer_is_an_answer(server: ModelServer, stream: bool) -> None:
    """Small servers leave out what nobody needs, and count nothing."""
    whole = {"choices": [{"message": {"content": "hello"}}], "usage": {}}
    chunk = {"choices": [{"delta": {"content": "hello"}, "finish_reason": "stop"}], "usage": {}}
    body = f"data: {json.dumps(chunk)}\n\n" if stream else json.dumps(whole)
    server.steps.append(Step(body=body, content_type="text/event-stream" if stream else "application/json"))
    assert (await run(server.url, stream=stream)).final_output == "hello"


async def test_an_answer_without_choices_is_an_error(server: ModelServer) -> None:
    server.steps.append(Step(choices=False))
    assert "without a choice" in await failure(server.url, stream=False)


async def test_a_stream_without_choices_is_an_error(server: ModelServer) -> None:
    server.steps.append(Step(text="hello", choices=False))
    assert "a stream without an answer" in await failure(server.url, stream=True)


async def test_an_error_that_comes_as_a_good_answer_is_said(server: ModelServer, stream: bool) -> None:
    body = json.dumps({"error": {"message": f"overloaded, {KEY}"}})
    sse = Step(body=f"data: {body}\n\n", content_type="text/event-stream")
    server.steps.append(sse if stream else Step(body=body))
    assert "overloaded" in await failure(server.url, stream=stream)


@pytest.mark.parametrize("how", ["length", "chunked", "silent"])
async def test_an_answer_that_breaks_off_is_an_error(server: ModelServer, stream: bool, how: Any) -> None:
    server.steps.append(Step(text="a long answer that never comes to its end", broken=how))
    if how == "silent" and stream:
        server.steps[0] = Step(body="", broken="silent")
    with pytest.raises(ModelAnswerError, match="broke off in the middle"):
        await run(server.url, stream=stream)


async def test_a_call_that_breaks_off_in_a_stream_is_not_run(server: ModelServer) -> None:
    server.steps.append(Step(calls=(Call("add", '{"a": 1, "b": 2}'),), broken="length"))
    with pytest.raises(ModelAnswerError, match="broke off in the middle"):
        await run(server.url, stream=True)
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("step", "changes", "sentence"),
    [
        (error(401, f"Incorrect API key provided: {KEY}"), {}, "refused the API key: export a valid OPENAI_"),
        (error(401), {"provider": "deepseek"}, "export a valid DEEPSEEK_API_KEY"),
        (error(401), {"api_key": ""}, "wants an API key"),
        (error(402), {"provider": "deepseek"}, "The account behind DEEPSEEK_API_KEY has no credit left"),
        (error(403, f"key {KEY} may not"), {}, "does not allow this (403)"),
        (error(404), {}, "The model m was not found"),
        (error(429, Retry_After="7"), {}, "ask again in 7 s"),
        (error(429), {}, "ask again in a minute"),
        (error(429, "no", "insufficient_quota"), {}, "has no quota left"),
        (error(500), {}, "has a problem of its own (500)"),
        (Step(status=502, body="<html>bad gateway</html>"), {}, "has a problem of its own (502)"),
        (error(400, "too long", "context_length_exceeded"), {}, "set AGENT_HISTORY lower"),
        (error(400, "maximum context length is 8"), {}, "set AGENT_HISTORY lower"),
        (error(400, f"bad {KEY} thing"), {}, "refused the request (400): bad [key] thing"),
    ],
)
async def test_an_error_status_says_what_to_do(
    server: ModelServer, stream: bool, step: Step, changes: dict[str, Any], sentence: str
) -> None:
    server.steps.append(step)
    assert sentence in await failure(server.url, stream=stream, **changes)


async def test_a_server_that_is_not_there_is_named(stream: bool) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        sentence = await failure(f"{address}/v1", stream=stream)
    assert f"There is no connection to the model's server at {address} " in sentence
    assert "OPENAI_BASE_URL" in sentence


async def test_a_password_in_the_base_url_is_not_shown(stream: bool) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://user:pass-word@127.0.0.1:{unused.getsockname()[1]}/v1"
        assert "pass-word" not in await failure(url, stream=stream)


async def test_a_server_that_does_not_answer_in_time_is_given_up(server: ModelServer, stream: bool) -> None:
    server.steps.append(Step(text="late", delay=60))
    assert "did not answer in time" in await failure(server.url, stream=stream, timeout=0.3)


async def test_a_stream_that_stops_without_ending_is_given_up(server: ModelServer) -> None:
    steps = iter([Step(text="late", chunk_delay=60)])
    server.script = lambda _: next(steps)
    assert "stopped in the middle" in await failure(server.url, stream=True, timeout=2.0)


async def test_a_busy_server_is_asked_again(server: ModelServer, stream: bool) -> None:
    server.steps.extend([error(429, Retry_After="0.01"), error(500, Retry_After="0.01")])
    assert (await run(server.url, stream=stream, retries=2)).final_output == "answer 1: hi"
    assert len(server.bodies) == 3


async def test_retries_are_bounded(server: ModelServer, stream: bool) -> None:
    server.script = lambda _: error(500, Retry_After="0.01")
    assert "(500)" in await failure(server.url, stream=stream, retries=2)
    assert len(server.bodies) == 3


async def test_a_tool_that_does_not_exist_is_said(server: ModelServer, stream: bool) -> None:
    server.steps.append(Step(calls=(Call("subtract"),)))
    assert "subtract" in await failure(server.url, stream=stream)


async def test_arguments_that_are_no_json_are_said_to_the_model(server: ModelServer, stream: bool) -> None:
    server.steps.extend([Step(calls=(Call("add", '{"a":'),)), Step(text="sorry")])
    assert (await run(server.url, stream=stream)).final_output == "sorry"
    told = server.bodies[1]["messages"][-1]
    assert (told["role"], "error" in told["content"]) == ("tool", True)


async def test_a_model_that_never_stops_calling_is_stopped(server: ModelServer, stream: bool) -> None:
    server.script = lambda _: Step(calls=(Call("add", '{"a": 1, "b": 1}'),))
    with pytest.raises(MaxTurnsExceeded) as raised:
        await run(server.url, stream=stream, max_turns=2)
    assert explain(raised.value).startswith("The agent did not come to an answer: Max turns (2)")


def test_the_same_choice_is_the_same_model() -> None:
    choice = choice_of("http://127.0.0.1:1/v1")
    assert build.build(choice) is build.build(choice_of("http://127.0.0.1:1/v1"))
    assert build.build(choice) is not build.build(choice_of("http://127.0.0.1:2/v1"))


def test_a_client_is_bounded_by_the_choice() -> None:
    client = connect(choice_of("http://127.0.0.1:1/v1", timeout=30.0), retries=2)
    assert client.timeout == Timeout(30, connect=10)
    assert client.max_retries == 2
