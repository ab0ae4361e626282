"""A cache in memory, and a new conversation in it."""

from __future__ import annotations

import pytest

from tests.support.conversations import begin
from tests.support.memory_cache import MemoryCache


@pytest.fixture
def cache() -> MemoryCache:
    return MemoryCache()


@pytest.fixture
def key(cache: MemoryCache) -> str:
    """The key of the conversation's first object."""
    return begin(cache)
