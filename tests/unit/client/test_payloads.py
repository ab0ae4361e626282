"""The payloads of a task."""

import os
import pickle

import cloudpickle
import pytest

from apis import Answer, Decision, MyContext, Question
from flameagent.client import payloads


class _Runs:
    def __reduce__(self) -> tuple[object, ...]:
        return os.putenv, ("PICKLE_RAN", "yes")


def test_a_question_is_what_flamepy_would_unpickle() -> None:
    question = Question("who? \ud800", "an-id", "a-model")
    assert pickle.loads(payloads.write(question)) == question
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
    assert pickle.loads(payloads.write(question)) == question
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
