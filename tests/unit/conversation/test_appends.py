"""What became of appends is counted, for metrics."""

from __future__ import annotations

import pytest

from flameagent.conversation import ConflictError, ConversationLog, EditBody, UnclearError
from flameagent.conversation.log import Appends
from flameagent.flame import Unclear
from tests.support.conversations import begin, turn
from tests.support.memory_cache import MemoryCache


class Vague(MemoryCache):
    """A cache that does not say what became of a patch, and has not taken it, so often."""

    lost = 0

    def patch(self, key: str, data: bytes) -> int:
        if self.lost:
            self.lost -= 1
            raise Unclear("It went away.")
        return super().patch(key, data)


def logs(cache: MemoryCache) -> tuple[ConversationLog, ConversationLog]:
    key = begin(cache)
    one, other = ConversationLog(cache, key, patience=0.2), ConversationLog(cache, key, patience=0.2)
    one.refresh()
    other.refresh()
    return one, other


def test_an_append_that_another_one_was_before_is_tried_again() -> None:
    one, other = logs(MemoryCache())
    other.append(turn("first"))
    one.append(turn("second"), read=False)
    assert one.appends == Appends(added=1, retries=1)
    assert other.appends == Appends(added=1)


def test_a_conflict_is_counted_and_nothing_is_added() -> None:
    one, other = logs(MemoryCache())
    revision = one.conversation.revision
    other.append(EditBody("clear"))
    with pytest.raises(ConflictError):
        one.append(turn("late"), revision=revision)
    assert one.appends == Appends(conflicts=1)


def test_what_nobody_knows_of_is_unclear() -> None:
    cache = Vague()
    one, _ = logs(cache)
    cache.lost = 1
    one.append(turn("again"))
    assert one.appends == Appends(added=1, retries=1)
    cache.lost = 1000
    with pytest.raises(UnclearError):
        one.append(turn("never"))
    assert (one.appends.unclear, one.appends.added) == (1, 1)
