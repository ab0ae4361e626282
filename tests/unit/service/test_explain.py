"""What the user reads of an exception that no server is needed for."""

from typing import Any

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    OutputGuardrailTripwireTriggered,
    RunContextWrapper,
    Runner,
    UserError,
    input_guardrail,
    output_guardrail,
)
from agents.tracing import get_trace_provider

from flameagent.model_choice import Choice, ModelError, choose
from flameagent.service.models import build
from flameagent.service.models.chat import ChatModel
from flameagent.service.models.explain import explain, redact
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
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_any_exception_is_one_line(exc: Exception, sentence: str) -> None:
    assert explain(exc) == sentence


@pytest.mark.parametrize(
    "secret",
    ["env-key-123456", "choice-key-123456", "sk-proj-abc_DEF-123", "Bearer abc.def", "sk-ab***yz", "pass-word"],
)
def test_no_key_is_shown(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_API_KEY", "env-key-123456")
    choice = Choice("m", "compatible", "http://u:pass-word@h/v1", "choice-key-123456", "OPENAI_API_KEY")
    sentence = explain(ValueError(f"no {secret}, sorry"), choice)
    assert sentence == "ValueError: no [key], sorry"


def test_words_that_are_no_key_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_API_KEY", "none")
    assert redact("a task-oriented answer: none of **these**") == "a task-oriented answer: none of **these**"


@pytest.mark.parametrize(("setting", "traced"), [(None, False), ("0", False), ("1", True)])
def test_traces_are_off_unless_asked_for(setting: str | None, traced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if setting is None:
        monkeypatch.delenv("AGENT_TRACING", raising=False)
    else:
        monkeypatch.setenv("AGENT_TRACING", setting)
    build.prepare()
    trace = get_trace_provider().create_trace("t")
    assert (trace.export() is not None) == traced
    monkeypatch.delenv("AGENT_TRACING", raising=False)
    build.prepare()
