"""The fast ones: no other process, no network, and the SDK's tracing stays off."""

from __future__ import annotations

from pathlib import Path

import pytest
from agents import set_tracing_disabled


@pytest.fixture(autouse=True, scope="session")
def _no_tracing() -> None:
    set_tracing_disabled(True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark this tier: `uv run pytest -m fast`."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.fast)
