"""The payloads of a task."""

import os
import pickle
import sys
from dataclasses import make_dataclass
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import pytest

from flameagent import wire
from flameagent.apis import Answer, Decision, MyContext, Question
from flameagent.client import payloads


class _Runs:
    def __reduce__(self) -> tuple[object, ...]:
        return os.putenv, ("PICKLE_RAN", "yes")


def test_a_message_is_written_under_the_name_that_it_always_had() -> None:
    for message in Question("q", decision=Decision("d", "r")), Answer("a"), MyContext("p"):
        data = wire.write([message, {"more": "flameagent.apis\nQuestion"}])
        assert wire.read_any(data) == [message, {"more": "flameagent.apis\nQuestion"}]
        assert f"capis\n{type(message).__name__}\n".encode() in data and b"cflameagent" not in data


def test_a_module_of_that_name_that_is_of_somebody_else_is_never_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "apis.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "apis", raising=False)
    assert wire.read_any(wire.write(Question("q"))) == Question("q")
    assert payloads.task_name(payloads.write(Question("q", "an-id"))) == "an-id"
    assert "apis" not in sys.modules


def test_a_message_of_a_program_with_its_own_apis_is_adopted() -> None:
    early = make_dataclass("Answer", [("answer", str), ("turn", int, 0)])
    assert wire.adopt(early("yes"), Answer) == Answer("yes")
    assert wire.adopt(Answer("no"), Answer) == Answer("no")
    for other in "yes", None, Question("q"), SimpleNamespace(answer="yes"):
        assert wire.adopt(other, Answer) is None


def test_a_question_is_what_flamepy_would_unpickle() -> None:
    question = Question("who? \ud800", "an-id", "a-model")
    assert wire.read_any(payloads.write(question)) == question
    assert payloads.task_name(payloads.write(question)) == "an-id"


def test_what_flamepy_pickles_is_read() -> None:
    answer = Answer("yes", turn=3, usage={"requests": 1})
    assert payloads.answer(cloudpickle.dumps(answer)) == answer
    assert payloads.task_name(cloudpickle.dumps(Question("q", "an-id"))) == "an-id"


def test_a_pickle_of_an_older_program_has_the_defaults() -> None:
    old = Answer("yes")
    del old.__dict__["note"], old.__dict__["code"]
    read = payloads.answer(pickle.dumps(old))
    assert read is not None and (read.answer, read.note, read.code) == ("yes", "", "")


@pytest.mark.parametrize(
    "data", [None, b"", b"garbage", pickle.dumps(_Runs()), pickle.dumps(MyContext("p")), b"\x80"]
)
def test_anything_else_is_nothing_and_runs_nothing(data: bytes | None) -> None:
    assert payloads.answer(data) is None
    assert payloads.task_name(data) == ""


def test_a_question_is_no_answer() -> None:
    assert payloads.answer(payloads.write(Question("q"))) is None
    assert payloads.task_name(pickle.dumps(Answer("a"))) == ""


def test_a_decision_is_a_task_of_its_own_on_the_same_turn() -> None:
    question = Question("forget it", "the-turn", decision=Decision("the-decision", "record", approve=("call",)))
    assert wire.read_any(payloads.write(question)) == question
    assert payloads.task_name(payloads.write(question)) == payloads.name(question) == "the-decision"
    assert payloads.task_name(cloudpickle.dumps(question)) == "the-decision"


def test_a_question_of_an_older_program_carries_no_decision() -> None:
    old = Question("q", "an-id")
    del old.__dict__["decision"], old.__dict__["stream"]
    assert payloads.task_name(pickle.dumps(old)) == "an-id"


@pytest.mark.parametrize("decision", ["no decision", {"id": "x"}, Answer("a")])
def test_a_decision_that_is_none_names_nothing(decision: object) -> None:
    question = Question("q", "an-id")
    question.decision = decision  # type: ignore[assignment]
    assert payloads.task_name(payloads.write(question)) == ""


def test_a_decision_is_no_answer_and_no_question() -> None:
    assert payloads.answer(pickle.dumps(Decision("d", "r"))) is None
    assert payloads.task_name(pickle.dumps(Decision("d", "r"))) == ""
