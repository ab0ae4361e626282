"""The payloads of a task: the pickled Question is written here, the pickled Answer is read here.

Promises that reading either runs nothing: a pickle can name any function, and these name our own classes alone.
"""

from __future__ import annotations

from typing import Any

from flameagent import wire
from flameagent.apis import Answer, Decision, Question


def write(question: Question) -> bytes:
    """The bytes that `flamepy.service.Session.invoke(question)` sends."""
    return wire.write(question)


def name(asked: Question) -> str:
    """The name that tells a task from others: the decision's ID where it carries one, otherwise the turn's.

    A turn has several tasks: its question, and each decision on its calls.
    """
    return asked.decision.id if asked.decision is not None else asked.id


def question(data: bytes | None) -> Question | None:
    """The Question in a task's input; None for an input that is none."""
    found = _read(data, Question, Decision)
    return found if isinstance(found, Question) else None


def task_name(data: bytes | None) -> str:
    """The `name` of the Question in a task's input; "" for an input that is none."""
    asked = question(data)
    try:
        return _text(name(asked)) if asked is not None else ""
    except AttributeError:  # a decision that is none
        return ""


def turn_id(data: bytes | None) -> str:
    """The ID of the turn that the Question in a task's input asks or decides on; "" where it has none."""
    asked = question(data)
    return _text(asked.id) if asked is not None else ""


def answer(data: bytes | None) -> Answer | None:
    """The Answer in a task's output; None for anything else."""
    found = _read(data, Answer)
    return found if isinstance(found, Answer) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _read(data: bytes | None, *kinds: type) -> Any:
    try:
        return wire.read(data, *kinds)
    except ValueError:
        return None
