"""The promises to a user: facts outlive everything, and a human decides what the agent may do.

The model calls tools as a real one does (`assistant`). Everything is killed in between.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.flight as flight
import pytest

from flameagent.client import approvals, connect
from flameagent.client.client import Client
from flameagent.client.engine import Embedded
from flameagent.model_choice import choose
from tests.acceptance.assistant import assistant
from tests.acceptance.program import Program, ended, eventually, interrupt
from tests.acceptance.terminal import Terminal
from tests.conftest import REAL_MODEL
from tests.support.model_server import Call, ModelServer, Step, error

_INTRODUCTION = "My name is Ada and I live in Lisbon"
_NOTED = "Nice to meet you. I will remember that."
_QUESTION = "[a]pprove, [r]eject (and why), al[w]ays, [l]ater? "


@pytest.fixture(autouse=True)
def calls_tools(model: ModelServer, model_answers_as_ever: None) -> None:
    model.script = assistant


@pytest.fixture(scope="module")
def shared(embedded: Program, model: ModelServer) -> str:
    model.script = assistant
    session: str = embedded("-m", _INTRODUCTION, "--json").json["session_id"]
    return session


@pytest.fixture
def ada(embedded: Program, shared: str) -> str:
    """A session that knows Ada and her city, and in which nothing waits; its instance is warm."""
    if _history(embedded, shared)["waiting"]:
        embedded("reject", shared, "-q")
    embedded("-s", shared, "-q", "-m", _INTRODUCTION)  # what another session forgot since is forgotten here, too
    return shared


@dataclass(frozen=True)
class _Waiting:
    id: str
    call: str


@pytest.fixture
def waiting(embedded: Program, ada: str) -> _Waiting:
    """And now a call waits there."""
    asked = embedded("-s", ada, "-m", "forget my city", "--json", code=3).json
    assert [call["arguments"] for call in asked["pending"]] == ['{"key": "city"}']
    return _Waiting(ada, asked["pending"][0]["id"])


def _kill(program: Program) -> None:
    engine: int = program("engine", "status", "--json").json["pid"]
    os.kill(engine, signal.SIGKILL)
    eventually(lambda: not program("engine", "status", "--json").json.get("pid"))


def _history(program: Program, session: str) -> dict[str, Any]:
    found: dict[str, Any] = program("history", session, "--json").json
    return found


def _how(session: str, call: str = "call_4") -> str:
    return f"Approve: uv run client.py approve {session} {call}\nReject:  uv run client.py reject {session} {call}\n"


def _waits(program: Program, session: str) -> str:
    (call,) = _history(program, session)["waiting"]["pending"]
    return str(call["id"])


def _timeless(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", text)


@pytest.mark.timeout(300)
def test_facts_and_waiting_calls_outlive_an_engine_that_is_killed(own: Program) -> None:
    session = own("-m", _INTRODUCTION, "--json").json["session_id"]
    assert _history(own, session)["facts"] == {"name": "Ada", "city": "Lisbon"}

    _kill(own)
    assert own("-s", session, "-m", "What's my city?").out == (
        "Your city is Lisbon.\n"
        "\n"
        f"Session History ({session})\n"
        f"  user       {_INTRODUCTION}\n"
        "  assistant  Let me see.\n"
        '  call       remember({"key": "name", "value": "Ada"})\n'
        '  call       remember({"key": "city", "value": "Lisbon"})\n'
        "  result     Remembered name: Ada\n"
        "  result     Remembered city: Lisbon\n"
        f"  assistant  {_NOTED}\n"
        "* user       What's my city?\n"
        "* assistant  Let me see.\n"
        '* call       recall({"key": "city"})\n'
        "* result     city: Lisbon\n"
        "* assistant  Your city is Lisbon.\n"
    )

    asked = own("-s", session, "-m", "forget my city", code=3)
    assert asked.out == '1 call waits for your decision:\n  call_4  forget({"key": "city"})\n'
    assert asked.err == _how(session)
    assert _history(own, session)["facts"] == {"name": "Ada", "city": "Lisbon"}

    _kill(own)
    short = session.rpartition("-")[2]
    assert re.search(rf"^{short}  waiting +2 .* {_INTRODUCTION}$", own("sessions").out, re.MULTILINE)
    shown = own("history", session)
    assert _timeless(shown.out) == (
        f"Session {session} (waiting), 2 turns\n"
        "\n"
        "Turn 1 · TIME · gpt-5.6-luna\n"
        f"  user       {_INTRODUCTION}\n"
        "  assistant  Let me see. \n"
        '  call       remember({"key": "name", "value": "Ada"})\n'
        '  call       remember({"key": "city", "value": "Lisbon"})\n'
        "  result     Remembered name: Ada\n"
        "  result     Remembered city: Lisbon\n"
        f"  assistant  {_NOTED}\n"
        "  memory     remembered name: Ada\n"
        "  memory     remembered city: Lisbon\n"
        "\n"
        "Turn 2 · TIME · gpt-5.6-luna\n"
        "  user       What's my city?\n"
        "  assistant  Let me see. \n"
        '  call       recall({"key": "city"})\n'
        "  result     city: Lisbon\n"
        "  assistant  Your city is Lisbon.\n"
        "\n"
        "Waits for a decision\n"
        "  user       forget my city\n"
        '  call_4  forget({"key": "city"})\n'
    )
    assert shown.err == _how(session)

    approved = own("approve", session)
    assert approved.out.startswith(f"Forgot city.\n\nSession History ({session})\n")
    assert approved.out.endswith(
        "* user       forget my city\n"
        "* assistant  Let me see.\n"
        '* call       forget({"key": "city"})\n'
        "* result     Forgot city.\n"
        "* assistant  Forgot city.\n"
    )
    assert own("-s", session, "-q", "-m", "What's my city?").out == (
        "I do not know. Nothing is remembered about city. There are: name.\n"
    )
    last = _history(own, session)
    assert (last["state"], last["facts"], last["waiting"]) == ("open", {"name": "Ada"}, None)
    assert [turn["facts"] for turn in last["turns"]] == [
        {"name": "Ada", "city": "Lisbon"},
        {},
        {"city": None},
        {},
    ]
    assert "  memory     forgot city\n" in own("history", session).out


def _without_ids_and_times(history: dict[str, Any]) -> dict[str, Any]:
    assert history.pop("session_id")
    for turn in history["turns"]:
        assert turn.pop("turn_id") and turn.pop("at") and turn.pop("timing")
        assert all(decision.pop("at") for decision in turn["decisions"])
    return history


@pytest.mark.timeout(300)
def test_a_terminal_shows_what_comes_and_the_records_are_those_of_a_pipe(embedded: Program) -> None:
    embedded = embedded.having(AGENT_MEMORY="off")  # otherwise the second session begins with what the first one said
    piped = embedded("-m", _INTRODUCTION, "--json").json["session_id"]
    embedded("-s", piped, "-m", "What's my city?")
    embedded("-s", piped, "-m", "forget my city", code=3)
    embedded("approve", piped)

    seen = embedded.having(TERM="xterm-256color", NO_COLOR="1")
    first = Terminal(seen, "-m", _INTRODUCTION).ended()
    session = re.findall(r"Session History \((.*)\)", first)[0]
    assert f"Let me see.\n→ remember name, Ada\n→ remember city, Lisbon\n{_NOTED}\n\nSession History" in first
    recalled = Terminal(seen, "-s", session, "-m", "What's my city?").ended()
    assert "Let me see.\n→ recall city\nYour city is Lisbon.\n\nSession History" in recalled
    assert recalled.count("Your city is Lisbon.") == 1 and "* assistant  (the answer above)\n" in recalled

    forgets = Terminal(seen, "-s", session, "-m", "forget my city")
    forgets.type_when(f"call_4: {_QUESTION}", "maybe\n")
    forgets.type_when("Enter alone is later.", "approve\n")
    assert (
        "→ forget city\n"
        "1 call waits for your decision:\n"
        '  call_4  forget({"key": "city"})\n'
        f"call_4: {_QUESTION}maybe\n"
        "Say approve, reject, always or later, or its letter. Enter alone is later.\n"
        f"call_4: {_QUESTION}approve\n"
        "Forgot city.\n"
        "\n"
        "Session History"
    ) in forgets.ended()
    assert _without_ids_and_times(_history(embedded, session)) == _without_ids_and_times(_history(embedded, piped))
    assert len(_objects(embedded, session)) == 1


def _objects(program: Program, session: str) -> list[str]:
    """The keys of a session's objects in the embedded engine's cache, but for the events of its newest turn."""
    where = program("engine", "start", "--json").json["cache_endpoint"]
    with flight.FlightClient(where.replace("grpc://", "grpc+tcp://")) as client:
        keys = ["/".join(part.decode() for part in info.descriptor.path) for info in client.list_flights()]
    return [key for key in keys if f"/{session}/" in key and "/events-" not in key]


def test_an_answer_that_breaks_off_is_not_an_answer_and_leaves_nothing(
    embedded: Program, ada: str, model: ModelServer
) -> None:
    before = _history(embedded, ada)
    model.script = lambda request: Step(
        text="half of an answer that breaks off here", broken="chunked", chunk_delay=0.3
    )
    seen = Terminal(embedded, "-s", ada, "-m", "please").ended(code=1)
    shown, said = seen.split("\n", 1)
    assert shown and "half of an answer that breaks off here".startswith(shown)
    assert said.startswith(
        "The model's server broke off in the middle of its answer. Ask again. Nothing was added.\n"
    )
    after = _history(embedded, ada)
    assert [failure["question"] for failure in after.pop("failures")] == ["please"] and not before.pop("failures")
    assert after == before
    beside = [key for key in _objects(embedded, ada) if not key.endswith("/failures-0")]
    assert len(beside) == 1


def test_of_two_who_approve_at_once_one_wins(embedded: Program, waiting: _Waiting) -> None:
    runs = [embedded.start("approve", waiting.id, "--json") for _ in range(2)]
    lost, won = sorted((ended(run, code=None) for run in runs), key=lambda result: -result.code)
    assert (won.code, won.json["status"], won.json["answer"]) == (0, "answered", "Forgot city.")
    assert (lost.code, lost.error["code"], lost.error["session_id"]) == (6, "conflict", waiting.id)
    turns = _history(embedded, waiting.id)["turns"]
    assert [item.get("output") for item in turns[-1]["items"]].count("Forgot city.") == 1
    again = embedded("approve", waiting.id, code=6)
    assert (again.out, again.err) == ("", "Nothing waits for a decision in this session.\n")


def test_a_rejected_call_does_not_run_and_the_model_hears_why(
    embedded: Program, waiting: _Waiting, model: ModelServer
) -> None:
    elsewhere = embedded.having(OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    why = "I still live there."
    rejected = elsewhere("reject", waiting.id, waiting.call, "--reason", why, "-q", "--base-url", model.url)
    assert (rejected.out, rejected.err) == ("A human rejected this call. I still live there.\n", "")
    assert _history(embedded, waiting.id)["facts"] == {"name": "Ada", "city": "Lisbon"}


def test_tab_completes_the_calls_that_wait(embedded: Program, waiting: _Waiting, tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "flame-agent"
    if not program.exists():
        pytest.skip("the project is not installed in this environment")
    installed = replace(embedded, command=(str(program),)).having(FLAME_AGENT_APP="openai-agent")

    def completed(words: str, **environment: str) -> list[str]:
        typed = {"COMP_WORDS": f"flame-agent {words}", "COMP_CWORD": str(len(words.split(" ")))}
        asked = installed.having(**typed, _FLAME_AGENT_COMPLETE="complete_bash", **environment)()
        assert asked.err == ""
        return asked.out.split()

    assert completed(f"approve {waiting.id} ") == [waiting.call]
    assert completed(f"reject {waiting.id} {waiting.call[:3]}") == [waiting.call]
    assert completed(f"reject {waiting.id} no-such") == completed("approve no-such ") == []
    at_rest = tmp_path / "at-rest"
    assert completed(f"approve {waiting.id} ", LOCALFLAME_HOME=str(at_rest)) == []
    assert not at_rest.exists()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        begun = time.monotonic()
        assert completed(f"approve {waiting.id} ", FLAME_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}") == []
        assert time.monotonic() - begun < 6  # where a frontend has 8 s to show itself


def test_what_a_model_wrote_means_nothing_to_the_shell(embedded: Program, ada: str, model: ModelServer) -> None:
    program = Path(sys.executable).parent / "flame-agent"
    if not program.exists():
        pytest.skip("the project is not installed in this environment")
    arguments = json.dumps({"key": "\" <(touch it) [/b] $(touch it) 'x' `touch it`\\\n"})
    ids = ("call-it", "$(touch)", "a b")
    model.steps.append(Step(calls=tuple(Call("forget", arguments, each) for each in ids)))
    asked = embedded("-s", ada, "-m", "forget that", "--json", code=3).json
    assert [call["id"] for call in asked["pending"]] == list(ids)
    typed = {
        "_TYPER_COMPLETE_ARGS": f"flame-agent approve {ada} ",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "FLAME_AGENT_APP": "openai-agent",
    }
    about = "forget({key: (touch it) /b (touch it) x touch itn})"
    for shell, told in (
        ("zsh", """_arguments '*: :(("call-it":"ABOUT"))'\n""".replace("ABOUT", about.replace(":", r"\\:"))),
        ("fish", f"call-it\t{about}\n"),
    ):
        run = replace(embedded, command=(str(program),)).having(**typed, _FLAME_AGENT_COMPLETE=f"complete_{shell}")()
        assert (run.out, run.err) == (told, "")


def test_calls_are_decided_one_by_one_and_always(embedded: Program) -> None:
    ada = embedded("-m", _INTRODUCTION, "--json").json["session_id"]
    both = embedded("-s", ada, "-m", "forget my city and my name", "--json", code=3)
    city = {"id": "call_3", "tool": "forget", "arguments": '{"key": "city"}'}
    name = {"id": "call_4", "tool": "forget", "arguments": '{"key": "name"}'}
    assert (both.err, both.json["status"], both.json["pending"]) == ("", "awaiting_approval", [city, name])
    assert embedded("approve", ada, "call", code=2).err == (
        "2 calls have 'call' in their ID: call_3, call_4. Give more of it.\n"
    )
    assert embedded("reject", ada, "call_5", code=6).err == (
        "The call 'call_5' does not wait; these do: call_3, call_4.\n"
    )
    part = embedded("reject", ada, "4", code=3)
    assert part.out == '1 call waits for your decision:\n  call_3  forget({"key": "city"})\n'
    assert _history(embedded, ada)["waiting"]["pending"] == [city]
    assert embedded("approve", ada, "--always", "-q").out == "A human rejected this call. Forgot city.\n"
    assert embedded("-s", ada, "-q", "-m", "forget my name").out == "Forgot name.\n"
    assert _history(embedded, ada)["facts"] == {}


def test_a_new_question_is_refused_while_a_call_waits(embedded: Program, waiting: _Waiting) -> None:
    refused = embedded("-s", waiting.id, "-m", "What's my city?", code=3)
    assert refused.out == ""
    assert refused.err == (
        "A tool call of this conversation waits for an approval: decide on it first.\n"
        f'  {waiting.call}  forget({{"key": "city"}})\n' + _how(waiting.id, waiting.call)
    )
    machine = embedded("-s", waiting.id, "-m", "What's my city?", "--json", code=3)
    assert (machine.json["status"], machine.json["pending"][0]["id"]) == ("awaiting_approval", waiting.call)
    assert machine.error["code"] == "waiting"
    quiet = embedded("-s", waiting.id, "-q", "-m", "What's my city?", code=3)
    assert (quiet.out, waiting.call in quiet.err) == ("", True)


def test_ctrl_c_and_enter_leave_a_call_waiting(embedded: Program, ada: str) -> None:
    plain = embedded.having(TERM="dumb")
    asked = Terminal(plain, "-s", ada, "-m", "forget my city")
    asked.type_when(_QUESTION, "a")
    interrupt(asked.run)
    assert asked.ended(code=3).endswith(_how(ada, _waits(embedded, ada)))
    embedded("reject", ada, "-q")
    asked = Terminal(plain, "-s", ada, "-m", "forget my city")
    asked.type_when(_QUESTION, "\n")
    assert asked.ended(code=3).endswith(_how(ada, _waits(embedded, ada)))
    assert _history(embedded, ada)["state"] == "waiting"


def test_a_decision_that_was_interrupted_is_told_and_decided_again(
    embedded: Program, waiting: _Waiting, model: ModelServer
) -> None:
    model.steps.append(error(400, "not now"))
    failed = embedded.having(LOGNAME="ada")("approve", waiting.id, code=1)
    assert failed.out == ""
    assert failed.err.endswith(f"See what waits, and what may have run: uv run client.py history {waiting.id}\n")
    assert embedded("history", waiting.id).out.endswith(
        f'  {waiting.call}  forget({{"key": "city"}})\n'
        f"ada approved {waiting.call}; the turn did not come to its end: what was approved may have run.\n"
    )
    assert _history(embedded, waiting.id)["waiting"]["decision"] == {
        "by": "ada",
        "approved": [waiting.call],
        "rejected": [],
        "always": [],
        "reason": "",
    }
    elsewhere = embedded.having(OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert elsewhere("approve", waiting.id, "-q", "--base-url", model.url).out == "Forgot city.\n"


def test_a_python_program_is_told_what_comes_and_decides(
    embedded: Program, ada: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALFLAME_HOME", embedded.environment["LOCALFLAME_HOME"])
    told: list[str] = []
    with connect(environ=embedded.environment) as client:

        def calls(tool: str, arguments: str) -> None:
            told.append(f"<{tool} {arguments}>")

        waits = client.ask("forget my city and my name", ada, on_text=told.append, on_call=calls)
        assert "".join(told) == 'Let me see. <forget {"key": "city"}><forget {"key": "name"}>'
        assert waits.pending is not None and len(waits.pending.calls) == 2
        told.clear()
        city, name = (call.id for call in waits.pending.calls)
        done = client.decide(ada, approve=[city], reject=[name], reason="Not me.", on_text=told.append)
        assert done.answer == "".join(told) == "Forgot city. A human rejected this call. Not me."
        assert done.pending is None and client.history(ada).conversation is not None


def test_a_python_program_goes_on_when_the_engine_has_left_meanwhile(own: Program) -> None:
    with connect(environ=own.environment) as client:
        session = client.ask(_INTRODUCTION).session_id

        def left() -> Client:
            assert isinstance(client.engine, Embedded) and client.engine.stop()
            return client

        waits = client.ask("forget my city", session).pending
        assert waits is not None
        decision = approvals.make_decision(waits, [call.id for call in waits.calls], by="ada")
        turn = left().prepare_decision(waits, decision)
        turn.send()
        assert turn.wait().answer == "Forgot city."
        again = left().retry(session).pending
        assert again is not None and again.calls[0].id != waits.calls[0].id
        assert left().decide(session, reject=[again.calls[0].id]).answer == "A human rejected this call."
        assert left().fork(session).turns == 2
        assert len(left().sessions()) == 2
        left().reach()


@pytest.mark.skipif(choose(REAL_MODEL).fallback, reason="no key of a real model is set")
def test_a_real_model_remembers_and_recalls_through_its_tools(own: Program) -> None:
    real = own.having(OPENAI_API_KEY=None, OPENAI_BASE_URL=None).having(**REAL_MODEL)
    said = real("-m", f"{_INTRODUCTION}. Remember both.", "--json").json
    assert "Lisbon" in _history(real, said["session_id"])["facts"].values()
    _kill(real)
    asked = real("-s", said["session_id"], "-m", "What's my city? Use your recall tool.", "--json").json
    assert "recall" in [item.get("name") for item in asked["added"]]
    assert "Lisbon" in asked["answer"]
