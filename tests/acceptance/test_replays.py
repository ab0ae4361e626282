"""Conversations asked again, as a user of the embedded engine does it: `replay`."""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.clerk import Clerk, a_clerk
from tests.acceptance.program import ended, eventually, interrupt
from tests.support.model_server import Call, Step
from tests.support.schema import check

_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def clerk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clerk]:
    with a_clerk(tmp_path_factory.mktemp("replays")) as clerk:
        yield clerk


@pytest.fixture(autouse=True)
def no_effects(clerk: Clerk) -> None:
    clerk.forget()
    clerk.model.steps.clear()


def test_tools_do_not_run_and_both_sides_are_told(clerk: Clerk, tmp_path: Path) -> None:
    session = clerk.begin("write a", "change b", "hello")
    assert clerk.effects() == {"a", "b-scripted"}
    clerk.forget()
    before, history = clerk.sessions(), clerk.program("history", session, "--json").json
    page = tmp_path / "page.html"
    done = clerk.program("replay", session, "--model", "other", "--json", "--html", str(page))
    found = done.json
    check("replay", found)
    assert clerk.effects() == set()
    first, second, third = found["turns"]
    assert [call["outcome"] for call in first["replayed"]["calls"]] == ["recorded"]
    assert (first["same_calls"], first["same_answer"]) == (True, False)
    assert first["replayed"]["answer"] == "Well, it says: wrote a"
    assert [call["outcome"] for call in second["replayed"]["calls"]] == ["not_run"]
    assert "not carried out" in second["replayed"]["answer"]
    assert third["same_answer"] and third["replayed"]["model"] == "other"
    assert clerk.sessions() == before
    assert clerk.program("history", session, "--json").json == history
    text = page.read_text()
    assert "default-src 'none'" in text and "Well, it says" in text
    assert clerk.program("usage", "--json").json[-1]["model"] == "scripted"


def test_with_run_tools_what_the_record_does_not_have_runs(clerk: Clerk) -> None:
    session = clerk.begin("write a", "change b")
    clerk.forget()
    found = clerk.program("replay", session, "--model", "other", "--run-tools", "--json").json
    assert [each["replayed"]["calls"][0]["outcome"] for each in found["turns"]] == ["recorded", "ran"]
    assert clerk.effects() == {"b-other"}


def test_each_question_has_the_recorded_turns_before_it_or_those_of_the_replay(clerk: Clerk) -> None:
    session = clerk.begin("write a", "hello")
    asked = len(clerk.model.bodies)
    clerk.program("replay", session, "--model", "other", "--turn", "2", "--json")
    [request] = clerk.model.bodies[asked:]
    assert "It says: wrote a" in json.dumps(request["messages"])
    asked = len(clerk.model.bodies)
    found = clerk.program("replay", session, "--model", "other", "--on-own-answers", "--json").json
    assert "Well, it says: wrote a" in json.dumps(clerk.model.bodies[-1]["messages"])
    assert len({each["replayed"]["session_id"] for each in found["turns"]}) == 1


def test_a_replay_on_its_own_answers_gives_each_output_once(clerk: Clerk) -> None:
    session = clerk.begin("write a", "hello", "write b", "write a")
    clerk.forget()
    found = clerk.program("replay", session, "--on-own-answers", "--json").json
    outcomes = [[call["outcome"] for call in each["replayed"]["calls"]] for each in found["turns"]]
    assert outcomes == [["recorded"], [], ["recorded"], ["recorded"]]
    again = clerk.program("replay", session, "--on-own-answers", "--turn", "2-", "--json").json
    assert [each["turn"] for each in again["turns"]] == [2, 3, 4]
    assert clerk.effects() == set()


def test_on_its_own_answers_a_turn_that_would_wait_is_left_out(clerk: Clerk) -> None:
    session = clerk.begin("pay 5")
    [call] = clerk.program("history", session, "--json").json["waiting"]["pending"]
    clerk.program("approve", session, call["id"])
    clerk.program("-s", session, "-m", "hello")
    done = clerk.program("replay", session, "--model", "other", "--on-own-answers", "--json")
    assert [each["replayed"]["status"] for each in done.json["turns"]] == ["would_wait", "answered"]
    assert "pay" not in json.dumps(clerk.model.bodies[-1]["messages"])


