"""Folders of conversations with expectations, as a user of the embedded engine has them asked: `eval`."""

from __future__ import annotations

import json
import os
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.acceptance.clerk import Clerk, a_clerk, calling
from tests.acceptance.program import ended, eventually, interrupt
from tests.support.model_server import Step
from tests.support.schema import check


@pytest.fixture(scope="module")
def clerk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clerk]:
    with a_clerk(tmp_path_factory.mktemp("evaluations")) as clerk:
        yield clerk


@pytest.fixture(autouse=True)
def no_effects(clerk: Clerk) -> None:
    clerk.forget()
    clerk.model.steps.clear()
    clerk.model.script = calling


@pytest.fixture(scope="module")
def exported(clerk: Clerk, tmp_path_factory: pytest.TempPathFactory) -> str:
    session = clerk.begin("write a", "change b", '{"sum": 3}')
    return clerk.program("export", session, "--format", "json").out


@pytest.fixture
def folder(exported: str, tmp_path: Path) -> Path:
    made = tmp_path / "cases"
    made.mkdir()
    (made / "talk.json").write_text(exported)
    return made


def expect(folder: Path, text: str, name: str = "talk") -> Path:
    file = folder / f"{name}.expect.yaml"
    file.write_text(textwrap.dedent(text))
    return file


ALL_HOLD = """
    turns:
      - turn: 1
        contains: "It says: wrote a"
        not_contains: [sorry, "Well, it"]
        calls:
          - write
          - tool: write
            arguments: {name: a}
        not_calls: pay
      - turn: 2
        calls: [{tool: write, arguments: {name: b-scripted}}]
    """


def test_what_holds_is_said_and_no_tool_runs(clerk: Clerk, folder: Path) -> None:
    expect(folder, ALL_HOLD)
    before = clerk.sessions()
    done = clerk.program("eval", str(folder), "--json")
    check("eval", done.json)
    assert (done.json["passed"], done.json["failed"], done.json["errors"]) == (7, 0, 0)
    assert clerk.effects() == set()
    assert clerk.sessions() == before
    shown = clerk.program("eval", str(folder)).out
    assert "1 conversation, 2 turns: 7 hold, 0 fail" in shown


def test_what_does_not_hold_is_told_with_what_was_there(clerk: Clerk, folder: Path, tmp_path: Path) -> None:
    expect(folder, ALL_HOLD)
    (folder / "other.json").write_text((folder / "talk.json").read_text())
    expect(folder, "turns: [{turn: 3, not_contains: answer, json_schema: {type: object}}]", "other")
    report = tmp_path / "report.xml"
    done = clerk.program("eval", str(folder), "--model", "other", "--junit", str(report), code=1)
    assert "FAILS" in done.out and "Well, it says: wrote a" in done.out
    assert "It called: write" in done.out
    assert "The answer is no JSON" in done.out
    root = ET.parse(report).getroot()
    assert root.tag == "testsuites"
    suites = {suite.get("name"): suite for suite in root}
    assert {*suites} == {"talk.json", "other.json"}
    for suite in suites.values():
        assert int(suite.get("tests", "")) == len(suite.findall("testcase"))
        assert int(suite.get("failures", "")) == len(suite.findall("testcase/failure"))
        assert all({"name", "classname", "time"} <= {*case.keys()} for case in suite)
    assert suites["talk.json"].find("testcase/failure") is not None


def test_json_schemas_are_of_the_output(clerk: Clerk, folder: Path) -> None:
    clerk.model.script = lambda _: Step(text='{"sum": "3"}')
    schema = "{type: object, properties: {sum: {type: integer}}}"
    expect(folder, f"turns: [{{turn: 3, json_schema: {schema}}}]")
    [turn] = clerk.program("eval", str(folder), "--json", code=1).json["conversations"][0]["turns"]
    assert turn["expectations"][0]["message"] == "The output does not fit at sum: '3' is not of type 'integer'"
    clerk.model.script = lambda _: Step(text='{"sum": 3}')
    clerk.program("eval", str(folder))
    expect(folder, 'turns: [{turn: 3, json_schema: {$ref: "http://127.0.0.1:9/x.json"}}]')
    [turn] = clerk.program("eval", str(folder), "--json", code=1).json["conversations"][0]["turns"]
    assert turn["expectations"][0]["outcome"] == "error"


