"""Calls that wait: chosen by a part of their ID, shown, and decided on at a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from flameagent.cli.terminal import render
from flameagent.cli.terminal.approval_prompt import ApprovalPrompt
from flameagent.cli.terminal.screen import Screen
from flameagent.client import approvals
from flameagent.client.approvals import Pending
from flameagent.client.errors import ConflictError, UsageError
from flameagent.conversation import Call, DecisionBody

_CALLS = (Call("call_a1", "launch", '{"what": "a"}'), Call("call_a2", "launch", "{}"), Call("call_b", "forget", ""))


@pytest.fixture
def pending() -> Pending:
    return Pending("app-1", "turn", "do it", "record", _CALLS)


def test_without_a_name_all_calls_are_meant(pending: Pending) -> None:
    assert pending.chosen([]) == ("call_a1", "call_a2", "call_b")


def test_a_call_is_named_by_its_id_or_a_part(pending: Pending) -> None:
    assert pending.chosen(["b", "call_b", "a1"]) == ("call_b", "call_a1")
    exact = Pending("app-1", "turn", "do it", "record", (Call("a", "f", ""), Call("ab", "f", "")))
    assert exact.chosen(["a"]) == ("a",)


def test_the_whole_id_of_another_call_is_no_part() -> None:
    ten = Pending("app-1", "turn", "do it", "record", (Call("call_10", "f", ""),), others=frozenset({"call_1"}))
    with pytest.raises(ConflictError):
        ten.chosen(["call_1"])
    assert ten.chosen(["10"]) == ("call_10",)


def test_the_lines_that_decide_name_what_was_shown() -> None:
    calls = [Call("a b", "f", ""), Call("--always", "f", "")]
    approve, reject = render.how_to_decide("app-1", calls).splitlines()
    assert approve.endswith("approve app-1 -- 'a b' --always")
    assert reject.endswith("reject app-1 -- 'a b' --always")


def test_a_part_that_several_calls_have_names_them(pending: Pending) -> None:
    with pytest.raises(UsageError) as raised:
        pending.chosen(["a"])
    assert str(raised.value) == "3 calls have 'a' in their ID: call_a1, call_a2, call_b. Give more of it."


@pytest.mark.parametrize("part", ["x", ""])
def test_a_call_that_does_not_wait_is_a_conflict(pending: Pending, part: str) -> None:
    with pytest.raises(ConflictError) as raised:
        pending.chosen([part])
    assert str(raised.value) == f"The call {part!r} does not wait; these do: call_a1, call_a2, call_b."


def test_a_decision_names_what_was_shown_and_who_decides(pending: Pending, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    made = approvals.decision(pending, ["call_b"], ["call_a1"], "no", True)
    assert (made.on, made.approve, made.reject) == ("record", ("call_b",), ("call_a1",))
    assert (made.reason, made.always, made.by) == ("no", True, "ada")
    assert made.id != approvals.decision(pending).id
    assert approvals.decision(pending, by="").by == ""


def test_what_waits_is_json(pending: Pending) -> None:
    assert pending.as_json()["pending"][2] == {"id": "call_b", "tool": "forget", "arguments": ""}
    decided = Pending(
        "a", "t", "q", "r", (), DecisionBody("d", "r", ["x"], ["y"], reason="no", always_approved=["f"], by="ada")
    )
    assert decided.as_json()["decision"] == {
        "by": "ada",
        "approved": ["x"],
        "rejected": ["y"],
        "always": ["f"],
        "reason": "no",
    }


def test_long_arguments_are_folded_and_shown_whole_where_that_is_wanted() -> None:
    calls = [Call("c", "write", "x" * 700), Call("call_2", "two", "a\nb")]
    assert render.calls(calls) == [
        f"  c       write({'x' * 594} … (107 more characters)",
        "  call_2  two(a",
        "          b)",
    ]
    assert render.calls(calls, whole=True)[0] == f"  c       write({'x' * 700})"


def _human(typed: str, monkeypatch: pytest.MonkeyPatch) -> ApprovalPrompt:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    return ApprovalPrompt(Screen())


def test_a_human_is_asked_about_each_call(
    pending: Pending, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    decision = _human("a\nno never\nLATER\n", monkeypatch).decide(pending)
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
    assert _human("\n\n\n", monkeypatch).decide(pending) is None


def test_what_is_not_understood_is_asked_again(
    pending: Pending, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    decision = _human("perhaps\napprove not\nyes\n\n\n", monkeypatch).decide(pending)
    assert decision is not None and decision.approve == ("call_a1",)
    assert capsys.readouterr().out.count("Enter alone is later.") == 2


def test_the_end_of_standard_input_decides_nothing(pending: Pending, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EOFError):
        _human("a\n", monkeypatch).decide(pending)


def test_always_never_holds_for_a_call_that_was_approved_once(
    pending: Pending, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    human = _human("approve\nreject\nalways\n", monkeypatch)
    first = human.decide(pending)
    assert first is not None
    assert (first.approve, first.reject, first.always) == (("call_b",), ("call_a2",), True)
    capsys.readouterr()
    second = human.decide(Pending("app-1", "turn", "do it", "next", _CALLS[:1]))
    assert second is not None
    assert (second.on, second.approve, second.always) == ("next", ("call_a1",), False)
    assert capsys.readouterr().out == ""  # it was said already


def test_a_call_that_waits_again_after_a_decision_is_asked_about_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    human = _human("approve\nreject\n", monkeypatch)
    interrupted = Pending("app-1", "turn", "do it", "record", _CALLS[:1])
    first, second = human.decide(interrupted), human.decide(interrupted)
    assert first is not None and second is not None
    assert (first.approve, second.reject) == (("call_a1",), ("call_a1",))