def test_another_agent_can_be_asked_with_what_went_with_the_questions(clerk: Clerk, tmp_path: Path) -> None:
    picture = tmp_path / "dot.png"
    picture.write_bytes(_PNG)
    done = clerk.program("-m", "look", "--attach", str(picture), "--data", "shop=Porto", "--user", "Ada", "--json")
    session = str(done.json["session_id"])
    (clerk.program.folder / "other.py").write_text(
        "from agents import Agent\n"
        "desk = Agent(name='desk', instructions=lambda run, _: f'You are at {run.context[\"shop\"]}.')\n"
    )
    started = clerk.program.start("replay", session, "--app", "other:desk", "--json", cwd=clerk.program.folder)
    found = json.loads(ended(started).out)
    assert found["application"] != clerk.program.name
    [turn] = found["turns"]
    assert turn["replayed"]["agent"] == "desk", turn
    [request] = clerk.model.bodies[-1:]
    assert request["messages"][0]["content"] == "You are at Porto."
    assert "data:image/png;base64," in json.dumps(request["messages"][-1])


def test_a_turn_that_waits_now_is_named(clerk: Clerk) -> None:
    session = clerk.begin("hello", "pay 5")
    said = clerk.program("replay", session)
    assert "The turn that waits for an approval is not asked again." in said.err


def test_what_was_decided_is_taken_and_what_nobody_decided_would_wait(clerk: Clerk) -> None:
    session = clerk.begin("pay 5")
    [call] = clerk.program("history", session, "--json").json["waiting"]["pending"]
    clerk.program("approve", session, call["id"])
    assert clerk.effects() == {"paid-5"}
    clerk.forget()
    [same] = clerk.program("replay", session, "--json").json["turns"]
    assert same["same_answer"] and same["replayed"]["calls"][0]["outcome"] == "recorded"
    [other] = clerk.program("replay", session, "--model", "other", "--run-tools", "--json").json["turns"]
    assert other["replayed"]["status"] == "would_wait"
    assert other["replayed"]["calls"] == [
        {"tool": "pay", "arguments": '{"euros": 15}', "output": "", "outcome": "would_wait"}
    ]
    assert clerk.effects() == set()
    shown = clerk.program("replay", session, "--model", "other").out
    assert "would wait" in shown


def test_memory_is_neither_read_nor_written(clerk: Clerk) -> None:
    first = clerk.begin("remember tulip")
    asked = len(clerk.model.bodies)
    second = clerk.begin("do you remember tulip")
    assert any("<memory>" in json.dumps(body) for body in clerk.model.bodies[asked:])
    before = clerk.program("memory", "list", "--json").json
    assert "tulip" in json.dumps(before)
    asked = len(clerk.model.bodies)
    for session in (first, second):
        clerk.program("replay", session, "--model", "other", "--run-tools", "--json")
    assert clerk.program("memory", "list", "--json").json == before
    assert len(clerk.model.bodies) > asked
    assert not any("<memory>" in json.dumps(body) for body in clerk.model.bodies[asked:])


def test_by_the_responses_api_it_is_the_same(clerk: Clerk) -> None:
    session = clerk.begin("write a")
    clerk.forget()
    clerk.model.steps.extend([Step(calls=(Call("write", '{"text":"x","name":"a"}', "call_x"),)), Step(text="done")])
    [turn] = clerk.program("replay", session, "--api", "responses", "--json").json["turns"]
    assert (turn["replayed"]["answer"], turn["replayed"]["calls"][0]["outcome"]) == ("done", "recorded")
    assert "wrote a" in json.dumps(clerk.model.bodies[-1]["input"])
    assert clerk.effects() == set()


def test_what_is_shown_fits_a_terminal_of_80_columns(clerk: Clerk) -> None:
    session = clerk.begin("write a", "change b")
    shown = clerk.program("replay", session, "--model", "other").out
    assert "│" in shown and "not run" in shown and "2 turns" in shown
    assert max(map(len, shown.splitlines())) <= 120


def test_kept_sessions_say_what_they_are_and_run_no_tools_either(clerk: Clerk) -> None:
    session = clerk.begin("write a")
    clerk.forget()
    [kept] = clerk.program("replay", session, "--keep", "--json").json["kept"]
    listed = {each["session_id"]: each for each in clerk.program("sessions", "--json").json}
    assert listed[kept]["title"] == f"Replay of {session}, turn 1"
    clerk.program("-s", kept, "-m", "change c")
    assert clerk.effects() == set()
    clerk.program("delete", kept, "--yes")


