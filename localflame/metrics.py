"""The engine's metrics: what it counts while it runs, and the text in which Prometheus reads that.

In memory: they begin anew with each engine, as Prometheus expects of counters. Labels are applications, states and
operations, never sessions or what is in them. `Metrics` may be used from any thread. The text is written here because
the engine starts with no library for it.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Seconds: waits for an instance, and what the cache takes.
WAITS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
#: Seconds: how long a task runs.
RUNS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
#: Seconds: operations of the cache.
OPERATIONS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Family:
    """A metric with its values by labels. Made by `Metrics`, whose lock it shares."""

    kind = "gauge"

    def __init__(self, name: str, about: str, labels: tuple[str, ...], lock: threading.Lock) -> None:
        self.name = name
        self._about = about
        self._labels = labels
        self._lock = lock
        self._values: dict[tuple[str, ...], Any] = {}

    def as_json(self) -> dict[str, Any]:
        """`name`, `type`, `help` and `samples`, each with its `labels` and `value`."""
        with self._lock:
            samples = [
                {"labels": dict(zip(self._labels, key, strict=True)), **self._sample(value)}
                for key, value in sorted(self._values.items())
            ]
        return {"name": self.name, "type": self.kind, "help": self._about, "samples": samples}

    def _sample(self, value: Any) -> dict[str, Any]:
        return {"value": value}


class Gauge(Family):
    """What is so now."""

    def set(self, values: Mapping[tuple[str, ...], float]) -> None:
        """Have these values, and no others."""
        with self._lock:
            self._values = dict(values)


class Counter(Family):
    """What has happened so often."""

    kind = "counter"

    def begin(self, *labels: str) -> None:
        """Count from 0 on: a reader who first sees 1 does not know that something has happened."""
        with self._lock:
            self._values.setdefault(labels, 0)

    def count(self, *labels: str, by: float = 1) -> None:
        """Count what has happened."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + by


class Histogram(Family):
    """How long something has taken, in seconds."""

    kind = "histogram"

    def __init__(
        self, name: str, about: str, labels: tuple[str, ...], lock: threading.Lock, bounds: tuple[float, ...]
    ) -> None:
        super().__init__(name, about, labels, lock)
        self._bounds = bounds

    def observe(self, seconds: float, *labels: str) -> None:
        """It has taken so long once more; less than nothing, where a clock was set, counts as nothing."""
        seconds = max(seconds, 0.0)
        with self._lock:
            counts, total = self._values.get(labels) or ([0] * (len(self._bounds) + 1), 0.0)
            counts[bisect_left(self._bounds, seconds)] += 1
            self._values[labels] = counts, total + seconds

    def _sample(self, value: Any) -> dict[str, Any]:
        counts, total = value
        so_far, buckets = 0, {}
        for bound, count in zip((*map(_number, self._bounds), "+Inf"), counts, strict=True):
            so_far += count
            buckets[bound] = so_far
        return {"buckets": buckets, "sum": total, "count": so_far}


class Metrics:
    """What one engine counts."""

    def __init__(self) -> None:
        self._families: list[Family] = []
        self._lock = threading.Lock()
        of_application = ("application",)
        self.tasks_ended = self._add(
            Counter, "tasks_ended_total", "Tasks that have ended.", ("application", "outcome")
        )
        self.task_retries = self._add(
            Counter, "task_retries_total", "Tasks that are to run again: their instance was lost.", of_application
        )
        self.task_wait = self._time(
            "task_wait_seconds", "Seconds until an instance first had a task.", of_application, WAITS
        )
        self.task_run = self._time(
            "task_run_seconds", "Seconds from there to the end of a task, each run of it.", of_application, RUNS
        )
        self.tasks = self._add(Gauge, "tasks", "Tasks that run or wait to run.", ("application", "state"))
        self.sessions = self._add(Gauge, "sessions", "Sessions.", ("application", "state"))
        self.warm_sessions = self._add(
            Gauge, "warm_sessions", "Sessions that have an instance, which runs or waits.", of_application
        )
        self.instances = self._add(Gauge, "instances", "Instances, by what they do.", ("application", "state"))
        self.executor_limit = self._add(Gauge, "instances_limit", "Instances that there may be at most.", ())
        self.instances_started = self._add(
            Counter, "instances_started_total", "Instances that came up and took their session.", of_application
        )
        self.start_seconds = self._time(
            "instance_start_seconds", "Seconds that this took each.", of_application, WAITS
        )
        self.instances_not_started = self._add(
            Counter, "instance_start_failures_total", "Instances that did not come up.", of_application
        )
        self.instances_ended = self._add(
            Counter, "instances_ended_total", "Instances that came up and have ended.", of_application
        )
        self.instances_died = self._add(
            Counter, "instances_died_total", "Those of them that ended without being told to.", of_application
        )
        self.cache = self._time(
            "cache_operation_seconds", "Seconds that operations of the object cache took.", ("operation",), OPERATIONS
        )
        self.cache_failures = self._add(
            Counter, "cache_failures_total", "Operations of the object cache that failed.", ("operation", "reason")
        )
        self.store_bytes = self._add(Gauge, "store_bytes", "Bytes of the engine's file and its log.", ())
        self.started = self._add(Gauge, "start_time_seconds", "When the engine started, since the epoch.", ())

    def begin(self, application: str) -> None:
        """Have all that counts for an application begin at 0."""
        for outcome in ("succeeded", "failed", "cancelled"):
            self.tasks_ended.begin(application, outcome)
        for counter in (
            self.task_retries,
            self.instances_started,
            self.instances_not_started,
            self.instances_ended,
            self.instances_died,
        ):
            counter.begin(application)

    def as_json(self) -> list[dict[str, Any]]:
        """All of them, each as `Family.as_json`."""
        return [family.as_json() for family in self._families]

    def _add(self, kind: Any, name: str, about: str, labels: tuple[str, ...]) -> Any:
        self._families.append(kind(f"localflame_{name}", about, labels, self._lock))
        return self._families[-1]

    def _time(self, name: str, about: str, labels: tuple[str, ...], bounds: tuple[float, ...]) -> Histogram:
        family = Histogram(f"localflame_{name}", about, labels, self._lock, bounds)
        self._families.append(family)
        return family


def text(families: Iterable[Mapping[str, Any]]) -> str:
    """Families, as `Metrics.as_json` has them, in Prometheus' text format."""
    lines = list[str]()
    for family in families:
        name = family["name"]
        lines += [f"# HELP {name} {family['help']}", f"# TYPE {name} {family['type']}"]
        for sample in family["samples"]:
            labels = sample["labels"]
            if "buckets" in sample:
                for bound, count in sample["buckets"].items():
                    lines.append(f"{name}_bucket{_labels({**labels, 'le': bound})} {count}")
                lines.append(f"{name}_sum{_labels(labels)} {_number(sample['sum'])}")
                lines.append(f"{name}_count{_labels(labels)} {sample['count']}")
            else:
                lines.append(f"{name}{_labels(labels)} {_number(sample['value'])}")
    return "".join(f"{line}\n" for line in lines)


def _labels(labels: Mapping[str, str]) -> str:
    told = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{told}}}" if told else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
