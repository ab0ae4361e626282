"""Spans of a worker whose client says nothing of traces, and what becomes of a turn where they cannot be sent."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from flameagent.apis import Decision, Question
from flameagent.tracing import file
from localflame import Engine
from tests.integration.service.talk import AGENT, Talk, environment, fresh
from tests.support.model_server import Call, ModelServer, Step
from tests.support.shim import Shim

PATIENCE = 90.0
FORGET = Step(calls=(Call("forget", '{"key": "city"}'),))
REMEMBER = Step(calls=(Call("remember", '{"key": "city", "value": "Lisbon"}', "call_0"),))
_LOADED = "import sys\n" + AGENT.replace("return number * 2", "return sorted(sys.modules)").replace(
    "-> int:\n", "-> list[str]:\n"
)


class Traces:
    """What an instance writes to its user's file."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "state"

    def spans(self, *names: str) -> list[dict[str, Any]]:
        """All spans, when there are such."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = list(file.lines(self.home / "flame-openai-agent" / "traces"))
            if set(names) <= {span["name"] for span in found}:
                return found
            assert time.monotonic() < deadline, [span["name"] for span in found]
            time.sleep(0.02)


@pytest.fixture
def traces(tmp_path: Path) -> Traces:
    return Traces(tmp_path)


@pytest.fixture
def traced(tmp_path: Path, engine: Engine, model: ModelServer, traces: Traces) -> Iterator[Shim]:
    with fresh(tmp_path, AGENT, engine, model, AGENT_TRACING="file", XDG_STATE_HOME=str(traces.home)) as shim:
        yield shim


def test_a_decision_of_a_client_without_traces_goes_on_in_the_trace_of_its_turn(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk, traced: Shim, traces: Traces
) -> None:
    model.steps.extend([REMEMBER, FORGET])
    asked = traced.enter(talk.id, talk.ref.encode()).invoke(Question("forget it", "t-1"))
    assert asked.code == "waiting", asked
    traces.spans("turn")
    model.steps.append(Step(text="Forgotten."))
    decision = Decision("d-1", asked.on, (asked.pending[0]["id"],))
    tracing = {"AGENT_TRACING": "file", "XDG_STATE_HOME": str(traces.home)}
    with fresh(tmp_path, AGENT, engine, model, **tracing) as other:  # which has read nothing yet
        answer = other.enter(talk.id, talk.ref.encode()).invoke(Question("forget it", "t-1", decision=decision), "2")
    assert answer.answer == "Forgotten.", answer
    spans = {span["name"]: span for span in traces.spans("go on", "turn")}
    turn, go_on = spans["turn"], spans["go on"]
    assert (turn["parent_id"], go_on["parent_id"]) == ("", turn["span_id"])
    assert {span["trace_id"] for span in spans.values()} == {turn["trace_id"]}
    assert {span["attributes"]["session.id"] for span in spans.values()} == {talk.id}
    assert spans["execute_tool forget"]["attributes"]["gen_ai.tool.call.id"]


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("streamed", [True, False])
def test_a_call_of_a_model_says_what_it_was(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk, traces: Traces, api: str, streamed: bool
) -> None:
    tracing = {"AGENT_TRACING": "file", "XDG_STATE_HOME": str(traces.home), "AGENT_API": api}
    stream = f"app/{talk.id}/stream" if streamed else ""
    with fresh(tmp_path, AGENT, engine, model, **tracing) as shim:
        assert shim.enter(talk.id, talk.ref.encode()).invoke(Question("hello", "t-1", stream=stream)).answer
        (chat,) = [span for span in traces.spans("turn") if span["name"].startswith("chat")]
    told = chat["attributes"]
    assert told["gen_ai.request.model"] == "scripted" and told["gen_ai.provider.name"] == "openai_compatible"
    assert told["gen_ai.response.finish_reasons"] == ["stop"] and told["server.address"] == "127.0.0.1"
    assert told["gen_ai.usage.input_tokens"] > 0 and told["gen_ai.usage.output_tokens"] > 0
    assert chat["kind"] == "client" and not any("messages" in name for name in told)


def test_a_trace_that_its_caller_does_not_sample_is_not_recorded(traced: Shim, talk: Talk, traces: Traces) -> None:
    traced.enter(talk.id, talk.ref.encode())
    assert traced.invoke(Question("hello", "t-1", traceparent=f"00-{'a' * 32}-{'b' * 16}-00")).answer
    assert traced.invoke(Question("hello", "t-2", traceparent="nonsense"), "2").answer
    spans = traces.spans("turn")
    assert {span["attributes"]["flame.turn.id"] for span in spans} == {"t-2"}


def test_forked_workers_send_theirs(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk, traces: Traces
) -> None:
    variables = environment(engine, model) | {"AGENT_TRACING": "file", "XDG_STATE_HOME": str(traces.home)}
    (tmp_path / "agent.py").write_text(AGENT)
    with ExitStack() as stack:
        sockets = Path(stack.enter_context(TemporaryDirectory(prefix="fl")))  # a socket's path is a short one
        for number in range(2):
            shim = stack.enter_context(Shim(tmp_path, sockets=sockets, **variables))
            of = Talk(talk.cache)
            assert shim.enter(of.id, of.ref.encode()).invoke(Question("hello", f"t-{number}")).answer
    spans = traces.spans("turn")
    assert {span["attributes"]["flame.turn.id"] for span in spans} == {"t-0", "t-1"}
    assert len({span["resource"]["process.pid"] for span in spans}) == 2
    assert "not forked" not in (tmp_path / "instance.log").read_text()


def test_a_collector_that_is_away_costs_a_turn_nothing_and_the_log_a_line(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens there
        url = f"http://user:a-password-4711@127.0.0.1:{closed.getsockname()[1]}"
        tracing = {"AGENT_TRACING": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
        with fresh(tmp_path, AGENT, engine, model, **tracing) as shim:
            shim.enter(talk.id, talk.ref.encode())
            for number in range(3):
                answer = shim.invoke(Question("hello", f"t-{number}"), str(number + 1))
                assert answer.answer and not answer.note
            deadline = time.monotonic() + PATIENCE
            while "Traces are not sent" not in (log := shim.log.read_text()):
                assert time.monotonic() < deadline, log
                time.sleep(0.05)
    log = shim.log.read_text()
    assert log.count("Traces") == 1 and "password" not in log
    assert log.count(f"[{talk.id}/") == 4, log  # that, and how long each turn took


@pytest.mark.parametrize(
    ("setting", "protocol", "said"),
    [
        (
            "yes",
            "",
            "AGENT_TRACING is 1, otlp, file or several of them with commas, or off, not 'yes': nothing is traced.",
        ),
        ("otlp", "smoke", "OTEL_EXPORTER_OTLP_PROTOCOL is grpc or http/protobuf, not 'smoke': no traces are sent."),
    ],
)
def test_a_setting_that_makes_no_sense_is_said_with_the_turn(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk, setting: str, protocol: str, said: str
) -> None:
    tracing = {"AGENT_TRACING": setting, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    with fresh(tmp_path, AGENT, engine, model, **tracing) as shim:
        answer = shim.enter(talk.id, talk.ref.encode()).invoke(Question("hello", "t-1"))
    assert answer.answer and answer.note == said


def test_nothing_of_it_is_loaded_where_tracing_is_off(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk
) -> None:
    model.steps.append(Step(calls=(Call("double", '{"number": 2}'),)))
    with fresh(tmp_path, _LOADED, engine, model) as shim:
        assert shim.enter(talk.id, talk.ref.encode()).invoke(Question("hello", "t-1")).answer
    (output,) = (item["output"] for item in talk.items() if item.get("type") == "function_call_output")
    loaded = str(output)
    assert "'flameagent.service.entrypoint'" in loaded
    assert not any(name in loaded for name in ("opentelemetry.sdk", "opentelemetry.exporter", "tracing.recording"))
    assert "sdk_spans" not in loaded
