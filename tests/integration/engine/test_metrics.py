"""What the engine counts, and the text in which Prometheus reads it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pyarrow as pa
import pytest
from prometheus_client.parser import text_string_to_metric_families

from localflame.metrics import Metrics, text
from tests.integration.engine.client import eventually, localflame

if TYPE_CHECKING:
    from tests.integration.engine.client import Client, Engines


def value(client: Client, name: str, **labels: str) -> float:
    """The value of a metric now: 0 where there is none; of a histogram how often it was observed."""
    (family,) = [each for each in client.control.metrics() if each["name"] == f"localflame_{name}"]
    found = [each for each in family["samples"] if each["labels"] == labels]
    return float(found[0].get("value", found[0].get("count"))) if found else 0


def test_tasks_are_counted_by_application_and_outcome(client: Client) -> None:
    of: dict[str, Any] = {"application": client.register()}
    session = client.session(of["application"])
    client.run(session)
    client.run(session)
    client.failure(session, do="fail")
    assert value(client, "tasks_ended_total", **of, outcome="succeeded") == 2
    assert value(client, "tasks_ended_total", **of, outcome="failed") == 1
    assert value(client, "task_wait_seconds", **of) == value(client, "task_run_seconds", **of) == 3
    assert value(client, "tasks", **of, state="running") == value(client, "tasks", **of, state="pending") == 0


def test_what_runs_waits_and_is_warm(client: Client, tmp_path: Path) -> None:
    of: dict[str, Any] = {"application": client.register()}
    first, go = client.session(of["application"]), tmp_path / "go"
    tasks = [client.create(first, do="sleep", seconds=60, until=str(go)) for _ in range(3)]
    eventually(lambda: value(client, "tasks", **of, state="running") == 1, "a running task")
    assert value(client, "tasks", **of, state="pending") == 2
    assert value(client, "instances", **of, state="running") == value(client, "warm_sessions", **of) == 1
    assert value(client, "sessions", **of, state="open") == 1
    go.touch()
    client.watch(first, tasks[-1])
    eventually(lambda: value(client, "instances", **of, state="idle") == 1, "an idle instance")
    client.close_session(first)
    eventually(lambda: value(client, "instances_ended_total", **of) == 1, "the end of the instance")
    assert value(client, "instances_died_total", **of) == value(client, "warm_sessions", **of) == 0
    assert value(client, "sessions", **of, state="closed") == 1


def test_tasks_that_a_close_cancels_are_counted(client: Client) -> None:
    application = client.register()
    session = client.session(application, batch_size=2, max_instances=2)  # a task waits for a second one
    client.create(session)
    client.close_session(session)
    assert value(client, "tasks_ended_total", application=application, outcome="cancelled") == 1


def test_an_instance_that_dies_is_counted_and_its_task_is_tried_again(client: Client, tmp_path: Path) -> None:
    of: dict[str, Any] = {"application": client.register()}
    session = client.session(of["application"])
    task = client.create(session, do="exit once", marker=str(tmp_path / "marker"))
    client.watch(session, task)
    assert value(client, "instances_died_total", **of) == value(client, "task_retries_total", **of) == 1
    assert value(client, "instances_started_total", **of) == 2
    assert value(client, "task_wait_seconds", **of) == 1, "it has waited once"
    os.kill(client.run(session)["pid"], signal.SIGKILL)  # an idle one
    eventually(lambda: value(client, "instances_died_total", **of) == 2, "the second death")
    assert value(client, "task_retries_total", **of) == 1


def test_an_instance_that_does_not_come_up_is_counted(client: Client) -> None:
    of: dict[str, Any] = {"application": client.register(command="/no/such/command")}
    client.failure(client.session(of["application"]))
    assert value(client, "instance_start_failures_total", **of) == 2
    assert value(client, "instances_started_total", **of) == 0


def test_operations_of_the_cache_are_counted_by_kind(engines: Engines) -> None:
    client = engines.start(engines.home())
    before = {
        name: value(client, "cache_operation_seconds", operation=name) for name in ("put", "append", "get", "delete")
    }
    assert set(before.values()) == {0}
    client.put("app/s/o", b"one")
    client.patch("app/s/o", b"two")
    client.get("app/s/o")
    with pytest.raises((pa.ArrowException, grpc.RpcError, KeyError)):
        client.patch("app/s/absent", b"two")
    assert value(client, "cache_operation_seconds", operation="put") == 1
    assert value(client, "cache_operation_seconds", operation="append") == 2
    assert value(client, "cache_operation_seconds", operation="get") == 1
    assert value(client, "cache_failures_total", operation="append", reason="not_found") == 1
    with pytest.raises(pa.ArrowInvalid):
        client.get("no key")
    assert value(client, "cache_failures_total", operation="get", reason="refused") == 1
    assert value(client, "store_bytes") > 0


def test_prometheus_reads_the_text(client: Client, echo: str) -> None:
    client.run(client.session(echo))
    said = localflame(client.home, "metrics").stdout
    families = {family.name: family for family in text_string_to_metric_families(said)}
    names = {each["name"].removesuffix("_total") for each in client.control.metrics()}
    assert set(families) == names
    waits = families["localflame_task_wait_seconds"]
    assert waits.type == "histogram"
    mine = [each for each in waits.samples if each.labels["application"] == echo]
    counts = [each.value for each in mine if each.name.endswith("_bucket")]
    assert counts == sorted(counts) and counts[-1] >= 1
    assert [each.value for each in mine if each.name.endswith("_count")] == counts[-1:]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not here")
def test_promtool_finds_nothing_wrong(client: Client, echo: str) -> None:
    client.run(client.session(echo))
    said = localflame(client.home, "metrics").stdout
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=said, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_a_label_is_what_it_is_whatever_it_has_in_it() -> None:
    metrics, strange = Metrics(), 'a"b\\c\nd'
    metrics.tasks_ended.count(strange, "failed")
    (family,) = [each for each in text_string_to_metric_families(text(metrics.as_json())) if each.samples]
    assert family.samples[0].labels == {"application": strange, "outcome": "failed"}


def test_what_takes_longer_than_the_last_bucket_counts_all_the_same() -> None:
    metrics = Metrics()
    metrics.task_run.observe(1e6, "app")
    metrics.task_run.observe(-5, "app")  # somebody has set the clock
    (family,) = [each for each in metrics.as_json() if each["samples"]]
    (sample,) = family["samples"]
    assert (sample["buckets"]["300"], sample["buckets"]["+Inf"], sample["sum"]) == (1, 2, 1e6)
