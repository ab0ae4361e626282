"""The sentence for an exception that no server is needed for."""

from typing import Any

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    ModelBehaviorError,
    OutputGuardrailTripwireTriggered,
    RunContextWrapper,
    Runner,
    UserError,
    input_guardrail,
    output_guardrail,
)

from flameagent.model_choice import ModelError, choose
from flameagent.service.models.chat import ChatModel
from flameagent.service.models.explain import explain
from tests.support.model_server import ModelServer


def agent(url: str, **fields: object) -> Agent[None]:
    return Agent(name="a", model=ChatModel(choose({"OPENAI_BASE_URL": url})), **fields)  # type: ignore[arg-type]


@input_guardrail
async def no_politics(context: RunContextWrapper[None], agent: Agent[Any], input: object) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)


@output_guardrail
async def no_promises(context: RunContextWrapper[None], agent: Agent[Any], output: object) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)


async def test_a_guardrail_is_named() -> None:
    with ModelServer() as server:
        with pytest.raises(InputGuardrailTripwireTriggered) as stopped:
            await Runner.run(agent(server.url, input_guardrails=[no_politics]), "hi")
        assert explain(stopped.value) == "The question was stopped by the guardrail no_politics."
        with pytest.raises(OutputGuardrailTripwireTriggered) as withheld:
            await Runner.run(agent(server.url, output_guardrails=[no_promises]), "hi")
        assert explain(withheld.value) == "The answer was stopped by the guardrail no_promises."


@pytest.mark.parametrize(
    ("exc", "sentence"),
    [
        (ModelError("Export a key."), "Export a key."),
        (UserError("Two tools of one name\nmore"), "The agent is not set up right: Two tools of one name"),
        (ValueError("first\nsecond"), "ValueError: first"),
        (
            ModelBehaviorError("Invalid JSON in model output"),
            "The model did what it cannot do: Invalid JSON in model output. Ask again, or choose another model.",
        ),
        (
            MaxTurnsExceeded("Max turns (10) exceeded."),
            "The agent did not come to an answer: Max turns (10) exceeded. Ask for less at once.",
        ),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_any_exception_is_one_line(exc: Exception, sentence: str) -> None:
    assert explain(exc) == sentence
