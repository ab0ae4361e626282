"""Settings of the Agents SDK for the whole process."""

import pytest
from agents.tracing import get_trace_provider

from flameagent.service.models import build


@pytest.mark.parametrize(("setting", "traced"), [(None, False), ("0", False), ("1", True)])
def test_traces_are_off_unless_asked_for(setting: str | None, traced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if setting is None:
        monkeypatch.delenv("AGENT_TRACING", raising=False)
    else:
        monkeypatch.setenv("AGENT_TRACING", setting)
    build.prepare()
    trace = get_trace_provider().create_trace("t")
    assert (trace.export() is not None) == traced
    monkeypatch.delenv("AGENT_TRACING", raising=False)
    build.prepare()
