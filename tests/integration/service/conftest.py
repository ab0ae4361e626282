"""One warm instance for many tests, in front of a scripted model that is as strict as OpenAI."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flameagent.flame.cache import ObjectCache
from localflame import Engine
from tests.integration.service.talk import AGENT, Person, Talk, fresh
from tests.support.model_server import ModelServer
from tests.support.shim import Shim


@pytest.fixture(scope="session")
def model_server() -> Iterator[ModelServer]:
    with ModelServer(strict=True) as server:
        yield server


@pytest.fixture
def model(model_server: ModelServer) -> Iterator[ModelServer]:
    """The scripted model, without a script and with nothing recorded."""
    script = model_server.script
    model_server.requests.clear()
    model_server.steps.clear()
    yield model_server
    model_server.script = script


@pytest.fixture
def talk(cache: ObjectCache) -> Talk:
    return Talk(cache)


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory, engine: Engine, model_server: ModelServer) -> Iterator[Shim]:
    """It is given one session after the other, which Flame would not do."""
    with fresh(tmp_path_factory.mktemp("agent"), AGENT, engine, model_server) as shim:
        yield shim


@pytest.fixture
def instance(warm: Shim, talk: Talk, model: ModelServer) -> Shim:
    """The warm instance, in the test's own session."""
    return warm.enter(talk.id, talk.ref.encode())


@pytest.fixture
def person(warm: Shim, cache: ObjectCache, model: ModelServer) -> Person:
    """A user of the warm instance, of whom nothing is remembered yet."""
    return Person(warm, cache)
