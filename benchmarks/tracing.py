"""What traces cost a turn: `uv run python -m benchmarks.tracing`, less than a minute.

The same agent without traces, with a file of them, and with a collector that takes all, in alternation: milliseconds
of a turn as its client sees them, of a scripted model that answers at once, so that nothing hides behind it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import grpc

from benchmarks.engine import Engine
from benchmarks.measures import IN_A_ROW
from benchmarks.model import NAME, served, serving

_EXPORT = "opentelemetry.proto.collector.trace.v1.TraceService"


@contextmanager
def collector() -> Iterator[str]:
    """A collector in a process of its own, which takes spans and keeps none; its URL."""
    with serving("benchmarks.tracing", "--collect") as url:
        yield url


def collect() -> None:
    """Be that collector."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    take = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")  # an empty message says that all is well
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_EXPORT, {"Export": take}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"http://127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


def measure(rounds: int, size: int) -> dict[str, list[float]]:
    """Milliseconds of turns, by where their traces go."""
    taken: dict[str, list[float]] = {"off": [], "file": [], "otlp": []}
    with tempfile.TemporaryDirectory(prefix="benchmark") as name, served() as model, collector() as url:
        folder = Path(name)
        os.environ.update(OPENAI_BASE_URL=model, OPENAI_API_KEY="benchmark", AGENT_MODEL=NAME, XDG_STATE_HOME=name)
        variables = {each: os.environ[each] for each in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "AGENT_MODEL")}
        with Engine(folder) as engine:
            sessions = {}
            for kind in taken:
                traced = {"AGENT_TRACING": kind, "OTEL_EXPORTER_OTLP_ENDPOINT": url}
                application = engine.register("flameagent.service", "agent", **variables, **traced)
                sessions[kind] = engine.session(application, size)
            for session in sessions.values():  # imports, connections, caches
                for _ in range(10):
                    engine.turn(session)
            for _ in range(rounds):
                for kind, session in sessions.items():
                    taken[kind] += [engine.turn(session) for _ in range(IN_A_ROW)]
            engine.close_sessions()
    return taken


def main() -> None:
    """Measure and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=60, help=f"rounds of {IN_A_ROW} turns each (60)")
    arguments.add_argument("--items", type=int, default=100, help="items of the conversation (100)")
    arguments.add_argument("--collect", action="store_true", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.collect:
        collect()
        return
    taken = measure(given.rounds, given.items)
    without = statistics.median(taken["off"])
    print("| traces | turns | p50 | p90 | beside off |\n|---|---|---|---|---|")
    for kind, times in taken.items():
        middle, slow = statistics.median(times), statistics.quantiles(times, n=10)[-1]
        print(f"| {kind} | {len(times)} | {middle:.2f} ms | {slow:.2f} ms | {100 * (middle / without - 1):+.1f} % |")


if __name__ == "__main__":
    main()
