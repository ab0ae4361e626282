"""Settings of the Agents SDK for the whole process."""

import pytest
from agents.tracing import custom_span, get_trace_provider, trace

from flameagent.service.models import build
from flameagent.service.sdk_spans import SdkSpans


@pytest.mark.parametrize(("setting", "traced"), [(None, False), ("0", False), ("1", True), ("1,file", True)])
def test_traces_are_off_unless_asked_for(setting: str | None, traced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if setting is None:
        monkeypatch.delenv("AGENT_TRACING", raising=False)
    else:
        monkeypatch.setenv("AGENT_TRACING", setting)
    build.prepare()
    made = get_trace_provider().create_trace("t")
    assert (made.export() is not None) == traced
    monkeypatch.delenv("AGENT_TRACING", raising=False)
    build.prepare()


def test_our_processor_is_told_once_of_each_span(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(SdkSpans, "on_span_start", lambda self, span: told.append(span.span_data.name))
    monkeypatch.setenv("AGENT_TRACING", "file")
    for _ in range(2):
        build.prepare()
    with trace("t"), custom_span("first"):
        pass
    assert told == ["first"]
    monkeypatch.delenv("AGENT_TRACING")
    build.prepare()
    with trace("t"), custom_span("second"):
        pass
    assert told == ["first"]