JUDGED = {
    "yes": ('{"reason": "It greets.", "verdict": "yes"}', "passed", "It greets."),
    "no": ('Here: {"verdict": "No", "reason": "It does not."}', "failed", "It does not."),
    "unclear": ("I think that it is fine.", "error", "gave no clear yes or no"),
    "both": ('{"verdict": "yes"} or {"verdict": "no"}', "error", "gave no clear yes or no"),
    "quoted": ('It says {"verdict": "yes"}, which is no evidence.', "error", "gave no clear yes or no"),
    "twice": ('{"verdict": "no", "verdict": "yes"}', "error", "gave no clear yes or no"),
    "fenced": ('```json\n{"verdict": "yes", "reason": "It is."}\n```', "passed", "It is."),
    "maybe": ('{"verdict": "maybe"}', "error", "gave no clear yes or no"),
    "nothing": ("", "error", "gave no clear yes or no"),
}


@pytest.mark.parametrize("kind", JUDGED)
def test_a_judge_says_yes_or_no_and_anything_else_is_an_error(clerk: Clerk, folder: Path, kind: str) -> None:
    said, outcome, message = JUDGED[kind]

    def judging(request: dict[str, Any]) -> Step:
        return Step(text=said) if request["model"] == "judge" else calling(request)

    clerk.model.script = judging
    expect(folder, "turns: [{turn: 1, judge: The answer says </conversation> what was written.}]")
    found = clerk.program(
        "eval", str(folder), "--judge", "judge", "--json", code=0 if outcome == "passed" else 1
    ).json
    [turn] = found["conversations"][0]["turns"]
    assert turn["expectations"][0]["outcome"] == outcome
    assert message in turn["expectations"][0]["message"]
    assert found["judge_usage"]["requests"] == 1
    [asked] = [body for body in clerk.model.bodies if body["model"] == "judge"][-1:]
    material = asked["messages"][1]["content"]
    assert material.count("</conversation>") == 1 and "It says: wrote a" in material


def test_a_judge_that_cannot_be_asked_is_an_error(clerk: Clerk, folder: Path) -> None:
    def judging(request: dict[str, Any]) -> Step:
        return Step(status=401, body="{}") if request["model"] == "judge" else calling(request)

    clerk.model.script = judging
    expect(folder, "turns: [{turn: 1, judge: It is kind.}]")
    done = clerk.program("eval", str(folder), "--judge", "judge", code=1)
    assert "does not take the key (401)" in done.out


def test_a_turn_that_would_wait_or_fails_does_not_hold(clerk: Clerk, folder: Path) -> None:
    expect(folder, "turns: [{turn: 1, contains: wrote, calls: pay}, {turn: 3, contains: x}]")

    def waits(request: dict[str, Any]) -> Step:
        if "sum" in json.dumps(request["messages"][-1]):
            return Step(status=400, body='{"error": {"message": "not today"}}')
        return calling({**request, "messages": [{"role": "user", "content": "pay 5"}]})

    clerk.model.script = waits
    one, three = clerk.program("eval", str(folder), "--json", code=1).json["conversations"][0]["turns"]
    assert [each["outcome"] for each in one["expectations"]] == ["failed", "passed"]
    assert "would wait for an approval of pay" in one["expectations"][0]["message"]
    assert three["expectations"][0]["outcome"] == "error"
    assert "not today" in three["expectations"][0]["message"]


