"""What an instance costs before its worker has done anything: `uv run python -m benchmarks.instance`.

From the start of `python -m flameagent.service` until its socket is there: time, CPU of its own threads, and memory
that no other process shares; the memory again when its worker has run a task.
"""

from __future__ import annotations

import argparse
import os
import pickle
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import grpc

from benchmarks.engine import ROOT
from flamewire.stubs import shim, shim_grpc

_SERVICE = """
from flameagent.service import FlameInstance
instance = FlameInstance()

@instance.entrypoint
def answer(question):
    return question
"""


class Cost(NamedTuple):
    """One start: milliseconds, milliseconds of CPU, and MB."""

    wall: float
    cpu: float
    private: float
    private_after: float


def measure(folder: Path) -> Cost:
    """Start one instance in a folder with the service as `agent.py`, have it run a task, and end it."""
    endpoint = folder / "i.sock"
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "FLAME_INSTANCE_ENDPOINT": str(endpoint)}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each start compiles what it imports
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "flameagent.service", "agent"],
        cwd=folder,
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not endpoint.exists():
            if process.poll() is not None:
                raise SystemExit("The instance does not start.")
            time.sleep(0.001)
        wall = time.perf_counter() - started
        cpu, private = _cpu(process.pid), _private(process.pid)
        with grpc.insecure_channel(f"unix:{endpoint}") as channel:
            stub = shim_grpc.InstanceStub(channel)
            stub.OnSessionEnter(shim.SessionContext(session_id="s"))
            result = stub.OnTaskInvoke(shim.TaskContext(task_id="1", session_id="s", input=pickle.dumps("?")))
            if result.return_code != 0:
                raise SystemExit(f"The task failed: {result.message}")
            return Cost(wall * 1000, cpu, private, _private(process.pid))
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        endpoint.unlink(missing_ok=True)


def _cpu(pid: int) -> float:
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e6


def _private(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def main() -> None:
    """Measure and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=15, help="instances to start (15)")
    runs = arguments.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="fl") as folder:
        Path(folder, "agent.py").write_text(_SERVICE, encoding="utf-8")
        measure(Path(folder))  # compiles what is imported
        costs = [measure(Path(folder)) for _ in range(runs)]
    print(f"| an instance, exec to listening ({runs} runs) | least | p50 | most |\n|---|---|---|---|")
    for name, column, unit in (
        ("CPU", [cost.cpu for cost in costs], "ms"),
        ("time", [cost.wall for cost in costs], "ms"),
        ("memory of its own", [cost.private for cost in costs], "MB"),
        ("memory of its own, after a turn", [cost.private_after for cost in costs], "MB"),
    ):
        least, middle, most = min(column), statistics.median(column), max(column)
        print(f"| {name} | {least:.1f} {unit} | {middle:.1f} {unit} | {most:.1f} {unit} |")


if __name__ == "__main__":
    main()
