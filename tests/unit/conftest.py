"""The fast ones: no other process, no network, and the SDK's tracing stays off."""

from __future__ import annotations

import pytest
from agents import set_tracing_disabled


@pytest.fixture(autouse=True, scope="session")
def _no_tracing() -> None:
    set_tracing_disabled(True)
