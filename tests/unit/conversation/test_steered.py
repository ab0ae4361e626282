"""Messages that a turn has taken in while it ran: answered with it for as long as it is known."""

from __future__ import annotations

import pytest

from flameagent.conversation import ConflictError, FlameSession, StagedTurn, TurnBody
from flameagent.conversation.state import RECENT
from tests.support.conversations import begin, cold, message, turn
from tests.support.memory_cache import MemoryCache


def _with_messages() -> TurnBody:
    answer = {"answer": "that", "turn": 1, "turn_id": "t", "steered": ["m-1", "m-2"]}
    return TurnBody("t", "what?", [message("what?"), message("and?")], answer)


@pytest.mark.parametrize("turns_after", [0, RECENT + 1])
async def test_a_message_is_answered_with_the_turn_that_took_it_in(cache: MemoryCache, turns_after: int) -> None:
    log = cold(cache, begin(cache), segment_records=10)
    log.append(_with_messages())
    for number in range(turns_after):
        log.append(turn(f"later {number}"))
    session = FlameSession("s", log)
    for name in ("m-1", "m-2"):
        answer = await session.stored(name, "and?")
        assert answer is not None and (answer.answer, answer.turn_id) == ("that", "t")
    with pytest.raises(ConflictError):
        await session.stored("t", "and?")
    assert await session.stored("m-3", "and?") is None


async def test_a_turn_that_stops_for_an_approval_keeps_what_it_has_taken_in(cache: MemoryCache) -> None:
    log = cold(cache, begin(cache))
    session = FlameSession("s", log)
    async with session.turn("t", "what?") as staged:
        staged.steered.append("m-1")
        staged.state = {"stopped": True}
    waiting = log.refresh().waiting
    assert waiting is not None and waiting.pending.steered == ["m-1"]
    going_on = StagedTurn("t", "what?")
    going_on.begin(log.conversation, waiting.record_id)
    assert going_on.steered == ["m-1"] and going_on.finish().steered == ["m-1"]
