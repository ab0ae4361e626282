"""What several tiers share: an embedded engine of the test run's own, and an environment without settings."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

import localflame
from flameagent.flame import Endpoints
from flameagent.flame.cache import ObjectCache
from flameagent.model_choice import settings

REAL_MODEL = settings(os.environ)
"""The model settings that the tests were started with: for the one that asks a real model."""

for _name in [*settings(os.environ), "FORCE_COLOR", "NO_COLOR"]:
    # The tests' models are their own, and what a test does not set is not set.
    os.environ.pop(_name, None)

# Nor do they use what the user's programs keep beside the engine.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="test-caches-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)


# Several engines run at once here: none of them is to take most of the memory.
os.environ["LOCALFLAME_EXECUTORS"] = "8"


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell it to the processes of pytest-xdist, which start without it."""
    node.workerinput["real_model"] = REAL_MODEL


def pytest_configure(config: pytest.Config) -> None:
    """In such a process, know it."""
    REAL_MODEL.update(getattr(config, "workerinput", {}).get("real_model", {}))


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[localflame.Engine]:
    """A running embedded engine, for tests that do not stop it."""
    home = tmp_path_factory.mktemp("engine")
    yield localflame.start(home)
    localflame.stop(home)


@pytest.fixture
def cache(engine: localflame.Engine) -> Iterator[ObjectCache]:
    """That engine's object cache."""
    cache = ObjectCache(Endpoints(engine.endpoint, engine.cache_endpoint))
    yield cache
    cache.close()
