"""The payloads of a task: the pickled Question is written here, the pickled Answer is read here.

Promises that reading either runs nothing: a pickle can name any function, and these name our own classes alone.
"""

from __future__ import annotations

import pickle
from typing import Any

from apis import Answer, Decision, Question
from flamewire.unpickling import unpickle


def write(question: Question) -> bytes:
    """The bytes that `flamepy.service.Session.invoke(question)` sends."""
    return pickle.dumps(question, protocol=4)


def name(question: Question) -> str:
    """The name that tells a task from others: the decision's ID where it carries one, otherwise the turn's.

    A turn has several tasks: its question, and each decision on its calls.
    """
    return question.decision.id if question.decision is not None else question.id


def task_name(data: bytes | None) -> str:
    """The `name` of the Question in a task's input; "" for an input that is none."""
    question = _read(data, Question, Decision)
    try:
        return _text(name(question)) if isinstance(question, Question) else ""
    except AttributeError:  # a decision that is none
        return ""


def turn_id(data: bytes | None) -> str:
    """The ID of the turn that the Question in a task's input asks or decides on; "" where it has none."""
    question = _read(data, Question, Decision)
    return _text(question.id) if isinstance(question, Question) else ""


def answer(data: bytes | None) -> Answer | None:
    """The Answer in a task's output; None for anything else."""
    found = _read(data, Answer)
    return found if isinstance(found, Answer) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _read(data: bytes | None, *kinds: type) -> Any:
    try:
        return unpickle(data, *kinds)
    except ValueError:
        return None
