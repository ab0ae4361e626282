"""Whoever asks on another day why there was no answer finds what was asked and what went wrong.

With the real engine, an agent of a project, and the command line.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from flameagent.client import connect
from flameagent.client.errors import ClientError
from tests.acceptance.conftest import an_engine
from tests.acceptance.program import Program, eventually, interrupt
from tests.acceptance.terminal import Terminal
from tests.support.model_server import Call, ModelServer, Step, error
from tests.support.schema import check

AGENT = """
import os, signal
from agents import Agent, GuardrailFunctionOutput, function_tool, input_guardrail

@function_tool
def die() -> str:
    "Die."
    os.kill(os.getpid(), signal.SIGKILL)

@function_tool(failure_error_function=None)
def fail() -> str:
    "Fail."
    raise RuntimeError("the pump is broken")

@input_guardrail(run_in_parallel=False)
async def no_secrets(context, agent, asked):
    last = asked if isinstance(asked, str) else asked[-1]["content"]
    return GuardrailFunctionOutput(None, tripwire_triggered="secret" in last)

desk = Agent(name="desk", instructions="You help.", tools=[die, fail], input_guardrails=[no_secrets])
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, model: ModelServer) -> Iterator[Program]:
    """The client of a project with an engine of its own; a turn may take four seconds."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "desk.py").write_text(AGENT)
    with an_engine(folder, model) as program:
        yield program.having(HOME=str(folder), FLAME_AGENT_APP="desk:desk", AGENT_TIMEOUT="4", FLAME_AGENT_USER="ada")


def kinds(program: Program, session: str) -> list[tuple[str, str]]:
    """What failed in a session, as the list of sessions tells it."""
    listed = program("sessions", "--failed", "--since", "1h", "--json").json
    check("sessions", listed)
    found = next((each["failures"] for each in listed if each["session_id"] == session), [])
    assert program("history", session, "--json").json["failures"] == found
    return [(each["code"], each["question"]) for each in found]


def begin(program: Program) -> str:
    session: str = program("--json", "-m", "hello").json["session_id"]
    return session


def test_each_kind_of_failure_is_found_afterwards(desk: Program, model: ModelServer) -> None:
    session = begin(desk)
    expected = []

    model.steps.append(error(400, "the model is ill"))
    desk("-s", session, "-m", "why is the model ill?", code=1)
    expected.append(("model", "why is the model ill?"))
    assert kinds(desk, session) == expected

    desk("-s", session, "-m", "tell me the secret", code=1)
    expected.append(("model", "tell me the secret"))
    assert kinds(desk, session) == expected

    model.steps.append(Step(calls=(Call("fail"),)))
    failed = desk("-s", session, "-m", "pump", code=1)
    expected.append((kinds(desk, session)[-1][0], "pump"))
    assert kinds(desk, session) == expected
    assert "the pump is broken" in failed.err

    model.steps.extend([Step(calls=(Call("die"),))] * 2)
    died = desk("-s", session, "-m", "die twice", code=1)
    assert "ended twice" in died.err
    expected.append(("failed", "die twice"))
    assert kinds(desk, session) == expected

    model.steps.append(Step(text="too late", delay=30))
    late = desk("-s", session, "-m", "be slow", code=1)
    assert "took longer than 4 s" in late.err
    expected.append(("failed", "be slow"))
    assert kinds(desk, session) == expected

    last = desk("history", session, "--json").json["failures"]
    assert ["SIGKILL" in each["reason"] for each in last] == [False, False, False, True, False]
    assert {each["user"] for each in last} == {"ada"}
    assert all(each["began"] <= each["ended"] for each in last)
    assert [each["usage"]["input_tokens"] > 0 for each in last][2]  # a model had asked for the tool
    assert desk("-s", session, "-q", "-m", "and now?").out == "answer 2: and now?\n"
    assert not any("pump" in str(message) for message in model.bodies[-1]["messages"])


def test_a_turn_that_was_answered_in_the_second_attempt_has_not_failed(desk: Program, model: ModelServer) -> None:
    session = begin(desk)
    model.steps.append(Step(calls=(Call("die"),)))
    desk("-s", session, "-m", "die once")
    assert kinds(desk, session) == []


def test_a_question_that_was_answered_later_under_its_id_has_not_failed(
    desk: Program, model: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = begin(desk)
    monkeypatch.chdir(desk.environment["HOME"])
    with connect(environ=desk.environment) as client:
        model.steps.append(error(400, "the model is ill"))
        with pytest.raises(ClientError):
            client.ask("what now?", session=session, turn_id="asked-twice")
        assert kinds(desk, session) == [("model", "what now?")]
        client.ask("what now?", session=session, turn_id="asked-twice")
    assert kinds(desk, session) == []


def test_a_cancelled_turn(desk: Program, model: ModelServer) -> None:
    session = begin(desk)
    asked = len(model.bodies)
    model.steps.append(Step(text="too late", delay=30))
    running = desk.start("-s", session, "-m", "cancel me")
    eventually(lambda: len(model.bodies) > asked)
    interrupt(running)
    time.sleep(0.3)
    interrupt(running)
    running.communicate(timeout=90)
    eventually(lambda: desk("history", session, "--json").json["failures"])
    assert kinds(desk, session) == [("cancelled", "cancel me")]


def test_a_history_says_what_took_how_long(desk: Program, model: ModelServer) -> None:
    session = begin(desk)
    model.steps.extend([Step(calls=(Call("subtract"),), delay=0.3), Step(text="there is no such tool")])
    desk("-s", session, "-m", "subtract")
    shown = desk("history", session, "--timings").out
    assert len(re.findall(r"^ +time +asked \d\d:\d\d:\d\d · waited .* · ran .* · models ", shown, re.M)) == 2, shown
    assert "asked" not in desk("history", session).out
    found = desk("history", session, "--json", "--timings").json
    check("history", found)
    timing = found["turns"][1]["timing"]
    assert timing["asked"] + timing["waited"] == timing["began"]
    assert 300 <= timing["model"] <= timing["ran"] <= timing["ended"] - timing["began"] + 1
    assert "--timings" in desk("history", session, "--raw", "--timings", code=2).err


def test_a_report_tells_how_it_was(desk: Program, model: ModelServer, tmp_path: Path) -> None:
    session = begin(desk)
    before = desk("report", "--json").json
    check("report", before)
    model.steps.extend([Step(calls=(Call("fail"),)), error(400, "the model is ill")])
    desk("-s", session, "-m", "pump", code=1)
    desk("-s", session, "-m", "ill?", code=1)
    desk("-s", session, "-m", "well?")
    after = desk("report", "--since", "2h", "--json").json
    check("report", after)
    assert (after["turns"], after["failures"]) == (before["turns"] + 1, before["failures"] + 2)
    assert after["step"] == "hour"
    assert sum(span["failures"] for span in after["spans"]) == after["failures"]
    assert after["latency"]["p50"] <= after["latency"]["p95"]
    (used,) = after["models"]
    assert used["failed"] >= 1

    said = desk("report").out
    assert f"turns failed       {after['failures']}  (" in said
    assert "the model is ill" in said
    narrow = Terminal(desk, "report", columns=40)
    assert "the model is ill" in " ".join(narrow.ended().split())
    page = tmp_path / "report.html"
    assert desk("report", "-o", str(page)).out == f"Wrote {page}.\n"
    assert page.read_text().startswith("<!doctype html>") and "the model is ill" in page.read_text()
    assert desk("report", "-o", "-").out.startswith("<!doctype html>")
    assert desk("report", "--until", "2020-01-01").out.count("turns answered     0") == 1
    assert "give one of them" in desk("report", "-o", "-", "--json", code=2).err
    assert "not 'soon'" in desk("report", "--since", "soon", code=2).err
    assert "cannot be written" in desk("report", "-o", str(tmp_path / "no" / "folder"), code=2).err


def test_people_are_told_in_a_few_lines(desk: Program, model: ModelServer) -> None:
    session = begin(desk)
    desk("sessions", "rename", session, "Of pumps")
    model.steps.append(error(400, "the \x1b[31mmodel is ill"))
    desk("-s", session, "-m", "why\nis it ill?", code=1)
    desk("-s", session, "-m", "still there?")
    listed = desk("sessions", "--failed", "--search", "pumps")
    short = session.rpartition("-")[2]
    assert listed.out.startswith(f"{short}  Of pumps  1 turn failed\n")
    assert "model      why is it ill?" in listed.out
    assert listed.err == f"All of one: client.py history {short} --failed\n".replace(
        "client.py", _program(listed.err)
    )

    plain = desk("history", session)
    assert "is it ill?" not in plain.out
    assert f"1 turn failed: {_program(plain.err)} history {session} --failed\n" in plain.err
    alone = desk("history", session, "--failed")
    assert "hello" not in alone.out
    assert "\x1b" not in alone.out
    every = desk("history", session, "--all").out
    places = [every.index(text) for text in ("hello", "is it ill?", "the ", "still there?")]
    assert places == sorted(places)


def _program(said: str) -> str:
    return said.split(": ")[-1].split(" history ")[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "2h"], "stand with --failed"),
        (["--failed", "--since", "soon"], "not 'soon'"),
        (["--failed", "--since", "2999-01-01"], "in the future"),
        (["--failed", "--since", "1h", "--until", "2h"], "--until is before --since"),
    ],
)
def test_what_makes_no_sense_is_told(desk: Program, arguments: list[str], said: str) -> None:
    assert said in desk("sessions", *arguments, code=2).err


def test_a_time_has_an_end(desk: Program, model: ModelServer) -> None:
    session = begin(desk)
    model.steps.append(error(400, "the model is ill"))
    desk("-s", session, "-m", "now?", code=1)
    assert desk("sessions", "--failed", "--until", "1h", "--json").json == []
    assert kinds(desk, session) == [("model", "now?")]


def test_a_copy_has_no_failures_and_who_deletes_a_session_deletes_its_own(
    desk: Program, model: ModelServer, tmp_path: Path
) -> None:
    session = begin(desk)
    model.steps.append(error(400, "the model is ill"))
    desk("-s", session, "-m", "a doomed question of mine", code=1)
    copy = desk("fork", session, "--json").json["session_id"]
    assert kinds(desk, copy) == []
    exported = tmp_path / "talk.json"
    desk("export", session, "-o", str(exported))
    assert "doomed" not in exported.read_text()
    desk("delete", session, "--yes")
    assert session not in desk("sessions", "--failed", "--json").out
    home = Path(desk.environment["LOCALFLAME_HOME"])

    def left() -> list[Path]:
        found = []
        for path in home.rglob("*"):
            with suppress(OSError):
                if path.is_file() and b"a doomed question of mine" in path.read_bytes():
                    found.append(path)
        return found

    eventually(lambda: not left(), seen=lambda: str(left()))


def test_who_erases_a_person_with_their_sessions_erases_their_failures(desk: Program, model: ModelServer) -> None:
    bob = desk.having(FLAME_AGENT_USER="bob")
    session = begin(bob)
    model.steps.append(error(400, "the model is ill"))
    bob("-s", session, "-m", "of bob", code=1)
    assert kinds(bob, session) == [("model", "of bob")]
    bob("memory", "erase", "--yes")
    assert kinds(bob, session) == [("model", "of bob")]  # as the turns of the conversation, which stay
    bob("memory", "erase", "--sessions", "--yes")
    assert "of bob" not in bob("sessions", "--failed", "--json").out
