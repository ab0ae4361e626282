"""Tools of the client over the Agents API: its handlers run where the client is, now, or a day later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.acceptance.program import Program, eventually
from tests.acceptance.server.conftest import Served, serving
from tests.acceptance.server.test_agents_api import NONE, asked, kinds, message, read
from tests.support.model_server import Call, ModelServer, Step

DOOR: Any = {
    "type": "function",
    "name": "door",
    "description": "Open a door.",
    "parameters": {"type": "object", "properties": {"number": {"type": "integer"}}},
}
OPENS = Step(calls=(Call("door", '{"number": 1}', "d-1"),))


@pytest.fixture
def client(served: Served, ada: str) -> Iterator[openai.OpenAI]:
    with served.openai(ada) as client:
        yield client


def begun(client: openai.OpenAI, **more: Any) -> Any:
    return client.beta.agents.sessions.create(environment=NONE, agent={"tools": [DOOR], "model": "scripted"}, **more)


def result(action: Any, **more: Any) -> Any:
    told = {"turn_id": action.turn_id, "call_id": action.call_id, **more}
    return {"type": "agent.session.input.tool_result", **told}


def waiting(client: openai.OpenAI, model: ModelServer, *steps: Step) -> Any:
    """A session that waits for its client."""
    session = begun(client)
    model.steps += steps or [OPENS]
    client.beta.agents.sessions.events.create(session.id, events=[message("open the door")])
    return eventually(lambda: (found := read(client, session.id)).status == "requires_action" and found)


def items(client: openai.OpenAI, session: str) -> list[Any]:
    return list(client.beta.agents.sessions.items.list(session, order="asc"))


def test_a_handler_is_run_while_the_turn_is_followed(client: openai.OpenAI, model: ModelServer) -> None:
    session = begun(client)
    assert [tool.name for tool in session.agent.tools] == ["door"] and session.agent.model == "scripted"
    model.steps += [OPENS, Step("It is open.")]
    opened: list[Any] = []

    def door(arguments: dict[str, Any]) -> str:
        opened.append(arguments)
        return "opened"

    handlers = {"door": door}
    with client.beta.agents.sessions.stream(session.id, input="open", tool_handlers=handlers) as stream:
        stream.with_result_collection()
        events = list(stream)
        assert stream.get_final_result().output_text == "It is open."
    assert opened == [{"number": 1}]
    assert "requires_action" in kinds(events) and kinds(events)[-1] == "idle"
    listed = items(client, session.id)
    assert [item.type for item in listed] == ["message", "function_call", "function_call_output", "message"]
    assert (listed[1].name, listed[1].call_id, listed[1].status) == ("door", listed[2].call_id, "completed")
    assert listed[2].output == "opened"
    done = [event.item.id for event in events if event.type == "agent.session.turn.item.done"]
    assert done == [listed[1].id, listed[3].id]


def test_handlers_of_several_calls_and_one_that_fails(client: openai.OpenAI, model: ModelServer) -> None:
    calls = tuple(Call("door", f'{{"number": {number}}}', f"d-{number}") for number in (1, 2))
    model.steps += [Step(calls=calls), Step("One of them.")]

    def door(arguments: dict[str, Any]) -> str:
        if arguments["number"] == 2:
            raise RuntimeError("the secret of the door")
        return "opened"

    handlers = {"door": door}
    with begun(client, input="open both", stream=True, tool_handlers=handlers) as stream:
        result = stream.get_final_result()
    assert result.output_text == "One of them."
    outputs = [item for item in items(client, result.session_id) if item.type == "function_call_output"]
    assert {(item.output, item.error) for item in outputs} == {("opened", None), (None, "Tool handler failed.")}
    failed = [item.status for item in items(client, result.session_id) if item.type == "function_call"]
    assert sorted(failed) == ["completed", "failed"]
    told = str(model.bodies[-1]["messages"])
    assert "The tool of the client failed: Tool handler failed." in told and "secret" not in told


def test_a_result_comes_later_through_another_server(
    client: openai.OpenAI, ada: str, embedded: Program, model: ModelServer
) -> None:
    session = waiting(client, model)
    (action,) = session.required_actions
    assert (action.type, action.name, action.arguments) == ("function_call", "door", {"number": 1})
    model.steps += [Step("It is open.")]
    with serving(embedded.having(AGENT_MEMORY="off")) as another, another.openai(ada) as elsewhere:
        given = result(action, success=True, output=[{"type": "input_text", "text": "opened"}])
        for _ in range(2):
            elsewhere.beta.agents.sessions.events.create(session.id, events=[given])
    eventually(lambda: read(client, session.id).status == "idle")
    assert [item.type for item in items(client, session.id)][1:3] == ["function_call", "function_call_output"]
    assert asked(client, session.id, "and now?").output_text.endswith("and now?")


def test_nothing_but_a_result_answers_the_call(client: openai.OpenAI, model: ModelServer, embedded: Program) -> None:
    session = waiting(client, model)
    (action,) = session.required_actions
    create = client.beta.agents.sessions.events.create
    response = {"type": "mcp_tool_call", "decision": "approve"}
    kind = "agent.session.input.mcp_approval_request_result"
    refused: list[Any] = [
        {"type": kind, "request_id": action.call_id, "response": response},
        {**result(action, success=True), "turn_id": "another"},
        {**result(action, success=True), "call_id": "another"},
        result(action, success=True, output=[{"type": "input_image", "image_url": "data:image/png;base64,AA"}]),
        result(action, success="yes"),
    ]
    for each in refused:
        with pytest.raises(openai.BadRequestError):
            create(session.id, events=[each])
    here = embedded.having(FLAME_AGENT_USER="ada")
    told = here("approve", session.id, code=2).err
    assert "only a client can give its result" in told
    model.steps += [Step("Then not.")]
    assert "Then not." in here("reject", session.id).out
    assert read(client, session.id).status == "idle"


@pytest.mark.parametrize("tool", [{}, {"name": "a b"}, {"name": "x" * 65}, {"name": 7}, {"parameters": 7}])
def test_tools_that_are_none_are_refused(served: Served, ada: str, tool: dict[str, Any]) -> None:
    tools = [{**DOOR, **tool} if tool else "door"]
    with served.http(ada) as http:
        refused = http.post("/v1/agents/sessions", json={"environment": NONE, "agent": {"tools": tools}})
        assert refused.status_code == 400 and refused.json()["error"]["param"].startswith("agent.tools[0]")
        two = http.post("/v1/agents/sessions", json={"agent": {"tools": [DOOR, DOOR]}})
        assert two.status_code == 400 and "Two tools have one name" in two.text
