"""The metrics of a worker: what its turns, models, appends and processes come to, told to a collector by OTLP.

Only where `AGENT_METRICS` asks for it; otherwise nothing is imported and nothing counted. Promises that no turn waits
for a collector, and that neither texts nor users are in them. What is counted leaves the process soon after each turn
(`metrics_otlp.py`); what it has counted since then goes with a process that is killed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from flameagent.apis import Answer

if TYPE_CHECKING:
    from flameagent.conversation.log import Appends
    from flameagent.service.metrics_otlp import Meters

SETTING = "AGENT_METRICS"

_meters: Meters | None = None
_begun = False


def wanted() -> bool:
    """Whether the settings want metrics, and what sends them is there."""
    return os.environ.get(SETTING, "").strip() == "otlp" and not trouble()


def trouble() -> str:
    """Why metrics are not sent although the settings want that, or something like it, as a sentence; "" otherwise."""
    said = os.environ.get(SETTING, "").strip()
    if said in ("", "0", "off"):
        return ""
    if said != "otlp":
        return f"{SETTING} is otlp or off, not {said!r}: no metrics are sent."
    try:
        is_there = find_spec("opentelemetry.exporter.otlp.proto.grpc") and find_spec("opentelemetry.sdk")
    except ModuleNotFoundError:
        is_there = None
    if not is_there:
        return f"{SETTING}=otlp needs the extra `otel`: pip install 'flame-openai-agent[otel]'. No metrics are sent."
    return ""


def prepare() -> None:
    """Import what sends them, before workers are forked: nothing is begun."""
    if wanted():
        import flameagent.service.metrics_otlp  # noqa: F401


def start(application: str, how: str) -> None:
    """Begin to count in this process, which began in that way: `forked` or `spawned`. Can be repeated."""
    global _meters, _begun
    if _begun:
        return
    _begun = True
    if not wanted():
        _say(trouble())
        return
    try:
        from flameagent.service.metrics_otlp import Meters

        _meters = Meters(application)
    except Exception as error:  # a variable of OpenTelemetry's that makes no sense
        _say(f"No metrics are sent: OpenTelemetry says {type(error).__name__}: {error}.")
        return
    _meters.starts.add(1, {"how": how})


def lost(cause: str) -> None:
    """The worker before this one has ended without being told to."""
    if _meters is not None:
        _meters.deaths.add(1, {"cause": cause})


def turn_ended(answer: Answer, seconds: float, appends: Appends | None) -> None:
    """A turn has ended with that answer; `appends` are those of its conversation so far."""
    if _meters is None:
        return
    outcome = answer.code or "answered"
    _meters.turns.add(1, {"outcome": "awaiting_approval" if outcome == "waiting" and not answer.error else outcome})
    _meters.turn_duration.record(seconds)
    if appends is not None:
        _meters.appended(appends)
    _meters.send_soon()


@contextmanager
def call(model: str) -> Iterator[None]:
    """Around a call of a model: how long it takes, and what kind of error it raises."""
    if _meters is None:
        yield
        return
    with _meters.call(model):
        yield


def used(model: str, input_tokens: int, cached_tokens: int, output_tokens: int) -> None:
    """A call of a model has used so many tokens."""
    if _meters is not None:
        for kind, count in (("input", input_tokens), ("cached", cached_tokens), ("output", output_tokens)):
            _meters.tokens.add(count, {"model": _meters.name(model), "kind": kind})


def _say(sentence: str) -> None:
    if sentence:
        print(sentence, file=sys.stderr, flush=True)
