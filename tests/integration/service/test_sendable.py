"""What is stored can always be sent: to a strict server, on both APIs, and without being changed."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flameagent.service.models.sending.sendable import sendable
from flameagent.service.models.sending.server import server_of
from flameagent.service.models.sending.tool_calls import portable_id
from tests.integration.service import test_model_answers as answers
from tests.integration.service.test_model_answers import items_of
from tests.support.model_server import Call, ModelServer, Step, error

HALF = "half a face \ud83d"
SIGNED = "call_" + "x" * 200 + "__thought__" + "QUJD+/=" * 8
USER: dict[str, Any] = {"role": "user", "content": "go on"}


@pytest.fixture(params=["chat", "responses"])
def api(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(strict=True) as server:
        yield server


async def ask(server: ModelServer, items: list[Any], api: str, *, stream: bool = False) -> dict[str, Any]:
    """What the server gets of these items, as they are without the runner, which leaves some out by itself."""
    from agents import ModelSettings, ModelTracing

    from flameagent.service.models.build import build

    model = build(answers.choice_of(server.url, api=api))
    before = copy.deepcopy(items)
    request: tuple[Any, ...] = ("be brief", items, ModelSettings(), [], None, [], ModelTracing.DISABLED)
    named: dict[str, Any] = {"previous_response_id": None, "conversation_id": None, "prompt": None}
    if stream:
        async for _ in model.stream_response(*request, **named):
            pass
    else:
        await model.get_response(*request, **named)
    assert repr(items) == repr(before)
    return server.bodies[-1]


def calls_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The calls of a request, as chat completions have them."""
    if "messages" in body:
        return [call for message in body["messages"] for call in message.get("tool_calls") or []]
    return [
        {"id": item["call_id"], "function": {"name": item["name"], "arguments": item["arguments"]}}
        for item in body["input"]
        if item.get("type") == "function_call"
    ]


def call(arguments: Any = "{}", call_id: Any = "c1", name: Any = "add", **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments, **more}


def output(text: Any = "3", call_id: Any = "c1", **more: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": text, **more}


@pytest.mark.parametrize(
    "items",
    [
        [{"role": "user", "content": HALF}],
        [{"role": "user", "content": [{"type": "input_text", "text": HALF}]}],
        [{"role": "assistant", "content": HALF}],
        [{"role": "assistant", "type": "message", "id": "m", "content": [{"type": "output_text", "text": HALF}]}],
        [call(json.dumps({"text": HALF})), output()],
        [call(f'{{"text": "{HALF}"}}'), output()],
        [call(HALF), output()],
        [call(), output(HALF)],
        [call(), output([{"type": "input_text", "text": HALF}])],
        [{"role": "system", "content": HALF}],
    ],
)
async def test_halves_of_characters_are_sent_well_formed(server: ModelServer, items: list[Any], api: str) -> None:
    body = await ask(server, [*items, USER], api)
    assert "half a face \ufffd" in json.dumps(body, ensure_ascii=False)


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ('{"a": 1}', {"a": 1}),
        ('{"a": 1, "b": "\\ud83d\\ude00"}', {"a": 1, "b": "😀"}),
        ("", {}),
        (" \n", {}),
        (None, {}),
        ({"a": 1}, {"a": 1}),
        ('{"text": "she said "hello""}', {"raw_arguments": '{"text": "she said "hello""}'}),
        ('{"a": NaN}', {"raw_arguments": '{"a": NaN}'}),
        ('{"a": -Infinity}', {"raw_arguments": '{"a": -Infinity}'}),
        ('{"a": 1e999}', {"raw_arguments": '{"a": 1e999}'}),
        ("[1]", {"raw_arguments": "[1]"}),
        ('"text"', {"raw_arguments": '"text"'}),
        ("5", {"raw_arguments": "5"}),
        ("null", {"raw_arguments": "null"}),
        ('{"a": 1} {"b": 2}', {"raw_arguments": '{"a": 1} {"b": 2}'}),
        ("{'a': 1}", {"raw_arguments": "{'a': 1}"}),
        ('{"a": 1', {"raw_arguments": '{"a": 1'}),
        ('{"a": "x\ny"}', {"raw_arguments": '{"a": "x\ny"}'}),
    ],
)
async def test_arguments_are_sent_as_a_json_object(server: ModelServer, arguments: Any, sent: Any, api: str) -> None:
    body = await ask(server, [USER, call(arguments), output()], api)
    (only,) = calls_of(body)
    assert json.loads(only["function"]["arguments"]) == sent


