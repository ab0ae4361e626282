"""Failures of a turn as Answers."""

from __future__ import annotations

import pytest

from flameagent.apis import Answer, Question
from flameagent.conversation import (
    AlreadyDecidedError,
    CancelledError,
    ConflictError,
    ConversationError,
    DamagedError,
    MissingError,
    UnclearError,
    WaitingError,
)
from flameagent.flame.errors import Unreachable
from flameagent.model_choice import ModelError
from flameagent.service.failures import failed_answer

CODES: dict[str, tuple[Exception, str]] = {
    "conflict": (ConflictError("Someone was first."), "conflict"),
    "decided": (AlreadyDecidedError(), "conflict"),
    "cancelled": (CancelledError(), "cancelled"),
    "waiting": (WaitingError(), "waiting"),
    "damaged": (DamagedError(3, "Record 3 is missing."), "damaged"),
    "unclear": (UnclearError("It may have been added."), "unclear"),
    "missing": (MissingError("The objects are gone."), "failed"),
    "conversation": (ConversationError("Not so."), "failed"),
    "flame": (Unreachable("The cache does not answer."), "failed"),
    "model": (ModelError("No key."), "model"),
}


@pytest.mark.parametrize("name", CODES)
def test_an_error_is_its_sentence_under_its_code(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    error, code = CODES[name]
    assert failed_answer(error, Question("?")) == Answer("", error=str(error), code=code)
    assert capsys.readouterr().err == ""


def test_a_mistake_of_the_agent_is_a_sentence_and_its_traceback_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        raise KeyError("order")
    except KeyError as error:
        answer = failed_answer(error, Question("?"))
    assert (answer.answer, answer.code) == ("", "failed")
    assert "KeyError" in answer.error
    assert "test_failures.py" in capsys.readouterr().err
