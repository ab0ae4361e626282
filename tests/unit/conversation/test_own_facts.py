"""Facts of a conversation only: known as such by every reader, until another turn says otherwise."""

from __future__ import annotations

from flameagent.apis import MyContext
from flameagent.conversation import ConversationLog, Facts, TurnBody, context
from tests.support.memory_cache import MemoryCache


def learned(turn: str, facts: Facts, own: list[str]) -> TurnBody:
    return TurnBody(turn, turn, [{"role": "user", "content": turn}], {"answer": ""}, facts=facts, own_facts=own)


def test_they_survive_rewinds_and_new_segments_and_end_with_the_turn_that_changes_them() -> None:
    cache = MemoryCache()
    key = cache.put("app/s", context.write(MyContext())).key
    log = ConversationLog(cache, key, segment_records=2)
    log.append(learned("t1", {"tone": "formal", "city": "Lisbon"}, ["tone"]))
    log.append(learned("t2", {"name": "Ada"}, []))
    log.append(learned("t3", {"tone": "casual", "name": "Grace"}, ["name"]))
    assert ConversationLog(cache, key).refresh().own_facts == ("name",)
    log.append(log.load_all().rewind_edit(2))
    assert ConversationLog(cache, key).refresh().own_facts == ("tone",)
    log.append(learned("t4", {"tone": None}, []))
    assert ConversationLog(cache, key).refresh().own_facts == ()
