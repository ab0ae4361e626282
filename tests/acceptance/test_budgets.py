"""Budgets of a turn and of a session, as the settings have them: on the command line, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.program import Program
from tests.support.model_server import Call, ModelServer, Step

RECALLS = Step(calls=(Call("recall", '{"key": "tea"}'),))


@pytest.fixture
def thrifty(embedded: Program, model: ModelServer) -> Iterator[Program]:
    model.requests.clear()
    yield embedded.having(AGENT_MEMORY="off", AGENT_SUMMARY="off", AGENT_MODEL="thrifty")


def asked(model: ModelServer) -> int:
    return sum(request.path.endswith("/chat/completions") for request in model.requests)


def refused(program: Program, *arguments: str) -> str:
    """The sentence of a turn that its budget ends."""
    result = program(*arguments, "--json", code=1)
    assert result.error["code"] == "budget_reached"
    assert result.json["status"] == "failed"
    return str(result.error["message"])


def turns(program: Program, session: str) -> list[str]:
    return [turn["question"] for turn in program("history", session, "--json").json["turns"]]


def test_a_turn_that_reaches_its_budget_adds_nothing_and_is_retried_with_a_higher_one(
    thrifty: Program, model: ModelServer
) -> None:
    session = thrifty("-m", "first", "--json").json["session_id"]
    model.requests.clear()
    model.steps += [RECALLS]
    said = refused(thrifty.having(AGENT_TOKENS_A_TURN="1"), "-s", session, "-m", "which tea?")
    assert said.startswith("This turn may use 1 tokens (AGENT_TOKENS_A_TURN), and has used ")
    assert asked(model) == 1, "the tool's output was not sent"
    assert turns(thrifty, session) == ["first"]
    model.steps += [RECALLS, Step("Green.")]
    raised = thrifty.having(AGENT_TOKENS_A_TURN="1000000")
    assert raised("-s", session, "-q", "-m", "which tea?").out == "Green.\n"
    model.steps += [RECALLS]
    refused(thrifty.having(AGENT_TOKENS_A_TURN="1"), "retry", session)
    assert turns(thrifty, session) == ["first"]  # taken back by `retry`, as by any
    model.steps += [RECALLS, Step("Black.")]
    assert raised("retry", session, "-q").out == "Black.\n"
    assert turns(thrifty, session) == ["first", "which tea?"]


def test_a_session_has_a_budget_of_all_its_turns(thrifty: Program, model: ModelServer) -> None:
    first = thrifty("-m", "one", "--json").json
    session, used = first["session_id"], first["usage"]
    spent = used["input_tokens"] + used["output_tokens"]
    model.requests.clear()
    limited = thrifty.having(AGENT_TOKENS_A_SESSION=str(spent))
    said = refused(limited, "-s", session, "-m", "two")
    assert said.startswith(f"This session may use {spent} tokens (AGENT_TOKENS_A_SESSION), and has used {spent}.")
    assert asked(model) == 0
    thrifty("rewind", session, "--to", "0")
    refused(limited, "-s", session, "-m", "two")  # what was taken back was used all the same
    copy = thrifty("fork", session, "--json").json["session_id"]
    assert limited("-s", copy, "-q", "-m", "two").out == "answer 1: two\n", "a copy has used nothing yet"
    more = thrifty.having(AGENT_TOKENS_A_SESSION=str(spent + 1))
    assert more("-s", session, "-q", "-m", "two").out == "answer 1: two\n"
    refused(more, "-s", session, "-m", "three")


def test_money_is_counted_by_the_prices_of_the_settings_file(thrifty: Program, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    program = thrifty.having(HOME=str(home))
    settings = program.settings
    settings.parent.mkdir(parents=True)
    assert (
        "AGENT_MONEY_A_SESSION is set, and the settings have no `prices`"
        in program.having(AGENT_MONEY_A_SESSION="1")("-m", "one", code=2).err
    )
    settings.write_text("money_a_session = 0.5\n[prices.thrifty]\ninput = 1_000_000\noutput = 0\n")
    session = program("-m", "one", "--json").json["session_id"]
    said = refused(program, "-s", session, "-m", "two")
    assert said.startswith("This session may cost 0.5 (AGENT_MONEY_A_SESSION), and has cost ")
    note: Any = program.having(AGENT_MODEL="unpriced")("-m", "one", "--json").json["note"]
    assert note == "AGENT_MONEY_A_SESSION cannot count this turn: there is no price for unpriced."
    shown = program("status", "--json").json["settings"]["money_a_session"]
    assert shown["value"] == "0.5" and shown["source"].startswith("money_a_session in ")
    assert "\nmoney_a_session  0.5 (settings file)\n" in program("status").out
    settings.write_text('tokens_a_turn = "many"\n')
    assert "tokens_a_turn is a number, not 'many'" in program("-m", "one", code=2).err
    wrong = thrifty.having(AGENT_TOKENS_A_TURN="many")("-m", "one", "--json", code=2)
    assert wrong.error["code"] == "usage"
    assert wrong.error["message"].startswith("AGENT_TOKENS_A_TURN is a whole number of tokens above 0, not 'many'.")