def test_a_failing_turn_is_told_and_the_others_go_on(clerk: Clerk) -> None:
    session = clerk.begin("one", "two")
    clerk.model.steps.append(Step(status=401, body='{"error": {"message": "bad key"}}'))
    before = clerk.sessions()
    found = clerk.program("replay", session, "--json", code=1).json
    assert [each["replayed"]["status"] for each in found["turns"]] == ["failed", "answered"]
    assert "bad key" in found["turns"][0]["replayed"]["error"]
    assert clerk.sessions() == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc")
def test_a_worker_that_is_killed_in_a_replay_begins_again_and_nothing_is_left(clerk: Clerk) -> None:
    session = clerk.begin("one")
    before = clerk.sessions()
    asked = len(clerk.model.bodies)
    clerk.model.steps.append(Step(text="late", delay=30.0))
    running = clerk.program.start("replay", session, "--json")
    eventually(lambda: len(clerk.model.bodies) > asked)
    home = clerk.program.environment["LOCALFLAME_HOME"]
    killed = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environ = (process / "environ").read_bytes()
            name = (process / "comm").read_text().strip()
        except OSError:
            continue
        if home.encode() in environ and name == "agent-worker":
            killed.append(int(process.name))
            os.kill(int(process.name), signal.SIGKILL)
    assert killed
    found = json.loads(ended(running).out)
    assert found["turns"][0]["replayed"]["status"] == "answered"
    assert clerk.sessions() == before


def test_a_client_that_is_killed_leaves_a_session_that_says_what_it_is(clerk: Clerk) -> None:
    session = clerk.begin("one")
    before, asked = clerk.sessions(), len(clerk.model.bodies)
    clerk.model.steps.append(Step(text="late", delay=20.0))
    running = clerk.program.start("replay", session, "--json")
    eventually(lambda: len(clerk.model.bodies) > asked)
    running.kill()
    running.communicate()
    [left] = clerk.sessions() - before
    [found] = clerk.program("sessions", "--search", f"Replay of {session}", "--json").json
    assert found["session_id"] == left
    eventually(lambda: ended(clerk.program.start("delete", left, "--yes"), code=None).code == 0)


def test_a_turn_that_takes_too_long_is_told_and_its_session_goes(clerk: Clerk) -> None:
    session = clerk.begin("one")
    before = clerk.sessions()
    clerk.model.steps.append(Step(text="late", delay=40.0))
    [turn] = clerk.program("replay", session, "--timeout", "3", "--json", code=1).json["turns"]
    assert turn["replayed"]["status"] == "failed" and turn["replayed"]["error"]
    assert clerk.sessions() == before


def test_closed_sessions_can_be_replayed_and_those_without_turns_not(clerk: Clerk) -> None:
    session = clerk.begin("one")
    clerk.program("close", session)
    assert clerk.program("replay", session, "--json").json["turns"][0]["same_answer"]
    session = clerk.begin("pay 1")
    assert "There is no turn that could be asked again." in clerk.program("replay", session, code=2).err


def test_ctrl_c_leaves_nothing(clerk: Clerk) -> None:
    session = clerk.begin("one")
    before, asked = clerk.sessions(), len(clerk.model.bodies)
    clerk.model.steps.append(Step(text="late", delay=60.0))
    running = clerk.program.start("replay", session, "--json")
    eventually(lambda: len(clerk.model.bodies) > asked)
    interrupt(running)
    assert ended(running, code=130).error["code"] == "interrupted"
    assert clerk.sessions() == before


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["--turn", "7"], "There is no turn 7", 2),
        (["--turn", "x"], "--turn is the number of a turn", 2),
        (["--turn", "2-1"], "", 2),
        (["--html", "/nowhere/page.html"], "cannot be written", 2),
    ],
)
def test_what_makes_no_sense_is_told(clerk: Clerk, arguments: list[str], said: str, code: int) -> None:
    session = clerk.begin("one")
    asked = len(clerk.model.bodies)
    assert said in clerk.program("replay", session, *arguments, code=code).err
    assert len(clerk.model.bodies) == asked
    assert "No session" in clerk.program("replay", "nobody", code=4).err
