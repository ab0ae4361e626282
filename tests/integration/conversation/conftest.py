"""Real caches for the tests that need one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

import localflame
from flameagent.client.engine import Embedded
from flameagent.flame import Endpoints, resolve
from flameagent.flame.cache import ObjectCache


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    """The embedded engine, as a process of its own."""
    home = tmp_path_factory.mktemp("home")
    engine = localflame.start(home)
    yield Endpoints(engine.endpoint, engine.cache_endpoint)
    localflame.stop(home)


@pytest.fixture(scope="session")
def shorter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    """The embedded engine by its sockets and its file, as its instances and our clients reach it."""
    home = tmp_path_factory.mktemp("shorter")
    yield Embedded(home).reach()
    localflame.stop(home)


@pytest.fixture(scope="session")
def cluster() -> Endpoints:
    """The Flame cluster that FLAME_ENDPOINT names."""
    endpoints = resolve(os.environ) if os.environ.get("FLAME_ENDPOINT") else None
    if endpoints is None:
        pytest.skip("FLAME_ENDPOINT names no cluster")
    return endpoints


@pytest.fixture(scope="session", params=["embedded", "shorter", pytest.param("cluster", marks=pytest.mark.cluster)])
def flame(request: pytest.FixtureRequest) -> Endpoints:
    endpoints: Endpoints = request.getfixturevalue(request.param)
    return endpoints


@pytest.fixture
def real_cache(flame: Endpoints) -> Iterator[ObjectCache]:
    cache = ObjectCache(flame)
    yield cache
    cache.close()


@pytest.fixture
def prefix(real_cache: ObjectCache) -> Iterator[str]:
    """Where a test's objects lie; they are gone after it."""
    name = f"conversation-tests/{uuid.uuid4().hex}"
    yield name
    real_cache.delete(name)
