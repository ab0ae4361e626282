"""Images, files and texts with a question, from the command line: asked about, shown, taken along, refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Warm, warmed
from tests.acceptance.program import Program, eventually
from tests.acceptance.terminal import Terminal
from tests.acceptance.test_sessions import _flame
from tests.chaos.storm import checkout
from tests.support.model_server import Call, ModelServer, Step, error
from tests.support.schema import check

PNG = b"\x89PNG\r\n\x1a\npicture"
URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"

IGNORES = """
from flameagent.apis import Answer, Question
from flameagent.service import FlameInstance

instance = FlameInstance()

@instance.entrypoint
async def ask(question: Question) -> Answer:
    return Answer("yes")
"""


@pytest.fixture(scope="module")
def warm(program: Program) -> Warm:
    """A session of these tests alone: others look at exports of theirs, which would have the attachments."""
    return warmed(program)


@pytest.fixture(scope="module")
def warm_here(embedded: Program) -> Warm:
    """The same on the embedded engine."""
    return warmed(embedded)


@pytest.fixture
def png(tmp_path: Path) -> Path:
    file = tmp_path / "a cat.png"
    file.write_bytes(PNG)
    return file


@pytest.fixture
def asked(program: Program, model: ModelServer, png: Path) -> Iterator[str]:
    """A session in which an image was asked about."""
    asked = program("-m", "what is this?", "--attach", str(png), "--json").json
    assert URL in json.dumps(model.bodies[-1])
    yield asked["session_id"]
    program("delete", asked["session_id"], "--yes")


def test_an_image_and_a_text_are_asked_about_and_stand_in_the_history(
    program: Program, warm: Warm, model: ModelServer, png: Path
) -> None:
    asked = program("-s", warm.id, "-m", "look", "--attach", str(png), "--attach", "-", "--json", input="a note").json
    check("question", asked)
    assert len(asked["attachments"]) == 2
    told = json.dumps(model.bodies[-1])
    assert URL in told and "Attached file standard input:\\n\\na note" in told
    history = program("history", warm.id)
    assert "  attached   a cat.png, image/png, 15 B\n  attached   standard input, text/plain, 6 B\n" in history.out
    assert "  user       look\n             [image a cat.png]\n             [file standard input]\n" in history.out
    whole = program("history", warm.id, "--json").json
    check("history", whole)
    assert [each["sha256"] for each in whole["turns"][-1]["attachments"]] == asked["attachments"]
    assert "base64" not in program("history", warm.id, "--raw").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--attach", "gone.png"), "The attachment gone.png cannot be read: No such file or directory; nothing"),
        (("--attach", "/"), "The attachment / cannot be read: it is a folder; nothing was asked."),
        (("--attach", "-", "--attach", "-"), "Standard input can be attached once."),
        (("-c", "--steer", "--attach", "/proc/self/status"), "A message for a turn that runs takes no attachments"),
        (("--attach", "-"), "The attachment standard input is empty; nothing was asked."),
    ],
)
def test_what_cannot_be_attached_is_refused_before_anything_is_asked(
    program: Program, model: ModelServer, arguments: tuple[str, ...], said: str
) -> None:
    before = len(model.requests)
    refused = program("-m", "look", *arguments, code=2)
    assert (refused.out, refused.err.startswith(said)) == ("", True), refused.err
    assert len(model.requests) == before


def test_standard_input_is_the_question_or_attached(program: Program) -> None:
    said = "Standard input has the question: it cannot be attached, too.\n"
    assert program("-m", "-", "--attach", "-", input="x", code=2).err == said
    assert program("chat", "--attach", "-", input="x", code=2).err == said


def test_a_retry_sends_it_again_also_after_one_that_failed(program: Program, model: ModelServer, asked: str) -> None:
    model.steps.append(error(400, "no"))
    program("retry", asked, code=1)
    assert URL in json.dumps(model.bodies[-1])
    again = program("retry", asked, "--json").json
    assert URL in json.dumps(model.bodies[-1])
    assert len(again["attachments"]) == 1


def test_a_copy_has_it_and_stands_alone(program: Program, model: ModelServer, asked: str, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    program("export", asked, "-o", str(file))
    copies = [program("fork", asked, "-q").out.strip(), program("import", str(file), "-q").out.strip()]
    with _flame(program) as (_, cache):
        cache.delete(f"{program.name}/{asked}")
    for copy in copies:
        program("-s", copy, "-m", "and now?")
        assert URL in json.dumps(model.bodies[-1])
        program("delete", copy, "--yes")


def test_exports_have_it_in_them_or_beside_them(program: Program, asked: str, tmp_path: Path) -> None:
    page, document, markdown = (tmp_path / f"talk.{ending}" for ending in ("html", "json", "md"))
    for file in (page, document):
        program("export", asked, "-o", str(file))
    wrote = program("export", asked, "-o", str(markdown))
    assert wrote.out == f"Wrote {markdown}, 1 turn, what was attached in {tmp_path / 'talk_files'}.\n"
    assert f'<img src="{URL}" alt="a cat.png">' in page.read_text()
    check("export", json.loads(document.read_text()))
    (beside,) = (tmp_path / "talk_files").iterdir()
    assert beside.read_bytes() == PNG
    assert f"![a cat.png, image/png, 15 B](talk_files/{beside.name})" in markdown.read_text()
    assert "- a cat.png, image/png, 15 B\n" in program("export", asked).out


def test_one_whose_object_is_gone_is_named(program: Program, model: ModelServer, asked: str) -> None:
    (turn,) = program("history", asked, "--json").json["turns"]
    with _flame(program) as (_, cache):
        cache.delete(f"{program.name}/{asked}/{turn['attachments'][0]['sha256']}")
    refused = program("retry", asked, code=2)
    assert refused.err.startswith("The attachment a cat.png is not there any more; nothing was added.\n")
    assert program("sessions", "--json").json[0]["turns"] == 0


def test_an_agent_that_does_not_take_them_is_told_of(tmp_path: Path, png: Path) -> None:
    with ModelServer() as model:
        client = checkout(tmp_path, IGNORES, model)
        answered = client("-m", "look", "--attach", str(png), "--json").json
        quiet = client("-q", "-m", "look", "--attach", str(png)).err
        client("engine", "stop")
    assert answered["attachments"] == []
    assert quiet == f"{answered['note']}\n"
    assert answered["note"] == (
        "The agent did not take a cat.png: it runs an older version, or its code passes no attachments on."
    )


def test_a_turn_that_waits_says_what_it_was_asked_with(embedded: Program, model: ModelServer, png: Path) -> None:
    model.steps.append(Step(calls=(Call("forget", '{"key": "city"}'),)))
    session = embedded("-m", "look", "--attach", str(png), "--json", code=3).json["session_id"]
    found = embedded("history", session, "--json").json
    check("history", found)
    assert [each["name"] for each in found["waiting"]["attachments"]] == ["a cat.png"]
    embedded("reject", session)
    (turn,) = embedded("history", session, "--json").json["turns"]
    assert turn["attachments"] == found["waiting"]["attachments"]


def test_in_a_chat_a_file_is_attached_by_name_or_dropped(
    embedded: Program, warm_here: Warm, model: ModelServer, png: Path, tmp_path: Path
) -> None:
    human = embedded.having(HOME=str(tmp_path), TERM="xterm-256color", NO_COLOR="1")
    (tmp_path / "notes.md").write_text("# Notes")
    chat = Terminal(human, "chat", "-s", warm_here.part, columns=100)

    def say(line: str, answer: str) -> None:
        chat.type(f"{line}\r")
        eventually(lambda: answer in chat.text and chat.text.endswith("\n>\n"))

    eventually(lambda: chat.text.endswith("\n>\n"))
    say("/attach", "Nothing is attached.")
    say("/attach gone.png", "The attachment gone.png cannot be read: No such file or directory; nothing was asked.")
    say("/attach ~/notes.md", "Attached to the next question: notes.md, text/markdown, 7 B.")
    say("/detach", "Nothing is attached.")
    say(f"'{png}'", "Attached to the next question: a cat.png, image/png, 15 B.")
    model.steps.append(error(400, "no"))
    say("what is this?", "Nothing was added.")
    say("what is that?", ": what is that?")
    assert "With a cat.png:" in chat.text
    assert URL in json.dumps(model.bodies[-1])
    say("and now?", ": and now?")
    assert chat.text.count("With a cat.png:") == 2
    chat.type("\x04")
    chat.ended()
