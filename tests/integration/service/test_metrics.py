"""What workers tell a collector: of known turns, of a killed worker, of a conflict; and where there is none."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from flameagent.apis import Answer, Question
from flameagent.conversation import EditBody
from flameagent.flame.cache import ObjectCache
from localflame import Engine
from tests.integration.service.talk import AGENT, Talk, fresh
from tests.support.model_server import Call, ModelServer, Step, error
from tests.support.otlp_metrics import MetricsCollector
from tests.support.shim import Shim

DIES = AGENT.replace(
    "agent = Agent(",
    """
import os, signal
from pathlib import Path

@function_tool
def stumble() -> str:
    "Stumble, once."
    if not Path("stumbled").exists():
        Path("stumbled").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    Path("pid").write_text(str(os.getpid()))
    return "up again"

agent = Agent(""",
).replace("tools=[double,", "tools=[double, stumble,")


@pytest.fixture
def collector() -> Iterator[MetricsCollector]:
    with MetricsCollector() as running:
        yield running


def ask(instance: Shim, question: str, task: int) -> Answer:
    answer: Answer = instance.invoke(Question(question, f"t-{task}", user="ada"), str(task))
    return answer


def measured(folder: Path, engine: Engine, model: ModelServer, collector: str, source: str = AGENT) -> Shim:
    return fresh(folder, source, engine, model, AGENT_METRICS="otlp", OTEL_EXPORTER_OTLP_ENDPOINT=collector)


def test_turns_tokens_errors_and_appends(
    tmp_path: Path, engine: Engine, model: ModelServer, cache: ObjectCache, collector: MetricsCollector
) -> None:
    talk = Talk(cache)
    with measured(tmp_path, engine, model, collector.url) as instance:
        instance.enter(talk.id, talk.ref.encode())
        first = ask(instance, "What is secret?", 1)
        assert first.usage is not None
        collector.wait(1, "flame_worker.turns", outcome="answered")
        model.steps += [error(400)]
        assert ask(instance, "two", 2).code == "model"
        collector.wait(1, "flame_worker.turns", outcome="model")
        # Somebody else adds to the conversation while the turn runs.
        model.script = lambda request: (talk.log().append(EditBody("clear")), Step("Too late."))[1]
        assert ask(instance, "three", 3).code == "conflict"
        collector.wait(1, "flame_worker.turns", outcome="conflict")
    assert collector.value("flame_worker.appends", outcome="added") == 1
    assert collector.value("flame_worker.appends", outcome="conflict") == 1
    assert collector.value("flame_worker.turn.duration") == 3
    assert collector.value("flame_worker.model.call.duration", model="scripted") == 3
    assert collector.value("flame_worker.model.errors", model="scripted", error="BadRequestError") == 1
    used = {kind: collector.value("flame_worker.tokens", model="scripted", kind=kind) for kind in ("input", "output")}
    assert used["input"] > first.usage["input_tokens"] > 0 and used["output"] > first.usage["output_tokens"] > 0
    assert collector.value("flame_worker.starts", how="spawned") == 1
    assert collector.value("flame_worker.deaths") == 0
    assert {each["service.name"] for each in collector.resources} == {"flame-agent"}
    assert {each["flame.application"] for each in collector.resources} == {"app"}
    assert not any(text in collector.sent for text in (b"secret", b"ada", talk.id.encode()))


def test_a_worker_that_is_killed_is_counted_by_the_next(
    tmp_path: Path, engine: Engine, model: ModelServer, cache: ObjectCache, collector: MetricsCollector
) -> None:
    talk = Talk(cache)
    with measured(tmp_path, engine, model, collector.url, DIES) as instance:
        instance.enter(talk.id, talk.ref.encode())
        model.steps += [Step(calls=(Call("stumble"),)), Step(calls=(Call("stumble"),)), Step("Done.")]
        assert ask(instance, "go", 1).answer == "Done."
        collector.wait(1, "flame_worker.deaths", cause="SIGKILL")
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)  # an idle one
        assert not ask(instance, "go on", 2).error
        collector.wait(2, "flame_worker.deaths", cause="SIGKILL")
        collector.wait(2, "flame_worker.turns", outcome="answered")
        assert len({each["service.instance.id"] for each in collector.resources}) == 2


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"AGENT_METRICS": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, "nobody takes them at "),
        (
            {"AGENT_METRICS": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            "Metrics are not sent: for http/protobuf the package opentelemetry-exporter-otlp-proto-http is needed.",
        ),
        (
            {"AGENT_METRICS": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "smoke"},
            "OTEL_EXPORTER_OTLP_PROTOCOL is grpc or http/protobuf, not 'smoke'",
        ),
        ({"AGENT_METRICS": "statsd"}, "AGENT_METRICS is otlp or off, not 'statsd': no metrics are sent."),
        (
            {
                "AGENT_METRICS": "otlp",
                "OTEL_EXPORTER_OTLP_ENDPOINT": "https://127.0.0.1:1",
                "OTEL_EXPORTER_OTLP_CERTIFICATE": "/none",
            },
            "Metrics are not sent: ",
        ),
    ],
)
def test_turns_are_answered_where_nobody_takes_metrics(
    variables: dict[str, str], said: str, tmp_path: Path, engine: Engine, model: ModelServer, cache: ObjectCache
) -> None:
    talk = Talk(cache)
    more = {"OTEL_EXPORTER_OTLP_TIMEOUT": "1", **variables}
    with fresh(tmp_path, AGENT, engine, model, **more) as instance:
        instance.enter(talk.id, talk.ref.encode())
        for number in (1, 2):
            assert ask(instance, "still there?", number).answer.startswith("answer")
        _eventually_said(instance, said)
    assert instance.log.read_text().count(said) == 1
    assert "Traceback" not in instance.log.read_text()


def _eventually_said(instance: Shim, said: str) -> None:
    import time

    deadline = time.monotonic() + 90
    while said not in instance.log.read_text():
        assert time.monotonic() < deadline, instance.log.read_text()
        time.sleep(0.05)