async def test_arguments_that_are_no_json_are_told_to_the_model_and_replayed(
    server: ModelServer, api: Any, stream: bool
) -> None:
    wrong = '{"text": "she said "hello""}'
    server.steps.extend([Step(calls=(Call("add", wrong),)), Step(text="done")])
    result = await answers.run(server.url, api=api, stream=stream)
    assert result.final_output == "done"
    assert [item["arguments"] for item in items_of(result) if item.get("type") == "function_call"] == [wrong]
    assert json.loads(calls_of(server.bodies[-1])[0]["function"]["arguments"]) == {"raw_arguments": wrong}


async def test_an_id_goes_back_to_its_server_as_it_came_and_to_no_other(
    server: ModelServer, api: Any, stream: bool
) -> None:
    server.ids = re.compile(r".{1,400}", re.DOTALL)
    server.steps.extend([Step(calls=(Call("add", '{"a": 1, "b": 2}', SIGNED),)), Step(text="done")])
    first = await answers.run(server.url, api=api, stream=stream)
    items = json.loads(json.dumps(items_of(first)))
    assert calls_of(server.bodies[-1])[0]["id"] == SIGNED
    again = await answers.run(server.url, [*items, USER], api=api, stream=stream)
    assert again.final_output
    assert calls_of(server.bodies[-1])[0]["id"] == SIGNED
    with ModelServer(strict=True) as other:
        other.ids = re.compile(r"[a-zA-Z0-9]{9}")
        for _ in range(2):
            await answers.run(other.url, [*items, USER], api=api, stream=stream)
        one, two = (calls_of(body)[0]["id"] for body in other.bodies)
        assert one == two


@pytest.mark.parametrize("call_id", ["c1", "call_abc_def", "functions.add:0", "", "ü" * 9, "x" * 64, SIGNED])
async def test_a_server_that_refuses_ids_gets_nine_letters_and_digits(
    server: ModelServer, call_id: str, api: str
) -> None:
    server.ids = re.compile(r"[a-zA-Z0-9]{9}")
    await ask(server, [USER, call(call_id=call_id), output(call_id=call_id)], api)
    await ask(server, [USER, call(call_id=call_id), output(call_id=call_id)], api)
    assert calls_of(server.bodies[-1])[0]["id"] == portable_id(call_id)
    assert len(server.bodies) <= 3  # it is asked once in vain, and remembered


