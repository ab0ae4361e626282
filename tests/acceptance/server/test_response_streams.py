"""Responses whose connections break, that are asked twice, or that are somebody else's; and bodies of all kinds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from tests.acceptance.program import PATIENCE, Program, eventually
from tests.acceptance.server.conftest import Served, serving
from tests.support.model_server import ModelServer, Step

AGENT = "openai-agent"
LONG = " ".join(f"word{number}" for number in range(60))


@pytest.fixture(scope="module")
def second(served: Served, ada: str, embedded: Program) -> Iterator[Served]:
    """Another server in front of the same engine."""
    with serving(embedded.having(AGENT_MEMORY="off")) as server:
        yield server


def comparable(events: list[Any]) -> list[Any]:
    return [event.to_dict() for event in events]


def test_who_comes_back_after_a_broken_connection_is_told_the_rest_by_another_server(
    served: Served, second: Served, ada: str, model: ModelServer
) -> None:
    model.steps.append(Step(text=LONG, chunk_delay=0.15))
    with served.openai(ada) as client, second.openai(ada) as other:
        stream = client.responses.create(model=AGENT, input="tell me", stream=True)
        seen: list[Any] = []
        for event in stream:
            seen.append(event)
            if len(seen) == 6:
                break
        stream.close()
        made, last = seen[0].response.id, seen[-1].sequence_number
        assert seen[-1].type == "response.output_text.delta"
        rest = list(other.responses.retrieve(made, stream=True, starting_after=last))
        whole = list(client.responses.retrieve(made, stream=True))
        numbers = [event.sequence_number for event in [*seen, *rest]]
        assert numbers == list(range(len(numbers)))
        assert comparable([*seen, *rest]) == comparable(whole)
        deltas = [event.delta for event in whole if event.type == "response.output_text.delta"]
        assert "".join(deltas) == LONG and rest[-1].response.output_text == LONG
        assert other.responses.retrieve(made).output == rest[-1].response.output

        client.responses.create(input="next", previous_response_id=made)

        def told_in_short() -> bool:
            return len(list(other.responses.retrieve(made, stream=True))) < len(whole)

        eventually(told_in_short)
        with other.responses.stream(response_id=made) as short:
            assert short.get_final_response().output_text == LONG
        (end,) = other.responses.retrieve(made, stream=True, starting_after=numbers[-2])
        assert end.type == "response.completed" and end.sequence_number == numbers[-1]


def test_a_server_that_is_killed_ends_no_response(
    served: Served, ada: str, embedded: Program, model: ModelServer
) -> None:
    model.steps.append(Step(text=LONG, chunk_delay=0.1))
    with serving(embedded.having(AGENT_MEMORY="off")) as dies, dies.openai(ada, max_retries=0) as client:
        stream = client.responses.create(model=AGENT, input="tell me", stream=True)
        seen: list[Any] = []
        with pytest.raises(openai.APIError):
            for event in stream:
                seen.append(event)
                if len(seen) == 5:
                    dies.process.kill()
        made, last = seen[0].response.id, seen[-1].sequence_number
    with served.openai(ada) as client:
        rest = list(client.responses.retrieve(made, stream=True, starting_after=last))
        assert [event.sequence_number for event in rest] == list(range(last + 1, last + 1 + len(rest)))
        assert rest[-1].response.output_text == LONG


def test_the_same_key_is_the_same_turn_also_at_once_and_in_a_copy(
    served: Served, second: Served, ada: str, model: ModelServer
) -> None:
    with served.openai(ada) as client, second.openai(ada) as other:
        headers = {"idempotency-key": "first-question"}
        made: list[Any] = []

        def ask() -> None:
            made.append(client.responses.create(model=AGENT, input="once", extra_headers=headers))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        asked = len(model.bodies)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        made.append(other.responses.create(model=AGENT, input="once", extra_headers=headers))
        assert len({each.id for each in made}) == 1 and len(model.bodies) == asked + 1
        with pytest.raises(openai.ConflictError):
            client.responses.create(model=AGENT, input="something else", extra_headers=headers)

        first = made[0]
        second_id = client.responses.create(input="two", previous_response_id=first.id).id
        for each in ({"idempotency-key": "copied"}, {"x-stainless-retry-count": "1"}):
            asked = len(model.bodies)
            body: Any = {"input": f"instead, by {next(iter(each))}", "previous_response_id": first.id}
            copies = [client.responses.create(**body, extra_headers=each)]
            copies += [other.responses.create(**body, extra_headers=each)]
            assert copies[0].id == copies[1].id and copies[0].conversation != first.conversation
            assert len(model.bodies) == asked + 1
        again = {"idempotency-key": "going-on"}
        on = [client.responses.create(input="3", previous_response_id=second_id, extra_headers=again) for _ in "12"]
        assert on[0].id == on[1].id and on[0].conversation == first.conversation
        assert on[0].output_text == "answer 3: 3"


def test_a_client_that_repeats_by_itself_comes_to_the_same_turn(served: Served, ada: str, model: ModelServer) -> None:
    let = threading.Event()

    def script(request: dict[str, Any]) -> Step:
        let.wait(PATIENCE)
        return Step(text="patience")

    model.script = script
    asked = len(model.bodies)
    with served.openai(ada, max_retries=30).with_options(timeout=1.5) as client:
        threading.Timer(5, let.set).start()
        made = client.responses.create(model=AGENT, input="slow")
    assert made.output_text == "patience" and len(model.bodies) == asked + 1


def test_what_is_somebody_elses_does_not_exist(served: Served, ada: str, bob: str) -> None:
    with served.openai(ada) as client, served.openai(bob) as other:
        made = client.responses.create(model=AGENT, input="secret", user="bob", safety_identifier="bob")
        conversation = made.conversation.id if made.conversation else ""
        item = client.conversations.items.list(conversation).data[0].id or ""
        approval: Any = {"type": "mcp_approval_response", "approval_request_id": "mcpr_x", "approve": True}
        tried: list[Callable[[], Any]] = [
            lambda: other.responses.retrieve(made.id),
            lambda: other.responses.retrieve(made.id, stream=True),
            lambda: other.responses.cancel(made.id),
            lambda: other.responses.delete(made.id),
            lambda: other.responses.input_items.list(made.id),
            lambda: other.responses.create(model=AGENT, input="x", previous_response_id=made.id),
            lambda: other.responses.create(model=AGENT, input="x", conversation=conversation),
            lambda: other.responses.create(input=[approval], previous_response_id=made.id),
            lambda: other.responses.create(input=[approval], conversation=conversation),
            lambda: other.conversations.retrieve(conversation),
            lambda: other.conversations.update(conversation, metadata={}),
            lambda: other.conversations.delete(conversation),
            lambda: other.conversations.items.list(conversation),
            lambda: other.conversations.items.create(conversation, items=[{"role": "user", "content": "x"}]),
            lambda: other.conversations.items.retrieve(item, conversation_id=conversation),
            lambda: other.conversations.items.delete(item, conversation_id=conversation),
        ]
        for one in tried:
            with pytest.raises(openai.NotFoundError) as refused:
                one()
            assert "secret" not in str(refused.value)
        nothing = conversation[:-1] + ("0" if conversation[-1] != "0" else "1")
        with pytest.raises(openai.NotFoundError) as refused:
            other.conversations.retrieve(nothing)
        assert str(refused.value).replace(nothing, conversation) == _refusal(other, conversation)
        assert client.responses.retrieve(made.id).output_text == made.output_text


def _refusal(client: openai.OpenAI, conversation: str) -> str:
    with pytest.raises(openai.NotFoundError) as refused:
        client.conversations.retrieve(conversation)
    return str(refused.value)


WRONG: list[tuple[str, Any]] = [
    ("input", None),
    ("input", 1),
    ("input", []),
    ("input", ""),
    ("input", "  "),
    ("input", ["x"]),
    ("input", [{"role": "assistant", "content": "x"}]),
    ("input", [{"type": "item_reference", "id": "x"}]),
    ("input", [{"role": "user", "content": [{"type": "input_audio"}]}]),
    ("input", [{"type": "mcp_approval_response"}]),
    ("input", [{"type": "mcp_approval_response", "approval_request_id": "x", "approve": 1}]),
    ("input", "x" * 5_000_000),
    ("model", 1),
    ("model", ["openai-agent"]),
    ("instructions", ["x"]),
    ("conversation", 1),
    ("conversation", {"id": 1}),
    ("conversation", {}),
    ("previous_response_id", 1),
    ("metadata", "x"),
    ("metadata", {"a": 1}),
    ("metadata", {"a": "b" * 513}),
    ("background", "yes"),
    ("stream", 1),
    ("store", False),
    ("store", "no"),
    ("include", "x"),
    ("include", [1]),
    ("text", "json"),
    ("text", {"format": {"type": "yaml"}}),
    ("tools", [{"type": "web_search"}]),
    ("tools", {}),
    ("tool_choice", "required"),
    ("prompt", {"id": "x"}),
    ("temperature", "hot"),
    ("max_output_tokens", "many"),
    ("max_output_tokens", 1.5),
    ("reasoning", "high"),
    ("user", 1),
    ("safety_identifier", {}),
    ("parallel_tool_calls", 1),
    ("whatever", 1),
]


def test_a_field_of_a_wrong_kind_is_refused_by_its_name(served: Served, ada: str) -> None:
    with served.http(ada) as http:
        for field, value in WRONG:
            refused = http.post("/v1/responses", json={"model": AGENT, "input": "x", field: value})
            assert refused.status_code == 400, (field, value, refused.text)
            told = refused.json()["error"]
            assert told["message"] and (told["param"] or "").split("[")[0].split(".")[0] == field, (value, told)
            assert refused.headers["x-should-retry"] == "false"


def test_no_body_and_no_path_is_too_odd(served: Served, ada: str) -> None:
    with served.http(ada) as http:

        def status(method: str, path: str, **more: Any) -> int:
            answer = http.request(method, path, **more)
            assert "Traceback" not in answer.text and answer.json()["error"]["message"], answer.text
            return answer.status_code

        huge = b'{"model": "openai-agent", "input": "' + b"x" * (101 * 1024 * 1024) + b'"}'
        assert status("POST", "/v1/responses", content=huge) == 413
        assert status("POST", "/v1/responses", content=b"[" * 100_000) == 400
        assert status("POST", "/v1/responses", content=b'{"input": ' * 500 + b"1" + b"}" * 500) == 400
        assert status("POST", "/v1/responses", content=b"\xff\xfe") == 400
        assert status("POST", "/v1/responses", json={"model": "nobody", "input": "x"}) == 404
        both = {"input": "x", "conversation": "a", "previous_response_id": "b"}
        assert status("POST", "/v1/responses", json=both) == 400
        for odd in ("nothing", "resp_", "resp_%00", "resp_AAAA", "x" * 5000, "..%2f..", "resp_\u00e9"):
            assert status("GET", f"/v1/responses/{odd}") == 404, odd
            assert status("POST", "/v1/responses", json={"input": "x", "previous_response_id": odd}) == 404
            assert status("POST", "/v1/responses", json={"input": "x", "conversation": odd}) == 404
        asked = b'{"model": "openai-agent", "input": "half \\ud83d of it \\u0000"}'
        made = http.post("/v1/responses", content=asked)
        assert made.status_code == 200 and "half" in made.text
        one = made.json()["id"]
        for wrong in ("-1", "x", "1.5", "9" * 30, ""):
            assert status("GET", f"/v1/responses/{one}?stream=true&starting_after={wrong}") == 400
        assert status("GET", f"/v1/responses/{one}/input_items?limit=1000") == 400
        assert status("PUT", f"/v1/responses/{one}") == 405
