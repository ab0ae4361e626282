"""Calls that wait: chosen by a part of their ID, and decided on."""

from __future__ import annotations

import pytest

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
    made = approvals.make_decision(pending, ["call_b"], ["call_a1"], "no", True)
    assert (made.on, made.approve, made.reject) == ("record", ("call_b",), ("call_a1",))
    assert (made.reason, made.always, made.by) == ("no", True, "ada")
    assert made.id != approvals.make_decision(pending).id
    assert approvals.make_decision(pending, by="").by == ""


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
