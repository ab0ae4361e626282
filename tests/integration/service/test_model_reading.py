"""Every answer of reading_cases, asked for as a stream and whole: the same comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from agents import ModelSettings
from agents.models.interface import ModelTracing

from flameagent.service.models.chat import ChatModel
from flameagent.service.models.explain import explain
from flameagent.service.models.responses import ResponsesModel
from tests.integration.service import reading_cases as cases
from tests.integration.service.reading_cases import Outcome
from tests.integration.service.test_model_answers import choice_of
from tests.support.model_server import ModelServer, Step

JSON, EVENTS, NONE = "application/json", "text/event-stream", ""


@pytest.fixture(scope="module")
def module_server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def server(module_server: ModelServer) -> ModelServer:
    module_server.steps.clear()
    return module_server


def model_at(url: str, api: str = "chat") -> ChatModel | ResponsesModel:
    return (ResponsesModel if api == "responses" else ChatModel)(choice_of(url, api=api), retries=0)


async def outcome(model: ChatModel | ResponsesModel, *, stream: bool) -> Outcome:
    """Texts and calls of an answer, or the sentence that says why there is none."""
    question: Any = (None, "hi", ModelSettings(), [], None, [], ModelTracing.DISABLED)
    try:
        if stream:
            output, told = [], ""
            async for event in model.stream_response(
                *question, previous_response_id=None, conversation_id=None, prompt=None
            ):
                told += event.delta if event.type == "response.output_text.delta" else ""
                output = event.response.output if event.type == "response.completed" else []
        else:
            answer = await model.get_response(*question, previous_response_id=None, conversation_id=None, prompt=None)
            output, told = answer.output, None
    except Exception as error:
        return explain(error, model.choice)
    found: list[Any] = []
    for item in output:
        if item.type == "message":
            found += [part.text for part in item.content if part.type == "output_text"]
        elif item.type == "function_call":
            assert item.call_id
            found.append((item.name, item.arguments))
    ids = [item.call_id for item in output if item.type == "function_call"]
    assert len({*ids}) == len(ids)
    if told is not None and isinstance(model, ChatModel):
        assert told == "".join(text for text in found if isinstance(text, str))
    return found


def matches(found: Outcome, expected: Outcome) -> bool:
    return expected in found if isinstance(expected, str) and isinstance(found, str) else found == expected


async def read_alike(server: ModelServer, model: ChatModel | ResponsesModel, body: str, expected: Outcome) -> None:
    found = {}
    for stream, kind in ((False, JSON), (True, EVENTS), (False, EVENTS), (True, JSON), (True, NONE)):
        server.steps.append(Step(body=body, content_type=kind))
        found[stream, kind] = await outcome(model, stream=stream)
    first = found[False, JSON]
    assert matches(first, expected), first
    assert all(other == first for other in found.values()), found


def every(*groups: dict[str, tuple[str, Outcome]]) -> Any:
    rows = [(name, *case) for group in groups for name, case in group.items()]
    return pytest.mark.parametrize(("body", "expected"), [row[1:] for row in rows], ids=[row[0] for row in rows])


@every(cases.CALLS, cases.SHAPES, cases.ERRORS, cases.IN_A_STREAM)
async def test_streamed_and_whole_are_read_alike(server: ModelServer, body: str, expected: Outcome) -> None:
    await read_alike(server, model_at(server.url), body, expected)


@every(cases.RESPONSES, cases.ERRORS)
async def test_the_responses_api_is_read_alike(server: ModelServer, body: str, expected: Outcome) -> None:
    await read_alike(server, model_at(server.url, "responses"), body, expected)
