"""Calls that wait, shown at a terminal, where a human is asked about each."""

from __future__ import annotations

import io
import sys

import pytest

from flameagent.cli.terminal import render
from flameagent.cli.terminal.approval_prompt import ApprovalPrompt
from flameagent.cli.terminal.screen import Screen
from flameagent.client.approvals import Pending
from flameagent.conversation import Call

_CALLS = (Call("call_a1", "launch", '{"what": "a"}'), Call("call_a2", "launch", "{}"), Call("call_b", "forget", ""))


@pytest.fixture
def pending() -> Pending:
    return Pending("app-1", "turn", "do it", "record", _CALLS)


def test_the_lines_that_decide_name_what_was_shown() -> None:
    calls = [Call("a b", "f", ""), Call("--always", "f", "")]
    approve, reject = render.how_to_decide("app-1", calls).splitlines()
    assert approve.endswith("approve app-1 -- 'a b' --always")
    assert reject.endswith("reject app-1 -- 'a b' --always")


def test_long_arguments_are_folded_and_shown_whole_where_that_is_wanted() -> None:
    calls = [Call("c", "write", "x" * 700), Call("call_2", "two", "a\nb")]
    assert render.calls(calls) == [
        f"  c       write({'x' * 594} … (107 more characters)",
        "  call_2  two(a",
        "          b)",
    ]
    assert render.calls(calls, whole=True)[0] == f"  c       write({'x' * 700})"


def _prompt(typed: str, monkeypatch: pytest.MonkeyPatch) -> ApprovalPrompt:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    return ApprovalPrompt(Screen())


def test_a_human_is_asked_about_each_call(
    pending: Pending, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    decision = _prompt("a\nno never\nLATER\n", monkeypatch).decide(pending)
    assert decision is not None
    assert (decision.approve, decision.reject, decision.reason, decision.always) == (
        ("call_a1",),
        ("call_a2",),
        "never",
        False,
    )
    question = "[a]pprove, [r]eject (and why), al[w]ays, [l]ater? "
    assert capsys.readouterr().out == (
        "3 calls wait for your decision:\n"
        '  call_a1  launch({"what": "a"})\n'
        "  call_a2  launch({})\n"
        "  call_b   forget()\n"
        f"call_a1: {question}call_a2: {question}call_b: {question}"
    )


def test_enter_alone_decides_nothing(pending: Pending, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _prompt("\n\n\n", monkeypatch).decide(pending) is None


def test_what_is_not_understood_is_asked_again(
    pending: Pending, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    decision = _prompt("perhaps\napprove not\nyes\n\n\n", monkeypatch).decide(pending)
    assert decision is not None and decision.approve == ("call_a1",)
    assert capsys.readouterr().out.count("Enter alone is later.") == 2


def test_the_end_of_standard_input_decides_nothing(pending: Pending, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EOFError):
        _prompt("a\n", monkeypatch).decide(pending)


def test_always_never_holds_for_a_call_that_was_approved_once(
    pending: Pending, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = _prompt("approve\nreject\nalways\n", monkeypatch)
    first = prompt.decide(pending)
    assert first is not None
    assert (first.approve, first.reject, first.always) == (("call_b",), ("call_a2",), True)
    capsys.readouterr()
    second = prompt.decide(Pending("app-1", "turn", "do it", "next", _CALLS[:1]))
    assert second is not None
    assert (second.on, second.approve, second.always) == ("next", ("call_a1",), False)
    assert capsys.readouterr().out == ""  # it was said already


def test_a_call_that_waits_again_after_a_decision_is_asked_about_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prompt = _prompt("approve\nreject\n", monkeypatch)
    interrupted = Pending("app-1", "turn", "do it", "record", _CALLS[:1])
    first, second = prompt.decide(interrupted), prompt.decide(interrupted)
    assert first is not None and second is not None
    assert (first.approve, second.reject) == (("call_a1",), ("call_a1",))


def test_a_call_of_a_clients_tool_can_only_be_rejected(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, ours = Call("call_c", "door", "{}", runner="client"), Call("call_d", "launch", "{}")
    pending = Pending("app-1", "turn", "do it", "record", (theirs, ours))
    decision = _prompt("a\nalways\nr late\na\n", monkeypatch).decide(pending)
    assert decision is not None and (decision.approve, decision.reject) == (("call_d",), ("call_c",))
    said = capsys.readouterr().out
    assert "call_c  door({}) (its client gives the result)" in said
    assert said.count("Only a client can give its result") == 2
    approve, reject = render.how_to_decide("app-1", pending.calls).splitlines()
    assert approve.endswith("approve app-1 call_d") and reject.endswith("reject app-1 call_c call_d")
    assert render.how_to_decide("app-1", [theirs]).startswith("Reject:")
