"""What an instance costs before its worker has done anything: `uv run python -m benchmarks.instance`.

From the start of `python -m flameagent.service` until its socket is there: time, CPU of its own threads, and memory
that no other process shares; the memory again when its worker has run a task. And a worker of the demo agent, from
being asked for until it says that it is ready: started, and forked by a nursery that is there.
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
import threading
import time
from pathlib import Path
from typing import NamedTuple

import grpc

from benchmarks.engine import ROOT
from flameagent.service.process.messages import FromWorker, Ready, receive
from flameagent.service.process.worker_process import WorkerProcess, Workers
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


def workers(folder: Path, runs: int) -> tuple[float, list[float]]:
    """Milliseconds until a worker is ready: the first, which is started, and each of so many that are forked."""
    os.chdir(ROOT)
    made = Workers("agent", str(folder / "w.sock"), lambda said: print(said, file=sys.stderr))
    with Path(os.devnull).open("wb") as output:
        started, first = _ready(made, output.fileno())
        deadline = time.monotonic() + 60
        while not list(folder.glob("nurseries-*/*.sock")):
            if time.monotonic() > deadline:
                raise SystemExit("The agent's first worker has founded no nursery.")
            time.sleep(0.01)
        time.sleep(3)  # it rehearses where nobody asks
        forked = []
        for _ in range(runs):
            took, worker = _ready(made, output.fileno())
            forked.append(took)
            worker.kill()
        first.kill()
    return started, forked


def _ready(made: Workers, output: int) -> tuple[float, WorkerProcess]:
    asked = time.perf_counter()
    worker, connection = made.start(output, threading.Event())
    said = receive(connection, FromWorker)
    took = (time.perf_counter() - asked) * 1000
    if not isinstance(said, Ready):
        raise SystemExit(f"The worker does not start: {said}")
    connection.close()
    return took, worker


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
    with tempfile.TemporaryDirectory(prefix="fl") as folder:
        started, forked = workers(Path(folder), runs)
    print(f"| an instance, exec to listening ({runs} runs) | least | p50 | most |\n|---|---|---|---|")
    for name, column, unit in (
        ("CPU", [cost.cpu for cost in costs], "ms"),
        ("time", [cost.wall for cost in costs], "ms"),
        ("memory of its own", [cost.private for cost in costs], "MB"),
        ("memory of its own, after a turn", [cost.private_after for cost in costs], "MB"),
    ):
        least, middle, most = min(column), statistics.median(column), max(column)
        print(f"| {name} | {least:.1f} {unit} | {middle:.1f} {unit} | {most:.1f} {unit} |")
    least, middle, most = min(forked), statistics.median(forked), max(forked)
    print(f"| a worker, asked to ready, forked | {least:.1f} ms | {middle:.1f} ms | {most:.1f} ms |")
    print(f"| the same, started | | {started:.0f} ms | |")


if __name__ == "__main__":
    main()
