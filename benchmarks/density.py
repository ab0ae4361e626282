"""Many conversations at once on the embedded engine: `uv run python -m benchmarks.density [SESSIONS …]`.

For each number of sessions: how long it takes until all that are new are answered once, turns a second when each goes
on for six turns from new, turns a second of warm ones with 100 items each, and the memory of all processes (PSS).
Beside it the same with `AGENT_FORK=off`, where each worker imports the agent by itself, for the smaller numbers. The
clients are threads of this process, and the model is a process that says the same at once: they use the same cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks.engine import ROOT, Engine
from benchmarks.model import NAME, served

SPAWNED = 32
"""Sessions at most that are measured without forks."""


class Crowd(NamedTuple):
    """So many sessions at once: seconds until all were answered once, the longest of their first answers, turns a
    second from new and warm, MB of all processes."""

    sessions: int
    forked: bool
    cold: float
    new: float
    warm: float
    memory: float


def main() -> None:
    """Measure, and print a table in Markdown; with `--plot FILE`, draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sessions", nargs="*", type=int, default=[1, 8, 32, 100, 200])
    parser.add_argument("--turns", type=int, default=6, help="turns of each session from new")
    parser.add_argument("--warm", type=int, default=10, help="warm turns of each session")
    parser.add_argument("--plot", type=Path)
    asked = parser.parse_args()
    found: list[Crowd] = []
    print("| sessions | workers | all answered once | turns/s, new | turns/s, warm, 100 items | memory |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for sessions in asked.sessions:
        for forked in (True, False) if sessions <= SPAWNED else (True,):
            crowd = measure(sessions, forked, asked.turns, asked.warm)
            found.append(crowd)
            how = "forked" if forked else "started"
            print(
                f"| {sessions} | {how} | {crowd.cold:.2f} s | {crowd.new:.1f} | {crowd.warm:.1f} | "
                f"{crowd.memory:.0f} MB |",
                flush=True,
            )
    if asked.plot:
        drawing = ["uv", "run", "--isolated", "--group", "bench", "python", "-m", "benchmarks.plot_density"]
        crowds = json.dumps([crowd._asdict() for crowd in found])
        subprocess.run([*drawing, str(asked.plot.resolve())], input=crowds, text=True, cwd=ROOT, check=True)


def measure(sessions: int, forked: bool, turns: int, warm: int) -> Crowd:
    """So many sessions on an engine of their own, where one has run before them."""
    mark = f"benchmark-{uuid.uuid4().hex}"
    os.environ["LOCALFLAME_EXECUTORS"] = str(sessions + 8)
    with tempfile.TemporaryDirectory(prefix="density") as name, served() as url, Engine(Path(name)) as engine:
        application = engine.register(
            "flameagent.service",
            "agent",
            OPENAI_BASE_URL=url,
            OPENAI_API_KEY=mark,
            AGENT_MODEL=NAME,
            AGENT_FORK="on" if forked else "off",
        )
        engine.turn(engine.session(application, 0))
        time.sleep(2.0)  # the nursery is founded when the first worker has imported the agent

        def made() -> list[str]:
            return [engine.session(application, 100) for _ in range(sessions)]

        cold = made()
        took = _together(cold, lambda session: engine.turn(session))
        answered = _together(cold, lambda session: [engine.turn(session) for _ in range(warm)])
        memory = _memory(mark, engine.pid)
        engine.close_sessions()
        new = _together(made(), lambda session: [engine.turn(session) for _ in range(turns)])
    return Crowd(sessions, forked, took, sessions * turns / new, sessions * warm / answered, memory)


def _together(sessions: Iterable[str], do: Callable[[str], object]) -> float:
    """Do it in all sessions at once: seconds until the last is done."""
    sessions = list(sessions)
    with ThreadPoolExecutor(len(sessions)) as at_once:
        began = time.perf_counter()
        list(at_once.map(do, sessions))
        return time.perf_counter() - began


def _memory(mark: str, engine: int) -> float:
    """MB of the engine and of all processes with that mark in their environment, what they share counted once."""
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(process.name) == engine or mark.encode() in (process / "environ").read_bytes():
                lines = (process / "smaps_rollup").read_text().splitlines()
                found += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return found / 1024


if __name__ == "__main__":
    main()
