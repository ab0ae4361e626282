"""The window: what of a long conversation the model sees, and how little is read for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flameagent.conversation import ConversationLog, DamagedError, EditBody, FlameSession, Item
from flameagent.conversation.conversation import Conversation
from tests.support.conversations import added, begin, cold, cold_from_the_first, message, turn
from tests.support.memory_cache import MemoryCache


async def window(log: ConversationLog, limit: int | None) -> list[Item]:
    """What a turn would see."""
    session = FlameSession("s", log, window=limit)
    try:
        async with session.turn("looks", "?"):
            seen = await session.get_items()
            raise Looked
    except Looked:
        return seen


class Looked(Exception):
    pass


def contents(items: list[Item]) -> list[str]:
    return [item["content"] for item in items]


@pytest.mark.parametrize("total", [0, 2, 198, 200])
async def test_up_to_the_limit_everything_is_seen(total: int) -> None:
    cache = MemoryCache()
    log = cold(cache, begin(cache))
    for number in range(total // 2):
        log.append(turn(f"t{number}"))
    assert len(await window(log, 200)) == total


PLACES = st.sampled_from(["turn", "add user", "add assistant", "pop", "clear", "rewind"])


@given(st.lists(PLACES, max_size=30), st.integers(1, 8))
@settings(max_examples=60)
def test_where_it_begins_is_the_first_beginning_in_it_or_the_last_of_all(done: list[str], limit: int) -> None:
    cache = MemoryCache()
    log = cold(cache, key := begin(cache), 5)
    for number, what in enumerate(done):
        match what.split():
            case ["turn"]:
                log.append(turn(f"t{number}"))
            case ["add", role]:
                log.append(EditBody("add", items=[message(f"<{number}>", role) for _ in range(3)]))
            case ["rewind"] if log.load_all().turn_count:
                log.append(log.conversation.rewind_edit(log.conversation.turn_count // 2))
            case ["pop" | "clear" as op]:
                log.append(EditBody(op))
    for read in log, cold(cache, key, 5), cold_from_the_first(cache, key):
        conversation = read.refresh()
        assert conversation.item_count == conversation.unloaded_items + len(conversation.items())
        window = conversation.window(limit)
        if window < conversation.unloaded_items:
            continue
        assert conversation.items_from(window) == conversation.items()[window - conversation.unloaded_items :]
        if conversation.item_count > limit:
            half = max(limit // 2, 1)
            earliest = ((conversation.item_count - 1) // half - 1) * half
            starts = beginnings(conversation)
            assert not starts or window == next((start for start in starts if start >= earliest), starts[-1])


def beginnings(conversation: Conversation) -> list[int]:
    """Where the model may begin to read."""
    found, index = [], conversation.unloaded_items
    for block in conversation.blocks:
        for place, item in enumerate(block.items):
            if (place == 0) if block.turn is not None else item.get("role") == "user":
                found.append(index + place)
        index += len(block.items)
    return found


async def test_beyond_the_limit_it_starts_at_the_newest_half_and_stays_until_it_is_full_again() -> None:
    cache = MemoryCache()
    log = cold(cache, begin(cache))
    starts, sizes = [], []
    for number in range(260):
        log.append(turn(f"t{number}"))
        seen = await window(log, 200)
        starts.append(seen[0]["content"])
        sizes.append(len(seen))
        assert seen[-1]["content"] == f"<t{number}> 1"
    assert max(sizes) == 200
    assert min(sizes[100:]) > 100
    moved = [number for number in range(1, 260) if starts[number] != starts[number - 1]]
    assert moved == [100, 150, 200, 250]
    assert starts[-1] == "<t200> 0"


async def test_all_means_all() -> None:
    cache = MemoryCache()
    key = begin(cache)
    log = cold(cache, key, 8)
    for number in range(130):
        log.append(turn(f"t{number}"))
    assert len(await window(log, None)) == 260
    assert len(await window(cold(cache, key, 8), None)) == 260


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_the_newest_turn_is_seen_however_long_it_is(limit: int) -> None:
    cache = MemoryCache()
    key = begin(cache)
    log = cold(cache, key, 4)
    for number in range(9):
        log.append(turn(f"t{number}", items=5))
    for reader in (log, cold(cache, key, 4)):
        assert contents(await window(reader, limit)) == [f"<t8> {number}" for number in range(5)]


async def test_a_turn_is_never_split() -> None:
    cache = MemoryCache()
    log = cold(cache, begin(cache))
    for number in range(60):
        log.append(turn(f"t{number}", items=1 + number % 7))
        seen = await window(log, 20)
        assert seen[0]["content"].endswith(" 0")


async def test_what_plain_context_brings_is_cut_where_a_user_speaks() -> None:
    """Messages of a context are no turns: without a cut all of them, or none, would go to the model."""
    cache = MemoryCache()
    items = [message(f"m{number}", "assistant" if number % 2 else "user") for number in range(1000)]
    session = FlameSession("s", cold(cache, begin(cache)))
    await session.add_items(items)
    seen = await window(session._log, 200)
    assert 100 <= len(seen) <= 200
    assert seen[0]["role"] == "user"
    assert seen == items[-len(seen) :]


async def test_popped_turns_do_not_empty_the_window() -> None:
    cache = MemoryCache()
    key = begin(cache)
    log = cold(cache, key)
    for number in range(10):
        log.append(turn(f"t{number}"))
    for _ in range(2):
        log.append(EditBody("pop"))
    for limit in (1, 2, 3, 4, 10):
        assert contents(await window(log, limit))[-1] == "<t8> 1"


changes = st.lists(
    st.one_of(
        st.integers(0, 9).map(lambda items: turn("t", items=items)),
        st.integers(1, 6).map(lambda items: added("a", items=items)),
        st.just(EditBody("add", items=[message("said", "assistant")])),
        st.sampled_from([EditBody("pop"), EditBody("pop"), EditBody("clear"), EditBody("cancel", turn="c")]),
    ),
    max_size=25,
)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(changes, st.integers(1, 12), st.integers(2, 5))
async def test_every_reader_sees_the_same_window(bodies: list[Any], limit: int, records: int) -> None:
    cache = MemoryCache()
    key = begin(cache, ['{"role": "user", "content": "m"}', '{"role": "assistant", "content": "n"}'])
    writer = cold(cache, key, records)
    for number, body in enumerate(bodies):
        writer.append(turn(f"t{number}", items=len(body.items)) if hasattr(body, "answer") else body)
    seen = [await window(log, limit) for log in (writer, cold(cache, key, records), cold_from_the_first(cache, key))]
    assert seen[0] == seen[1] == seen[2]
    everything = writer.load(0).items()
    assert seen[0] == everything[len(everything) - len(seen[0]) :]
    if everything:
        assert seen[0], "at least the newest turn"
    if len(everything) <= limit:
        assert seen[0] == everything


async def test_a_cold_turn_reads_few_objects_however_long_the_conversation_is() -> None:
    cache = MemoryCache()
    key = begin(cache)
    log = cold(cache, key, 16)
    reads = []
    for number in range(1200):
        log.append(turn(f"t{number}"))
        if number % 100 == 99:
            cache.reads.clear()
            await window(cold(cache, key, 16), 20)
            reads.append((len(cache.reads), sum(rows for _, _, rows in cache.reads)))
    assert log.conversation.segments > 60
    objects, rows = zip(*reads, strict=True)
    assert max(objects) <= 5
    assert max(rows) <= 2 * 17 + 16 + 80  # two segments, the overlaps, and a hint for each segment


async def test_damage_in_the_window_stops_the_turn_and_names_the_record() -> None:
    cache = MemoryCache()
    key = begin(cache)
    log = cold(cache, key, 8)
    for number in range(40):
        log.append(turn(f"t{number}"))
    keys = list(cache.objects)
    damaged = cache.objects[keys[-2]].patches[3]
    cache.replace(keys[-2], damaged[0], b"not a record")
    before = sum(len(cache.objects[each].patches[:8]) + 1 for each in keys[:-2])
    with pytest.raises(DamagedError) as raised:
        await window(cold(cache, key, 8), 40)
    assert raised.value.record == before + 4


async def test_a_lost_segment_in_the_window_is_damage_and_not_a_missing_session() -> None:
    cache = MemoryCache()
    key = begin(cache)
    log = cold(cache, key, 8)
    for number in range(40):
        log.append(turn(f"t{number}"))
    del cache.objects[list(cache.objects)[-2]]
    with pytest.raises(DamagedError, match="are missing"):
        await window(cold(cache, key, 8), 40)
