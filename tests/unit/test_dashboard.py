"""The dashboard for Grafana: it is one, and asks for nothing that no program of ours tells."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flameagent.client.prices import Prices
from flameagent.server.agents import Agents
from flameagent.server.identity import Guard
from flameagent.server.metrics import Metrics as OfServer
from flameagent.service.metrics_otlp import Meters
from localflame.metrics import Metrics as OfEngine

FILE = Path(__file__).resolve().parents[2] / "deploy" / "grafana-dashboard.json"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]

_WORDS = {"histogram_quantile", "sum", "rate", "increase", "by", "or", "vector", "offset", "changes", "label_values"}


def queries() -> Iterator[tuple[str, str]]:
    """Each query, with where it is."""
    for panel in PANELS:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for each in DASHBOARD["annotations"]["list"]:
        yield each["name"], each["expr"]
    for each in DASHBOARD["templating"]["list"]:
        if each["type"] == "query":
            yield each["name"], each["query"]["query"]


def told() -> dict[str, set[str]]:
    """The series that our programs tell, each with its labels."""
    series: dict[str, set[str]] = {}
    for family in OfEngine()._families:
        add(series, family.name, family.kind, set(family._labels))
    limits = SimpleNamespace(prices=Prices({}), on_refusal=str)
    agents = SimpleNamespace(limiter=limits, watch=None)
    guard = SimpleNamespace(rate=SimpleNamespace(on_refusal=str))
    registry = OfServer(cast("Agents", agents), cast("Guard", guard)).registry
    for collector in set(registry._collector_to_names):
        each = cast("Any", collector)
        name = each._name + ("_total" if each._type == "counter" else "")
        add(series, name, each._type, set(each._labelnames))
    # As OpenTelemetry's collector names them for Prometheus.
    attributes = {
        "turns": {"outcome"},
        "tokens": {"model", "kind"},
        "model.errors": {"model", "error"},
        "model.call.duration": {"model"},
        "starts": {"how"},
        "deaths": {"cause"},
        "appends": {"outcome"},
    }
    for instrument in vars(Meters("app")).values():
        if not hasattr(instrument, "unit"):
            continue
        short = instrument.name.removeprefix("flame_worker.")
        name = instrument.name.replace(".", "_")
        is_histogram = "Histogram" in type(instrument).__name__
        name += "_seconds" if instrument.unit == "s" else "" if is_histogram else "_total"
        add(series, name, "histogram" if is_histogram else "counter", attributes.get(short, set()))
    return series


def add(series: dict[str, set[str]], name: str, kind: str, labels: set[str]) -> None:
    if kind == "histogram":
        series |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
    else:
        series[name] = labels


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_a_query_asks_for_series_and_labels_that_are_told(where: str, query: str) -> None:
    series = told()
    without_texts = re.sub(r'"[^"]*"', '""', query)
    matched = {name for each in re.findall(r"{([^}]*)}", without_texts) for name in re.findall(r"(\w+)\s*[=!]", each)}
    grouped = {name for each in re.findall(r"\bby \(([^)]*)\)", without_texts) for name in re.findall(r"\w+", each)}
    bare = re.sub(r"{[^}]*}|\[[^\]]*\]|\bby \([^)]*\)", "", without_texts)
    names = {name for name in re.findall(r"(?<!\w)[a-zA-Z_]\w*", bare) if name not in _WORDS}
    if query.startswith("label_values"):
        names, matched = {"flame_agent_turns"}, {"agent"}
    assert names and names <= series.keys(), where
    for name in names:
        assert matched | grouped <= series[name], (where, name)


def test_each_metric_that_is_told_is_asked_for_somewhere() -> None:
    everything = " ".join(query for _, query in queries())
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in told()}
    assert {name for name in families if not re.search(rf"\b{name}(_bucket|_count)?\b", everything)} == set()


def test_it_is_a_dashboard() -> None:
    assert {"title", "uid", "schemaVersion", "panels", "templating", "time"} <= DASHBOARD.keys()
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        assert panel["type"] in {"row", "timeseries"} and panel["title"]
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"} and panel["description"]
        refs = [target["refId"] for target in panel["targets"]]
        assert refs and len(set(refs)) == len(refs)
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$(?!__)\{?(\w+)", FILE.read_text(encoding="utf-8")))
    assert used <= variables