async def test_what_a_server_gives_with_its_calls_goes_back_to_it_alone(server: ModelServer, stream: bool) -> None:
    """Under any model's name: a signature on a call, and the reasoning before it."""
    server.fields = {"extra_content", "reasoning_content", "reasoning_details", "provider_specific_fields"}
    signature = {"google": {"thought_signature": "c2lnbmVk"}}
    details = [{"type": "reasoning.encrypted", "data": "abc"}]
    whole = {
        "id": "functions.add:0",
        "type": "function",
        "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'},
        "extra_content": signature,
        "provider_specific_fields": {"thought_signature": "c2lnbmVk"},
    }
    message = {"role": "assistant", "content": None, "reasoning_content": "I add", "reasoning_details": details}
    message |= {"tool_calls": [whole]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    step = Step(body=json.dumps({"id": "1", "object": "chat.completion", "choices": [choice]}))
    if stream:
        delta = {"index": 0, "delta": message | {"tool_calls": [whole | {"index": 0}]}, "finish_reason": "tool_calls"}
        chunk = {"id": "1", "object": "chat.completion.chunk", "choices": [delta]}
        step = Step(body=f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n", content_type="text/event-stream")
    server.steps.extend([step, Step(text="done")])
    first = await answers.run(server.url, stream=stream)
    items = json.loads(json.dumps(items_of(first)))
    await answers.run(server.url, [*items, USER], stream=stream)
    for body in server.bodies[1:]:
        (sent,) = [message for message in body["messages"] if message.get("tool_calls")]
        assert sent["reasoning_content"] == "I add"
        assert sent["reasoning_details"] == details
        assert sent["tool_calls"][0]["id"] == "functions.add:0"
        assert sent["tool_calls"][0]["extra_content"] == signature
        assert sent["tool_calls"][0]["provider_specific_fields"] == {"thought_signature": "c2lnbmVk"}
    with ModelServer(strict=True) as other:
        await answers.run(other.url, [*items, USER], stream=stream)
        await answers.run(other.url, [*items, USER], stream=stream, api="responses")
        assert "signed" not in json.dumps(other.bodies)
        assert "I add" not in json.dumps(other.bodies)
    # A server that has changed its mind gets what it still takes.
    server.fields = set()
    await answers.run(server.url, [*items, USER], stream=stream)


async def test_a_server_that_wants_reasoning_with_calls_that_others_made_gets_some(server: ModelServer) -> None:
    server.fields = {"reasoning_content"}

    def moonshot(request: dict[str, Any]) -> Step:
        for at, message in enumerate(request["messages"]):
            if message.get("tool_calls") and not message.get("reasoning_content"):
                where = f"assistant tool call message at index {at}"
                return error(400, f"thinking is enabled but reasoning_content is missing in {where}")
        return Step(text="ok")

    server.script = moonshot
    await ask(server, [USER, call(), output()], "chat")
    await ask(server, [USER, call(), output()], "chat")
    assert len(server.bodies) == 3


async def test_another_bad_request_is_asked_once(server: ModelServer, api: Any) -> None:
    server.steps.append(error(400, "no such tool"))
    assert "no such tool" in await answers.failure(server.url, stream=False, api=api)
    assert len(server.bodies) == 1


HOSTED: dict[str, list[dict[str, Any]]] = {
    "web search": [{"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}],
    "files": [{"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["q"], "results": None}],
    "found files": [
        {
            "type": "file_search_call",
            "id": "fs_1",
            "status": "completed",
            "queries": ["q"],
            "results": [{"text": "t"}],
        }
    ],
    "interpreter": [
        {
            "type": "code_interpreter_call",
            "id": "ci_1",
            "code": "1+1",
            "container_id": "c",
            "outputs": [{"type": "logs", "logs": "2"}],
            "status": "completed",
        }
    ],
    "image": [{"type": "image_generation_call", "id": "ig_1", "result": "aGk=", "status": "completed"}],
    "mcp": [
        {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "s", "tools": []},
        {"type": "mcp_approval_request", "id": "mcpr_1", "server_label": "s", "name": "pay", "arguments": "{}"},
        {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
        {
            "type": "mcp_call",
            "id": "mcp_1",
            "server_label": "s",
            "name": "pay",
            "arguments": '{"sum": 5}',
            "output": "paid",
            "approval_request_id": "mcpr_1",
        },
    ],
    "mcp, rejected": [
        {"type": "mcp_approval_request", "id": "mcpr_1", "server_label": "s", "name": "pay", "arguments": "{}"},
        {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": False, "reason": "too much"},
    ],
    "mcp, failed": [
        {"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "pay", "arguments": "{}", "error": "broke"}
    ],
    "reference": [{"type": "item_reference", "id": "msg_1"}],
    "computer": [
        {
            "type": "computer_call",
            "id": "cu_1",
            "call_id": "c1",
            "action": {"type": "screenshot"},
            "pending_safety_checks": [],
            "status": "completed",
        },
        {
            "type": "computer_call_output",
            "call_id": "c1",
            "output": {"type": "computer_screenshot", "image_url": "data:image/png;base64,aGk="},
        },
    ],
    "shell": [
        {"type": "local_shell_call", "id": "ls_1", "call_id": "c1", "action": {"type": "exec", "command": ["ls"]}},
        {"type": "local_shell_call_output", "id": "c1", "output": "files"},
    ],
    "custom": [
        {"type": "custom_tool_call", "id": "ct_1", "call_id": "c1", "name": "grep", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "found"},
    ],
    "compaction": [{"type": "compaction", "id": "cmp_1", "encrypted_content": "a:x"}],
    "unknown": [{"type": "something_new", "id": "x_1"}, {"what": "ever"}, {"type": 5}],
}


@pytest.mark.parametrize("kind", HOSTED)
async def test_what_a_server_stored_is_sent_to_one_that_stores_nothing(
    server: ModelServer, kind: str, api: str, stream: bool
) -> None:
    answer = {
        "type": "message",
        "role": "assistant",
        "id": "msg_1",
        "content": [{"type": "output_text", "text": "k"}],
    }
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "a:x"}
    body = await ask(server, [USER, reasoning, *HOSTED[kind], answer, USER], api, stream=stream)
    sent = json.dumps(body)
    assert '"k"' in sent
    kept = {"mcp": ["paid", "sum"], "mcp, rejected": ["too much"], "mcp, failed": ["broke"], "interpreter": ["logs"]}
    kept |= {"shell": ["files"], "custom": ["found", "grep"], "found files": ["q", "t"], "computer": ["screenshot"]}
    assert [text for text in kept.get(kind, []) if text not in sent] == []


async def test_an_approval_that_was_just_given_goes_with_its_request(server: ModelServer) -> None:
    server.stored.add("mcpr_1")
    request, response = HOSTED["mcp"][1:3]
    body = await ask(server, [USER, request, response], "responses")
    assert body["input"][1:] == [request, response]


odd = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
texts = st.text(st.characters(codec=None), max_size=8) | st.sampled_from([HALF, "", "\ud83d\ude00"])
ids = st.sampled_from(["c1", "c2", "c1", "", "call/..", SIGNED, "abcdefghi"]) | odd
data = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "server": st.sampled_from(["http://elsewhere/v1", 5]),
        "model": st.sampled_from(["m", "deepseek-chat"]),
        "call_id": ids,
        "call": odd,
        "message": odd,
        "thinking_blocks": odd,
    },
)
part = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["input_text", "output_text", "text", "input_image", "input_file", "image_url", "?", 5]
        )
    },
    optional={"text": texts | odd, "image_url": texts | odd, "file_data": texts, "file_url": texts, "refusal": texts},
)
content = texts | st.lists(part | odd, max_size=3) | odd | part
arguments = texts | st.sampled_from(['{"a": 1}', "[1]", '{"a": NaN}', '{"t": "\\ud83d"}', '{"a"']) | odd
an_item = st.one_of(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "developer", "tool", 5]), "content": content},
        optional={"type": st.just("message"), "id": texts, "status": texts, "provider_data": data, "foo": odd},
    ),
    st.fixed_dictionaries(
        {"type": st.just("function_call"), "call_id": ids},
        optional={"name": texts | odd, "arguments": arguments, "id": texts, "provider_data": data, "foo": odd},
    ),
    st.fixed_dictionaries(
        {"type": st.just("function_call_output"), "call_id": ids},
        optional={"output": content | st.dictionaries(texts, odd, max_size=2), "id": texts},
    ),
    st.fixed_dictionaries(
        {"type": st.just("reasoning"), "id": st.sampled_from(["rs_1", "__fake_id__"])},
        optional={
            "summary": st.lists(st.fixed_dictionaries({"type": st.just("summary_text"), "text": texts}), max_size=2)
            | odd,
            "content": odd,
            "encrypted_content": st.sampled_from(["a:x", None, 5]),
            "provider_data": data | odd,
        },
    ),
    st.sampled_from([item for items in HOSTED.values() for item in items]),
    st.dictionaries(texts, odd, max_size=2),
)