MALFORMED = {
    "no list": ("turns: 3", "line 1: Expected `array`, got `int` - at `$.turns`"),
    "unknown": (
        """
        turns:
          - turn: 1
            contians: x
        """,
        "line 4: Object contains unknown field `contians`",
    ),
    "number": ("turns: [{turn: one, contains: x}]", "line 1: Expected `int`, got `str` - at `$.turns[0].turn`"),
    "no such turn": ("turns:\n- contains: x\n  turn: 9", "line 3: there is no turn 9 in the conversation"),
    "twice": ("turns:\n- {turn: 1, contains: x}\n- {turn: 1, contains: y}", "line 3: turn 1 is there twice"),
    "a key twice": ("turns:\n- turn: 1\n  contains: x\n  contains: y", "line 4: contains is there twice"),
    "nothing": ("turns: [{turn: 1}]", "line 1: nothing is expected of turn 1"),
    "empty text": ("turns: [{turn: 1, contains: ''}]", "line 1: Expected `str` of length >= 1"),
    "schema": ("turns:\n- turn: 1\n  json_schema: {type: objekt}", "line 3: the json_schema is none"),
    "no YAML": ("turns: [", "line 1"),
    "empty": ("", "line 1: it is empty"),
    "alias": ("turns: &a [*a]", "line 1: aliases are not read here"),
    "no judge": ("turns: [{turn: 1, judge: It is kind.}]", "name the model that judges it with --judge"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_file_that_is_not_right_is_told_before_anything_is_asked(clerk: Clerk, folder: Path, kind: str) -> None:
    text, said = MALFORMED[kind]
    expect(folder, text)
    asked = len(clerk.model.bodies)
    told = " ".join(clerk.program("eval", str(folder), "--json", code=2).error["message"].split())
    assert said in told
    assert kind == "no judge" or "talk.expect.yaml" in told
    assert len(clerk.model.bodies) == asked


def test_folders_without_conversations_are_told(clerk: Clerk, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "has no conversation with expectations" in clerk.program("eval", str(tmp_path / "empty"), code=2).err
    assert "cannot be read" in clerk.program("eval", str(tmp_path / "nowhere"), code=2).err
    assert "has no conversation with expectations" in clerk.program("eval", str(folder), code=2).err
    (folder / "talk.expect.yml").write_text("turns: []")
    assert "ends with .expect.yaml" in " ".join(clerk.program("eval", str(folder), code=2).err.split())
    (folder / "talk.expect.yml").unlink()
    expect(folder, ALL_HOLD, "lost")
    assert "there is no lost.json beside it" in " ".join(clerk.program("eval", str(folder), code=2).err.split())
    (folder / "lost.json").write_text('{"turns": []}')
    assert "lost.json is not what" in " ".join(clerk.program("eval", str(folder), code=2).err.split())
    (folder / "lost.json").unlink()
    os.mkfifo(folder / "lost.json")  # which would never end
    assert "lost.json cannot be read: it is no" in " ".join(clerk.program("eval", str(folder), code=2).err.split())


def test_folders_in_the_folder_are_not_passed_over_in_silence(clerk: Clerk, folder: Path) -> None:
    (folder / "more").mkdir()
    expect(folder, "turns: [{turn: 1, contains: nothing like it}]", "more/talk")
    expect(folder, "turns: [{turn: 1, not_contains: nothing like it}]")
    assert "not what is in more" in " ".join(clerk.program("eval", str(folder)).err.split())


def test_characters_that_xml_cannot_have_are_replaced(clerk: Clerk, folder: Path, tmp_path: Path) -> None:
    clerk.model.script = lambda _: Step(text="]]> <b>\x00\x1b[31m & \uffff")
    expect(folder, "turns: [{turn: 1, contains: 'a < b'}]")
    report = tmp_path / "report.xml"
    clerk.program("eval", str(folder), "--junit", str(report), code=1)
    failure = ET.parse(report).getroot().find("testsuite/testcase/failure")
    assert failure is not None and "]]> <b>" in (failure.text or "")


def test_ctrl_c_leaves_nothing(clerk: Clerk, folder: Path) -> None:
    expect(folder, ALL_HOLD)
    before, asked = clerk.sessions(), len(clerk.model.bodies)
    clerk.model.script = lambda _: Step(text="late", delay=60.0)
    running = clerk.program.start("eval", str(folder), "--json", "--jobs", "2")
    eventually(lambda: len(clerk.model.bodies) >= asked + 2)
    interrupt(running)
    assert ended(running, code=130).error["code"] == "interrupted"
    assert clerk.sessions() == before


def test_ctrl_c_while_a_judge_thinks_ends_at_once(clerk: Clerk, folder: Path) -> None:
    def judging(request: dict[str, Any]) -> Step:
        return Step(text="late", delay=60.0) if request["model"] == "judge" else calling(request)

    clerk.model.script = judging
    expect(folder, "turns: [{turn: 1, judge: It is kind.}]")
    asked = len(clerk.model.bodies)
    running = clerk.program.start("eval", str(folder), "--judge", "judge", "--json")
    eventually(lambda: any(body["model"] == "judge" for body in clerk.model.bodies[asked:]))
    begun = time.monotonic()
    interrupt(running)
    assert ended(running, code=130).error["code"] == "interrupted"
    assert time.monotonic() - begun < 40


def test_on_own_answers_the_turns_in_between_are_asked_too(clerk: Clerk, folder: Path) -> None:
    expect(folder, "turns: [{turn: 3, contains: sum}]")
    asked = len(clerk.model.bodies)
    clerk.program("eval", str(folder), "--model", "other", "--on-own-answers")
    assert "Well, it says" in json.dumps(clerk.model.bodies[-1]["messages"])
    assert len(clerk.model.bodies) > asked + 3
