"""Real engine processes in temporary homes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.engine.client import Client, Engines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def shared_engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    engines = Engines(tmp_path_factory.mktemp("shared"))
    yield engines
    engines.end()


@pytest.fixture(scope="session")
def client(shared_engines: Engines) -> Client:
    """A client of the engine that the tests share."""
    return shared_engines.start(shared_engines.home(), TEST_INHERITED="from the engine", OTHER_API_KEY="the engine's")


@pytest.fixture(scope="session")
def echo(client: Client) -> str:
    """An application on the shared engine."""
    return client.register()


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[Engines]:
    """Engines of a test's own."""
    engines = Engines(tmp_path)
    yield engines
    engines.end()