@pytest.fixture(scope="module")
def strict() -> Iterator[ModelServer]:
    with ModelServer(strict=True) as server:
        yield server


@settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(items=st.lists(an_item, max_size=8), nine_only=st.booleans())
@example(items=[call(), USER, output(), call(), output()], nine_only=False)
@example(
    items=[call(), call(call_id="c2"), output(), call(call_id="c3"), output("", "c2"), output("", "c3")],
    nine_only=False,
)
@example(items=[{"type": "reasoning", "id": "rs_1", "content": True}, *HOSTED["found files"]], nine_only=False)
@example(
    items=[call(), {"role": "assistant", "content": "one"}, {"role": "assistant", "content": "two"}, output()],
    nine_only=True,
)
@example(
    items=[
        {"role": role, "content": [{"type": "input_file", "file_data": ""}, {"type": "input_image", "image_url": ""}]}
        for role in ("user", "system")
    ],
    nine_only=False,
)
@example(items=[{"role": "system", "content": [{"type": "input_file", "file_data": "data:,x"}]}], nine_only=False)
async def test_whatever_is_stored_can_be_sent(
    strict: ModelServer, items: list[dict[str, Any]], nine_only: bool, api: str
) -> None:
    strict.requests.clear()
    strict.ids = re.compile(r"[a-zA-Z0-9]{9}" if nine_only else r"[a-zA-Z0-9_-]{1,40}")
    await ask(strict, [*items, USER], api)


def test_what_is_sent_is_the_same_each_time_and_goes_on() -> None:
    """What a server has cached stays a prefix."""
    server = server_of("http://user:secret@here/v1/", "m", "chat")
    assert server.url == "http://here/v1"
    items: list[Any] = []
    before: list[Any] = []
    for turn in range(5):
        items += [USER, call(call_id=SIGNED + str(turn)), output(call_id=SIGNED + str(turn))]
        sent = sendable(items, server).items
        assert sent[: len(before)] == before
        before = sent
    assert len({item["call_id"] for item in before if "call_id" in item}) == 5
