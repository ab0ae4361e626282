"""The client's errors and the one table of outcomes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flameagent import conversation, flame, outcomes
from flameagent.client import errors
from flameagent.client.connection import translate_errors


def _kinds(kind: type[errors.ClientError] = errors.ClientError) -> Iterator[type[errors.ClientError]]:
    yield kind
    for other in kind.__subclasses__():
        yield from _kinds(other)


def test_each_kind_has_the_exit_code_of_its_word() -> None:
    codes = {kind.code: kind.exit_code for kind in _kinds()}
    assert codes == {
        "failed": 1,
        "usage": 2,
        "waiting": 3,
        "no_session": 4,
        "ambiguous": 4,
        "closed": 4,
        "no_engine": 5,
        "not_registered": 5,
        "conflict": 6,
        "timeout": 7,
        "unclear": 7,
        "damaged": 8,
        "output": 1,
        "interrupted": 130,
    }
    assert set(outcomes.ERRORS) - set(codes) == {
        "model",
        "tool",
        "cancelled",
        "budget_reached",
    }  # of a turn that failed
    assert {error.exit_code for error in outcomes.ERRORS.values()} | {0, outcomes.ADDED} == set(outcomes.EXIT_CODES)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (flame.Misconfigured("x"), errors.UsageError),
        (flame.Mismatch("x"), errors.NoEngine),
        (flame.NotFlame("x"), errors.NoEngine),
        (flame.NotFound("x"), errors.NoSuchSession),
        (flame.NotOpen("x"), errors.SessionClosed),
        (flame.Unclear("x"), errors.UnclearError),
        (flame.CacheFull("x"), errors.ClientError),
        (conversation.MissingError("x"), errors.DamagedError),
        (conversation.DamagedError(1, "x"), errors.DamagedError),
        (conversation.ConflictError("x"), errors.ConflictError),
        (conversation.CancelledError(), errors.ConflictError),
        (conversation.UnclearError("x"), errors.UnclearError),
        (conversation.WaitingError(), errors.ClientError),
        (conversation.ConversationError("x"), errors.ClientError),
    ],
)
def test_an_error_of_flame_or_a_conversation_is_raised_as_its_kind(
    error: Exception, raised: type[errors.ClientError]
) -> None:
    with pytest.raises(errors.ClientError) as caught, translate_errors("app-1"):
        raise error
    assert type(caught.value) is raised
    assert (str(caught.value), caught.value.session_id) == (str(error), "app-1")


def test_each_error_of_a_conversation_has_a_code_of_answers() -> None:
    kinds = [kind for kind in vars(conversation).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    codes = {kind.code for kind in kinds}
    known = {
        "failed",
        "damaged",
        "conflict",
        "cancelled",
        "budget_reached",
        "waiting",
        "unclear",
        "usage",
        "no_session",
    }
    assert known == codes
    assert all(outcomes.ERRORS[code].in_answers for code in codes)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(ValueError, match="x"), translate_errors():
        raise ValueError("x")
