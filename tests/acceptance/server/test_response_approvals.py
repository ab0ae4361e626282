"""Calls that need an approval, in the Responses dialect: asked for, decided on, and gone on with."""

from __future__ import annotations

import threading
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from tests.acceptance.server.conftest import Served
from tests.support.model_server import Call, ModelServer, Step

AGENT = "openai-agent"
DOOR: Any = {
    "type": "function",
    "name": "door",
    "description": "Opens a door.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"room": {"type": "integer"}},
        "required": ["room"],
        "additionalProperties": False,
    },
}


def forget(*keys: str) -> Step:
    calls = [Call("forget", f'{{"key": "{key}"}}', f"call-{key}") for key in keys]
    return Step(text="Let me see.", calls=tuple(calls))


def verdict(request: Any, approve: bool = True, **more: str) -> Any:
    return {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": approve, **more}


def requests(response: Response) -> list[Any]:
    return [item for item in response.output if item.type == "mcp_approval_request"]


def kinds(response: Response) -> list[str]:
    return [item.type for item in response.output]


def test_a_call_waits_for_its_approval_and_the_turn_goes_on(served: Served, ada: str, model: ModelServer) -> None:
    model.steps.extend([forget("city"), Step(text="Forgotten.")])
    with served.openai(ada) as client:
        asked = client.responses.create(model=AGENT, input="forget my city")
        assert asked.status == "completed" and kinds(asked) == ["message", "mcp_approval_request"]
        (request,) = requests(asked)
        assert (request.name, request.arguments) == ("forget", '{"key": "city"}')
        assert client.responses.retrieve(asked.id).output == asked.output
        with pytest.raises(openai.ConflictError, match="answer them with mcp_approval_response or"):
            client.responses.create(input="and now?", previous_response_id=asked.id)
        after = client.responses.create(input=[verdict(request)], previous_response_id=asked.id)
        assert kinds(after) == ["mcp_call", "message"] and after.output_text == "Forgotten."
        assert after.id != asked.id and after.previous_response_id == asked.id
        assert after.output[0].approval_request_id == request.id  # type: ignore[union-attr]
        assert asked.usage is not None and after.usage is not None
        assert client.responses.retrieve(after.id).output == after.output
        assert client.responses.retrieve(asked.id).output == asked.output
        assert client.responses.retrieve(asked.id).usage == asked.usage
        (decided,) = client.responses.input_items.list(after.id).data
        assert decided.type == "mcp_approval_response" and decided.approve
        with pytest.raises(openai.ConflictError, match="Nothing waits"):
            client.responses.create(input=[verdict(request, False)], previous_response_id=asked.id)
        assert client.responses.create(input="hm", previous_response_id=after.id).output_text == "answer 2: hm"
        items = client.conversations.items.list(asked.conversation.id, order="asc")  # type: ignore[union-attr]
        assert [item.type for item in items][:6] == [
            "message",
            "message",
            "mcp_approval_request",
            "mcp_approval_response",
            "mcp_call",
            "message",
        ]


def test_a_rejection_tells_the_model_why(served: Served, ada: str, model: ModelServer) -> None:
    model.steps.extend([forget("city"), Step(text="I see.")])
    with served.openai(ada) as client:
        asked = client.responses.create(model=AGENT, input="forget my city")
        (request,) = requests(asked)
        after = client.responses.create(
            input=[verdict(request, False, reason="I need it.")],
            conversation=asked.conversation.id,  # type: ignore[union-attr]
        )
        assert after.output_text == "I see." and "I need it." in str(after.output[0])
        assert "I need it." in str(model.bodies[-1]["messages"])


def test_of_two_calls_one_waits_on(served: Served, ada: str, model: ModelServer) -> None:
    model.steps.extend([forget("city", "name"), Step(text="Both.")])
    with served.openai(ada) as client:
        asked = client.responses.create(model=AGENT, input="forget both")
        city, name = requests(asked)
        half = client.responses.create(input=[verdict(city)], previous_response_id=asked.id)
        assert [each.id for each in requests(half)] == [name.id]
        with pytest.raises(openai.ConflictError, match="does not wait"):
            client.responses.create(input=[verdict(city)], previous_response_id=half.id)
        after = client.responses.create(input=[verdict(name)], previous_response_id=half.id)
        assert after.output_text == "Both."
        assert [each.id for each in requests(client.responses.retrieve(asked.id))] == [city.id, name.id]
        assert client.responses.retrieve(half.id).output == half.output


def test_both_passes_are_streams_of_their_own(served: Served, ada: str, model: ModelServer) -> None:
    model.steps.extend([forget("city"), Step(text="Forgotten for good.")])
    with served.openai(ada) as client:
        with client.responses.stream(model=AGENT, input="forget my city") as stream:
            first = [event.type for event in stream]
            asked = stream.get_final_response()
        (request,) = requests(asked)  # type: ignore[arg-type]
        assert first[-1] == "response.completed"
        with client.responses.stream(model=AGENT, input=[verdict(request)], previous_response_id=asked.id) as stream:
            told = list(stream)
            after = stream.get_final_response()
        assert after.output_text == "Forgotten for good."
        assert [event.sequence_number for event in told] == list(range(len(told)))
        again = list(client.responses.retrieve(after.id, stream=True))
        assert [event.type for event in again] == [event.type for event in told]
        assert [event.type for event in client.responses.retrieve(asked.id, stream=True)] == first


def test_what_waits_can_be_cancelled_or_deleted(served: Served, ada: str, model: ModelServer) -> None:
    model.steps.extend([forget("city"), forget("name")])
    with served.openai(ada) as client:
        asked = client.responses.create(model=AGENT, input="forget my city")
        assert client.responses.cancel(asked.id).status == "cancelled"
        again = client.responses.create(input="forget my name", previous_response_id=asked.id)
        assert requests(again)
        client.responses.delete(again.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(again.id)
        on = again.conversation.id  # type: ignore[union-attr]
        assert client.responses.create(input="well", conversation=on).output_text == "answer 1: well"


def test_a_decision_is_made_once(served: Served, ada: str, model: ModelServer) -> None:
    model.steps.extend([forget("city"), Step(text="Forgotten.")])
    with served.openai(ada) as client:
        asked = client.responses.create(model=AGENT, input="forget my city")
        (request,) = requests(asked)
        with_key: Any = {"extra_headers": {"idempotency-key": "decided-once"}}
        body: Any = {"input": [verdict(request)], "previous_response_id": asked.id}
        first = client.responses.create(**body, **with_key)
        again = client.responses.create(**body, **with_key)
        assert (first.id, first.output) == (again.id, again.output) and first.output_text == "Forgotten."
        model.steps.extend([forget("name"), Step(text="Gone.")])
        asked = client.responses.create(input="forget my name", previous_response_id=first.id)
        body = {"input": [verdict(requests(asked)[0])], "previous_response_id": asked.id}
        first = client.responses.create(**body)
        repeated: Any = {"extra_headers": {"x-stainless-retry-count": "1"}}
        again = client.responses.create(**body, **repeated)
        assert (first.id, first.output) == (again.id, again.output) and first.output_text == "Gone."


def test_a_function_of_the_client_is_run_by_the_client(served: Served, ada: str, model: ModelServer) -> None:
    step = Step(text="I try.", calls=(Call("door", '{"room": 7}', "c-1"), Call("forget", '{"key": "x"}', "c-2")))
    model.steps.extend(
        [step, Step(text="It is open."), Step(calls=(Call("door", '{"room": 8}', "c-3"),)), Step(text="!")]
    )
    with served.openai(ada) as client:
        asked = client.responses.create(model=AGENT, input="open 7", tools=[DOOR])
        assert kinds(asked) == ["message", "function_call", "mcp_approval_request"] or kinds(asked) == [
            "message",
            "mcp_approval_request",
            "function_call",
        ]
        (call,) = [item for item in asked.output if item.type == "function_call"]
        assert (call.name, call.arguments) == ("door", '{"room": 7}')
        given: list[Any] = [{"type": "function_call_output", "call_id": call.call_id, "output": "It opens."}]
        given.append(verdict(requests(asked)[0]))
        after = client.responses.create(input=given, previous_response_id=asked.id, tools=[DOOR])
        assert kinds(after) == ["mcp_call", "message"] and after.output_text == "It is open."
        assert "It opens." in str(model.bodies[-1]["messages"])
        inputs = client.responses.input_items.list(after.id).data
        assert sorted(item.type for item in inputs) == ["function_call_output", "mcp_approval_response"]

        with client.responses.stream(
            model=AGENT, input="open 8", previous_response_id=after.id, tools=[DOOR]
        ) as stream:
            told = [event.type for event in stream]
            final = stream.get_final_response()
        (parsed,) = [item for item in final.output if item.type == "function_call"]
        assert parsed.parsed_arguments == {"room": 8} and "response.mcp_call.in_progress" not in told
        assert [event.type for event in client.responses.retrieve(final.id, stream=True)] == told
        with pytest.raises(openai.ConflictError, match="does not wait for a result"):
            wrong: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "Again."}
            client.responses.create(input=[wrong], previous_response_id=final.id)
        done: Any = {
            "type": "function_call_output",
            "call_id": parsed.call_id,
            "output": [{"type": "input_text", "text": "ok"}],
        }
        last = client.responses.create(input=[done], previous_response_id=final.id)
        assert last.output_text == "!" and kinds(last) == ["message"]
        with pytest.raises(openai.BadRequestError, match="tools of a client are those"):
            client.responses.create(input="x", previous_response_id=last.id, tools=[{**DOOR, "name": "other"}])
        with pytest.raises(openai.BadRequestError, match="name of a tool"):
            client.responses.create(model=AGENT, input="x", tools=[{**DOOR, "name": "two words"}])


def test_of_two_who_decide_at_once_one_does_and_the_other_is_told(
    served: Served, ada: str, model: ModelServer
) -> None:
    model.steps.extend([forget("city"), Step(text="So be it.")])
    with served.openai(ada) as client:
        asked = client.responses.create(model=AGENT, input="forget my city")
        (request,) = requests(asked)
        outcomes: list[Any] = []

        def decide(approve: bool) -> None:
            try:
                answer = [verdict(request, approve)]
                outcomes.append(client.responses.create(input=answer, previous_response_id=asked.id))
            except openai.ConflictError as error:
                outcomes.append(error)

        threads = [threading.Thread(target=decide, args=(approve,)) for approve in (True, False, True, False)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done = [each for each in outcomes if isinstance(each, Response) and each.status == "completed"]
        assert {each.output_text for each in done} == {"So be it."} and len(outcomes) == 4
        assert len({each.output[0].output for each in done}) == 1  # type: ignore[union-attr]
        for each in outcomes:
            assert each in done or isinstance(each, openai.ConflictError) or "decided" in each.error.message
        kept = client.responses.retrieve(done[0].id)
        assert kept.status == "completed" and kept.output == done[0].output
