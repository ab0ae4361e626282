"""A human decides on what they are shown: calls of nested runs that a model gives one ID are two decisions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.program import Program, ended
from tests.acceptance.terminal import Terminal
from tests.chaos.storm import checkout
from tests.support.desk import AGENTS, desk
from tests.support.model_server import ModelServer

_BOTH = "ask_clerk: refund 7; ask_clerk: refund 8"


@pytest.fixture(scope="module")
def served() -> Iterator[ModelServer]:
    with ModelServer(script=desk, strict=True) as model:
        yield model


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, served: ModelServer) -> Iterator[Program]:
    """The client of a project whose desk asks a clerk."""
    agent = AGENTS.replace('open("effects"', 'open("refunds"')
    program = checkout(tmp_path_factory.mktemp("desk"), agent, served, LOGNAME="ada")
    yield program
    program("engine", "stop")


@pytest.fixture(autouse=True)
def nothing_was_refunded(program: Program) -> None:
    _file(program).unlink(missing_ok=True)


def _file(program: Program) -> Path:
    return program.folder / "refunds"


def _refunded(program: Program) -> list[str]:
    return _file(program).read_text().splitlines() if _file(program).exists() else []


def _asked(program: Program, question: str, session: str | None = None) -> tuple[str, dict[str, str]]:
    """The session, and the IDs of the calls that wait by what they want."""
    asked = program(*(["-s", session] if session else []), "-m", question, "--json", code=3).json
    return asked["session_id"], _wanted(asked["pending"])


def _wanted(pending: list[dict[str, Any]]) -> dict[str, str]:
    wanted = {f"{call['agent']}: {call['tool']}({call['arguments']})": call["id"] for call in pending}
    assert len(wanted) == len(pending) == len(set(wanted.values()))
    return wanted


@pytest.mark.parametrize("verb", ["approve", "reject"])
def test_each_of_two_calls_with_one_id_is_decided_alone(program: Program, verb: str) -> None:
    session, calls = _asked(program, _BOTH)
    seven, eight = (calls[f'clerk: refund({{"order": {order}}})'] for order in (7, 8))
    first = program.having(LOGNAME="bob")("approve", session, eight, code=3)
    assert first.out == f'1 call waits for your decision:\n  {seven}  clerk: refund({{"order": 7}})\n'
    assert f"approve {session} {seven}\n" in first.err
    assert _refunded(program) == ["refund 8"]

    program("engine", "stop")
    waiting = program("history", session, "--json").json["waiting"]
    assert [call["id"] for call in waiting["pending"]] == [seven]
    assert program("approve", session, eight, code=6).err.startswith(f"The call '{eight}' does not wait")
    program(verb, session, seven, "-q")
    assert _refunded(program) == (["refund 8", "refund 7"] if verb == "approve" else ["refund 8"])
    (turn,) = program("history", session, "--json").json["turns"]
    assert [(each["by"], each["approved"], each["rejected"]) for each in turn["decisions"]] == [
        ("bob", [eight], []),
        ("ada", [seven], []) if verb == "approve" else ("ada", [], [seven]),
    ]
    shown = program("history", session).out
    assert f'bob approved clerk: refund({{"order": 8}}) ({eight})' in shown
    assert f'ada {verb.rstrip("e")}ed clerk: refund({{"order": 7}}) ({seven})' in shown
    for form in ("md", "html"):
        exported = program("export", session, "--format", form).out
        assert eight in exported and "bob approved clerk: refund" in exported


def test_without_ids_all_that_wait_run_and_are_named(program: Program) -> None:
    session, calls = _asked(program, _BOTH)
    approved = program("approve", session)
    assert sorted(_refunded(program)) == ["refund 7", "refund 8"]
    assert approved.err.startswith("Approved:\n")
    assert all(f"{call}  {what}" in approved.err for what, call in calls.items())
    assert program("approve", session, code=6).err == "Nothing waits for a decision in this session.\n"


def test_always_holds_for_later_calls_and_not_for_one_that_was_shown(program: Program) -> None:
    session, calls = _asked(program, _BOTH)
    first, second = calls.values()
    program("approve", session, first, "--always", code=3)
    assert len(_refunded(program)) == 1
    program("reject", session, second)
    program("-s", session, "-m", "ask_clerk: refund 9", "-q")
    assert _refunded(program)[1:] == ["refund 9"]
    assert list(_asked(program, "ask_clerk: void 9", session)[1]) == ['clerk: void({"order": 9})']


def test_of_two_who_approve_one_call_each_at_once_none_runs_twice(program: Program) -> None:
    session, calls = _asked(program, _BOTH)
    runs = [program.start("approve", session, call, "--json") for call in calls.values()]
    done = [ended(run, code=None) for run in runs]
    for (what, call), result in zip(calls.items(), done, strict=True):
        assert result.code in (0, 3, 6)
        if result.code == 6:  # the other was first: what this one was told of waits on, and is approved
            assert what.partition("(")[0] and program("approve", session, call).code == 0
    assert sorted(_refunded(program)) == ["refund 7", "refund 8"]
    assert program("history", session, "--json").json["waiting"] is None


def test_what_came_after_the_listing_is_not_approved(program: Program) -> None:
    session, first = _asked(program, "ask_clerk: refund 7")
    (seen,) = first.values()
    program("reject", session)
    _, second = _asked(program, "ask_clerk: refund 8", session)
    assert program("approve", session, seen, code=6).err.startswith(f"The call '{seen}' does not wait")
    assert _refunded(program) == []
    program("reject", session, *second.values())


def test_a_bare_approve_asks_about_each_call_at_a_terminal(program: Program) -> None:
    session, calls = _asked(program, _BOTH)
    seven, eight = (calls[f'clerk: refund({{"order": {order}}})'] for order in (7, 8))
    later = Terminal(program, "approve", session)
    later.type_when("[l]ater? ", "\n")
    later.type_when(f"{eight}: [a]pprove", "later\n")
    assert f"approve {session} {seven} {eight}\n" in later.ended(3)
    assert _refunded(program) == []

    asks = Terminal(program, "approve", session)
    asks.type_when(f"{seven}: [a]pprove", "a\n")
    asks.type_when(f"{eight}: [a]pprove", "reject too much\n")
    said = asks.ended()
    assert "2 calls wait for your decision:" in said and "Session History" in said
    assert _refunded(program) == ["refund 7"]
