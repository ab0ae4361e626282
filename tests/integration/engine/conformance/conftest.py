"""The engine under test: the one at FLAME_ENDPOINT and FLAME_CACHE_ENDPOINT, or localflame without them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.engine.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def flame(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of it. Its instances must be able to run this interpreter and read this checkout."""
    endpoint, cache_endpoint = os.environ.get("FLAME_ENDPOINT"), os.environ.get("FLAME_CACHE_ENDPOINT")
    if endpoint is None or cache_endpoint is None:
        yield request.getfixturevalue("client")
        return
    client = Client(Path("/nonexistent"), endpoint, cache_endpoint)
    yield client
    client.clean_up()
    client.close()
