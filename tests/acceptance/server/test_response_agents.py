"""Responses of other agents than the default one: with an output type, and with agents that are tools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.acceptance.server.conftest import serving, token_of
from tests.chaos.storm import checkout
from tests.support.desk import AGENTS, desk
from tests.support.model_server import ModelServer, Step

AGENT = (
    AGENTS.replace('open("effects"', 'open("refunds"')
    + """

from pydantic import BaseModel

class Weather(BaseModel):
    city: str
    rain: bool

agents["typed"] = Agent(name="typed", instructions="typed", output_type=Weather)
"""
)


class Weather(BaseModel):
    city: str
    rain: bool


def script(request: dict[str, Any]) -> Step:
    if request.get("response_format"):
        return Step(text='{"city":"Bern","rain":true}')
    return desk(request)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    with ModelServer(script=script, strict=True) as model:
        program = checkout(tmp_path_factory.mktemp("desk"), AGENT, model, AGENT_MEMORY="off")
        token = token_of(program, "ada")
        with serving(program) as served, served.openai(token) as client:
            yield client
        program("engine", "stop")


def test_an_output_type_is_json_that_the_client_reads(client: openai.OpenAI) -> None:
    made = client.responses.parse(model="openai-agent", input="typed@weather", text_format=Weather)
    assert made.output_parsed == Weather(city="Bern", rain=True)
    assert Weather.model_validate_json(client.responses.retrieve(made.id).output_text) == made.output_parsed


def test_a_call_of_an_agent_that_is_a_tool_is_asked_for_by_its_own_id(client: openai.OpenAI) -> None:
    asked = client.responses.create(model="openai-agent", input="ask_clerk: refund 7; ask_clerk: refund 8; refund 9")
    requests = [item for item in asked.output if item.type == "mcp_approval_request"]
    assert sorted((each.server_label, each.name, each.arguments) for each in requests) == [
        ("clerk", "refund", '{"order": 7}'),
        ("clerk", "refund", '{"order": 8}'),
        ("openai-agent", "refund", '{"order": 9}'),
    ]
    assert len({each.id for each in requests}) == 3 and len(asked.output) == 3
    verdicts: list[Any] = [
        {"type": "mcp_approval_response", "approval_request_id": each.id, "approve": "8" not in each.arguments}
        for each in requests
    ]
    with client.responses.stream(model="openai-agent", input=verdicts, previous_response_id=asked.id) as stream:
        kinds = [event.type for event in stream]
        after = stream.get_final_response()
    assert kinds.count("response.mcp_call.completed") == 3
    assert [item.type for item in after.output] == ["mcp_call", "mcp_call", "mcp_call", "message"]
    outputs = " ".join(str(item.output) for item in after.output if item.type == "mcp_call")
    assert "done: refund 7" in outputs and "done: refund 9" in outputs and "done: refund 8" not in outputs
    kept = client.responses.retrieve(after.id)
    assert [item.id for item in kept.output] == [item.id for item in after.output]
    assert kept.output[:3] == after.output[:3] and kept.output_text == after.output_text
