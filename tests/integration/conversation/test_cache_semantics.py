"""What the conversation relies on in an object cache: the same in memory, in the embedded engine and in Flame."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from flameagent.flame import CacheFull, Endpoints, NotFound, Refused, Unclear, Unreachable
from flameagent.flame.cache import ObjectCache
from flameagent.flame.objects import Rows
from tests.support.memory_cache import PATCH_LIMIT, MemoryCache

PREFIX = f"conversation-tests/{uuid.uuid4().hex}"


@pytest.fixture(
    scope="module", params=["memory", "embedded", "shorter", pytest.param("cluster", marks=pytest.mark.cluster)]
)
def cache(request: pytest.FixtureRequest) -> Iterator[MemoryCache | ObjectCache]:
    if request.param == "memory":
        yield MemoryCache()
        return
    real = ObjectCache(request.getfixturevalue(request.param))
    yield real
    real.delete(PREFIX)
    real.close()


Cache = MemoryCache | ObjectCache


def patched(cache: Cache, count: int) -> str:
    key = cache.put(PREFIX, b"base").key
    for number in range(count):
        assert cache.patch(key, b"%d" % number) == number + 2
    return key


def patches(first: int, last: int) -> list[tuple[int, bytes | None]]:
    return [(version, b"%d" % (version - 2)) for version in range(first, last + 1)]


def test_a_put_makes_a_new_object_each_time(cache: Cache) -> None:
    one, two = cache.put(PREFIX, b"one"), cache.put(PREFIX, b"two")
    assert one.key != two.key
    assert one.key.startswith(f"{PREFIX}/")
    assert one.key.count("/") == 2
    assert one.version == two.version == 1
    assert cache.get(one.key) == Rows(b"one", 1, [], full=True)
    assert cache.get(two.key) == Rows(b"two", 1, [], full=True)


def test_an_object_is_put_under_a_key_and_looked_for_without_its_bytes(cache: Cache) -> None:
    key = f"{PREFIX}/{'0' * 63}{uuid.uuid4().hex[0]}"
    with pytest.raises(NotFound):
        cache.get(key, since=1)
    made = cache.put_as(key, b"bytes")
    assert (made.key, made.version) == (key, 1)
    assert cache.get(key, since=1) == Rows(None, 0, [], full=False)
    assert cache.get(key) == Rows(b"bytes", 1, [], full=True)


def test_patches_count_up_from_the_base(cache: Cache) -> None:
    key = patched(cache, 3)
    rows = cache.get(key)
    assert rows == Rows(b"base", 1, patches(2, 4), full=True)
    assert rows.version == 4


def test_nothing_comes_for_the_version_that_is_known(cache: Cache) -> None:
    for count in (0, 3):
        key = patched(cache, count)
        assert cache.get(key, since=1 + count) == Rows(None, 0, [], full=False)


@pytest.mark.parametrize("since", [1, 2, 3])
def test_patches_alone_come_after_a_known_version(cache: Cache, since: int) -> None:
    key = patched(cache, 3)
    assert cache.get(key, since=since) == Rows(None, 0, patches(since + 1, 4), full=False)


@pytest.mark.parametrize("since", [0, 5, 100, 2**40])
def test_everything_comes_for_no_version_and_for_one_that_the_cache_does_not_have(cache: Cache, since: int) -> None:
    key = patched(cache, 3)
    assert cache.get(key, since=since) == Rows(b"base", 1, patches(2, 4), full=True)


def test_an_object_that_is_not_there_is_not_found(cache: Cache) -> None:
    key = f"{PREFIX}/{uuid.uuid4()}"
    for since in (0, 5):
        with pytest.raises(NotFound):
            cache.get(key, since=since)
    with pytest.raises(NotFound):
        cache.patch(key, b"x")
    with pytest.raises(NotFound):
        cache.get(key)


def test_an_object_takes_a_thousand_patches_and_says_when_it_is_full(cache: Cache) -> None:
    key = patched(cache, PATCH_LIMIT)
    for _ in range(2):
        with pytest.raises(CacheFull):
            cache.patch(key, b"one more")
    assert cache.get(key, since=PATCH_LIMIT) == Rows(None, 0, patches(1001, 1001), full=False)


def test_bytes_come_back_as_they_were(cache: Cache) -> None:
    for data in (b"", b"\x00", bytes(range(256)), b"FLM\x00", b"x" * 3_000_000):
        key = cache.put(PREFIX, data).key
        cache.patch(key, data)
        assert cache.get(key) == Rows(data, 1, [(2, data)], full=True)


def test_deleting_takes_all_of_a_session_and_can_be_repeated(cache: Cache) -> None:
    session = f"conversation-tests/{uuid.uuid4().hex}"
    keys = [cache.put(session, b"x").key for _ in range(3)]
    other = cache.put(f"{session}-2", b"x").key
    cache.delete(session)
    cache.delete(session)
    for key in keys:
        with pytest.raises(NotFound):
            cache.get(key)
        with pytest.raises(NotFound):
            cache.patch(key, b"x")
    assert cache.get(other).base == b"x"
    cache.delete(f"{session}-2")


def test_a_cache_that_nobody_serves_is_unreachable_and_a_patch_to_it_unclear() -> None:
    nobody = ObjectCache(Endpoints("http://127.0.0.1:1", "grpc://127.0.0.1:1"))
    for call in (nobody.get, nobody.delete):
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1 does not answer"):
            call("a/b/c")
    with pytest.raises(Unreachable):
        nobody.put("a/b", b"x")
    with pytest.raises(Unclear):
        nobody.patch("a/b/c", b"x")


@pytest.mark.parametrize("key", ["a", "a/b/c/d", "a//c"])
def test_a_key_that_is_none_is_refused(real_cache: ObjectCache, key: str) -> None:
    with pytest.raises(Refused):
        real_cache.get(key)
    with pytest.raises(Refused):
        real_cache.patch(key, b"x")
