"""Attachments in turns: stored once, referred to by what is kept, and whole in what a model is sent."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flameagent.apis import Answer, Decision, Question
from flameagent.conversation import Attached, attachments
from localflame import Engine
from tests.integration.service.talk import AGENT, Talk, fresh
from tests.support.model_server import Call, ModelServer, Step, error
from tests.support.shim import Shim

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
PDF = b"%PDF-1.7 a paper"
CHART = b"\x89PNG\r\n\x1a\nchart"
RETURNS = f"""
import os
from agents import ToolOutputFileContent, ToolOutputImage

@function_tool
def chart() -> ToolOutputImage:
    return ToolOutputImage(image_url="data:image/png;base64,{base64.b64encode(CHART).decode()}")

@function_tool
def paper() -> ToolOutputFileContent:
    return ToolOutputFileContent(filename="paper.pdf", file_data="{base64.b64encode(PDF).decode()}")

@function_tool(needs_approval=True)
def launch() -> str:
    return "launched"

agent = Agent("""
TOOLS = AGENT.replace("agent = Agent(", RETURNS).replace("tools=[double,", "tools=[double, chart, paper, launch,")

ITS_OWN_MODEL = TOOLS.replace(
    "tools=[",
    'model=OpenAIChatCompletionsModel("own", AsyncOpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key="x")), '
    "tools=[",
).replace("import os\n", "import os\nfrom openai import AsyncOpenAI\nfrom agents import OpenAIChatCompletionsModel\n")

ITS_OWN_RUN = """
from agents import Agent, RunConfig, Runner
from flameagent.apis import Answer, Question
from flameagent.service import FlameInstance
from flameagent.service.run import _Models
from flameagent.model_choice import choose
import os

agent = Agent(name="tester")
instance = FlameInstance()

@instance.entrypoint
async def ask(question: Question) -> Answer:
    config = RunConfig(model_provider=_Models(choose(os.environ)))
    given = await instance.input(question)
    done = await Runner.run(agent, given, session=instance.session, run_config=config)
    return Answer(str(done.final_output))
"""


def url(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@pytest.fixture(scope="module", params=["chat", "responses"])
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def each(
    api: str, tmp_path_factory: pytest.TempPathFactory, engine: Engine, model_server: ModelServer
) -> Iterator[Shim]:
    with fresh(tmp_path_factory.mktemp("agent"), TOOLS, engine, model_server, AGENT_API=api) as shim:
        yield shim


@pytest.fixture
def instance(each: Shim, talk: Talk, model: ModelServer) -> Shim:
    return each.enter(talk.id, talk.ref.encode())


def attach(talk: Talk, name: str, data: bytes) -> dict[str, Any]:
    """An attachment as a client sends it, with its bytes among the session's objects."""
    talk.log().attachments.put(data)
    described: dict[str, Any] = msgspec.to_builtins(attachments.describe(name, data))
    return described


def ask(instance: Shim, question: str, *attached: dict[str, Any], task: str = "1") -> Answer:
    answer: Answer = instance.invoke(Question(question, id=f"t{task}", attachments=list(attached) or None), task)
    return answer


def sent(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The images, files and texts of the request's messages and outputs, one after another."""
    found: list[dict[str, Any]] = []
    for item in body.get("messages") or body["input"]:
        parts = item.get("content") or item.get("output")
        found += parts if isinstance(parts, list) else [{"type": "text", "text": parts}]
    return found


def recorded(talk: Talk) -> list[Attached]:
    return [each for turn, _ in talk.conversation.turns() for each in turn.attachments]


def kept(talk: Talk) -> str:
    """All rows of the conversation, as text."""
    return json.dumps([(row or b"").decode() for _, row in talk.cache.get(talk.ref.key).patches])


def test_a_question_brings_an_image_a_file_and_a_text(
    instance: Shim, talk: Talk, model: ModelServer, api: str
) -> None:
    given = [attach(talk, "cat.png", PNG), attach(talk, "paper.pdf", PDF), attach(talk, "notes.md", b"# Notes")]
    answer = ask(instance, "what is this?", *given)
    assert (answer.error, answer.note) == ("", "")
    assert answer.attachments == [each["sha256"] for each in given]
    told = sent(model.bodies[-1])[-4:]
    if api == "chat":
        assert told[1]["image_url"]["url"] == url(PNG, "image/png")
        assert told[2]["file"] == {"file_data": url(PDF, "application/pdf"), "filename": "paper.pdf"}
    else:
        assert told[1]["image_url"] == url(PNG, "image/png")
        assert (told[2]["file_data"], told[2]["filename"]) == (url(PDF, "application/pdf"), "paper.pdf")
    assert [told[place]["text"] for place in (0, 3)] == ["what is this?", "Attached file notes.md:\n\n# Notes"]
    assert [each.name for each in recorded(talk)] == ["cat.png", "paper.pdf", "notes.md"]
    assert "base64" not in kept(talk)


def test_later_questions_show_it_again_without_another_read(
    instance: Shim, talk: Talk, model: ModelServer, api: str
) -> None:
    ask(instance, "what is this?", attach(talk, "cat.png", PNG))
    answer = ask(instance, "and its colour?", task="2")
    assert (answer.error, answer.attachments) == ("", None)
    assert url(PNG, "image/png") in json.dumps(model.bodies[-1])
    assert json.dumps(model.bodies[-1]).count("base64") == 1


def test_an_attachment_that_is_not_there_is_named_and_nothing_is_added(
    instance: Shim, talk: Talk, model: ModelServer
) -> None:
    gone = msgspec.to_builtins(attachments.describe("gone.png", PNG + b"!"))
    answer = ask(instance, "what is this?", gone)
    assert (answer.error, answer.code) == (
        "The attachment gone.png is not there any more; nothing was added.",
        "usage",
    )
    assert (model.bodies, talk.turns()) == ([], [])


def test_one_of_an_earlier_turn_that_is_gone_is_told_and_the_conversation_goes_on(
    engine: Engine, talk: Talk, model: ModelServer, tmp_path: Path
) -> None:
    with fresh(tmp_path, TOOLS, engine, model) as first:
        first.enter(talk.id, talk.ref.encode())
        given = attach(talk, "cat.png", PNG)
        assert ask(first, "what is this?", given).error == ""
    talk.cache.delete(f"app/{talk.id}/{given['sha256']}")
    with fresh(tmp_path, TOOLS, engine, model) as second:
        second.enter(talk.id, talk.ref.encode())
        answer = ask(second, "and now?", task="2")
    assert (answer.error, answer.note) == ("", "The model was not shown cat.png, whose data are gone.")
    assert "[cat.png was left out: its data are gone]" in json.dumps(model.bodies[-1])


def test_what_tools_return_is_an_attachment_of_the_turn(
    instance: Shim, talk: Talk, model: ModelServer, api: str
) -> None:
    model.steps += [Step(calls=(Call("chart", "{}", "c1"), Call("paper", "{}", "c2"))), Step(text="Seen.")]
    answer = ask(instance, "draw")
    assert (answer.answer, answer.attachments) == ("Seen.", None)
    assert [(each.name, each.call) for each in recorded(talk)] == [
        (f"{attachments.describe('', CHART).sha256[:8]}.png", "c1"),
        ("paper.pdf", "c2"),
    ]
    assert "base64" not in kept(talk)
    model.steps.append(Step(text="Again."))
    again = ask(instance, "again", task="2")
    for request in model.bodies[-2:]:
        told = json.dumps(request)
        assert (url(CHART, "image/png") in told) == (api == "responses")
        assert (base64.b64encode(PDF).decode() in told) == (api == "responses")
        assert ("was left out: it cannot be sent to this model]" in told) == (api == "chat")
    untold = (
        "The model was not shown what chart returned, what paper returned: its server takes no images or files there."
    )
    assert {answer.note, again.note} == {"" if api == "responses" else untold}


def test_who_reads_along_is_told_of_an_image_and_sent_no_data(instance: Shim, talk: Talk, model: ModelServer) -> None:
    key = talk.cache.put(f"app/{talk.id}", b"").key
    model.steps += [Step(calls=(Call("chart", "{}", "c1"),)), Step(text="Seen.")]
    instance.invoke(Question("draw", id="t1", stream=key), "1")
    told = b"".join(row or b"" for _, row in talk.cache.get(key).patches).decode()
    assert '"output":"[image]"' in told.replace(" ", "")
    assert "base64" not in told


def test_a_turn_that_waits_keeps_no_data_and_goes_on_with_them(
    instance: Shim, talk: Talk, model: ModelServer, api: str
) -> None:
    given = attach(talk, "cat.png", PNG)
    model.steps += [Step(calls=(Call("chart", "{}", "c1"),)), Step(calls=(Call("launch", "{}", "c2"),))]
    waits = ask(instance, "launch this", given)
    assert (waits.code, waits.attachments) == ("waiting", [given["sha256"]])
    assert "base64" not in kept(talk)
    waiting = talk.conversation.waiting
    assert waiting is not None
    assert [each.call for each in waiting.pending.attachments] == ["", "c1"]
    model.steps.append(Step(text="Done."))
    decision = Decision("d1", waits.on, approve=("c2",))
    done: Answer = instance.invoke(Question("launch this", id="t1", decision=decision), "2")
    assert (done.answer, done.error, done.attachments) == ("Done.", "", [given["sha256"]])
    assert url(PNG, "image/png") in json.dumps(model.bodies[-1])
    assert (url(CHART, "image/png") in json.dumps(model.bodies[-1])) == (api == "responses")
    assert "base64" not in kept(talk)
    assert [each.call for each in recorded(talk)] == ["", "c1"]


def test_a_server_that_takes_no_images_says_so_and_earlier_ones_hinder_no_question(
    instance: Shim, talk: Talk, model: ModelServer
) -> None:
    def blind(request: dict[str, Any]) -> Step:
        return error(400, "unknown variant `image_url`") if "base64" in json.dumps(request) else Step(text="Yes.")

    given = attach(talk, "cat.png", PNG)
    assert ask(instance, "what is this?", given).error == ""
    model.script = blind
    refused = ask(instance, "and this?", given, task="2")
    assert "unknown variant" in refused.error
    answer = ask(instance, "are you there?", task="3")
    assert (answer.answer, answer.turn) == ("Yes.", 2)
    assert answer.note == (
        "The model was not shown images and files of earlier questions: its server takes no images or files there."
    )


@pytest.mark.parametrize("source", [ITS_OWN_MODEL, ITS_OWN_RUN], ids=["its own model", "its own run"])
def test_an_agent_may_bring_its_model_or_run_itself(
    engine: Engine, talk: Talk, model: ModelServer, tmp_path: Path, source: str
) -> None:
    with fresh(tmp_path, source, engine, model) as shim:
        shim.enter(talk.id, talk.ref.encode())
        given = attach(talk, "cat.png", PNG)
        answer = ask(shim, "what is this?", given)
    assert (answer.error, answer.attachments) == ("", [given["sha256"]])
    assert sent(model.bodies[-1])[-1]["image_url"]["url"] == url(PNG, "image/png")
    assert "base64" not in kept(talk)
