"""`python -m benchmarks`: what a turn costs here and elsewhere, measured side by side in one run."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks import report
from benchmarks.engine import ROOT, Engine
from benchmarks.measures import Measures, Plan
from benchmarks.model import NAME, served

QUICK = Plan((0, 100, 1000), 1, 1000, 20, 1, {1: 20, 8: 5}, ())


def main(
    quick: Annotated[bool, typer.Option("--quick", help="A minute's worth, to see that it works.")] = False,
    output: Annotated[
        Path, typer.Option(help="The folder for benchmarks.md and benchmarks.png.", file_okay=False)
    ] = ROOT / "docs",
) -> None:
    """Measure what a turn costs, beside the Agents SDK's own sessions and Flame's own example, and write it down.

    On the embedded engine, in a home of its own; or on the cluster that FLAME_ENDPOINT names, which has to run on
    this machine, because its nodes start this checkout.
    """
    plan, console = QUICK if quick else Plan(), Console(stderr=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="benchmark") as name, served() as url:
        folder = Path(name)
        os.environ.update(OPENAI_BASE_URL=url, OPENAI_API_KEY="benchmark", AGENT_MODEL=NAME)
        os.environ.pop("AGENT_HISTORY", None)
        with Progress(console=console) as progress, Engine(folder) as engine:
            measures = Measures(engine, folder, progress)
            results = measures.take(plan)
    results.minutes = (time.monotonic() - began) / 60
    report.write(results, output)
    print(report.table(results))
    console.print(f"Written to {output / 'benchmarks.md'} and {output / 'benchmarks.png'}.")


if __name__ == "__main__":
    typer.run(main)
