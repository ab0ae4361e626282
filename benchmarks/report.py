"""The page and the plot that a run writes."""

from __future__ import annotations

import os
import platform
import statistics
from pathlib import Path

from benchmarks.measures import Results

LABELS = {
    "sqlite": "Agents SDK, SQLiteSession in process",
    "memory": "Agents SDK, in-memory session in process",
    "bare": "`Runner.run` in process, no session, our model class",
    "naive": "Flame's example, on the engine",
    "all": "here, through the engine, all items sent",
    "window": "here, through the engine, default window",
}
NOISY = 1.5
"""Above this ratio a machine was too busy for its figures to be more than upper bounds."""


def table(results: Results) -> str:
    """The results as Markdown."""
    sizes = sorted(results.turns["all"])
    lines = [
        f"A turn, p50 / p95 in ms, on {results.engine}:",
        "",
        "| items before the turn | " + " | ".join(str(size) for size in sizes) + " |",
        "|---|" + "---|" * len(sizes),
    ]
    for kind, label in LABELS.items():
        cells = [f"{_p50(taken):.0f} / {_p95(taken):.0f}" for _, taken in sorted(results.turns[kind].items())]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    over = [_p50(results.turns["all"][size]) - _p50(results.turns["bare"][size]) for size in sizes]
    lines.append("| engine and storage over the bare `Runner.run` | " + " | ".join(f"{ms:.0f}" for ms in over) + " |")
    lines += ["", "| | p50 | p95 |", "|---|---|---|"]
    lines += [f"| {row} | {_p50(taken):.0f} ms | {_p95(taken):.0f} ms |" for row, taken in results.one_off.items()]
    lines += ["", "| a worker's reading before its first turn | ms | calls of the cache |", "|---|---|---|"]
    lines += [f"| {size} items | {ms:.0f} | {calls} |" for size, (ms, calls) in results.cold.items()]
    lines += ["", "| sessions at once, 100 items each | turns a second | memory of all processes |", "|---|---|---|"]
    lines += [
        f"| {sessions} | {rate:.1f} | {f'{memory:.0f} MB' if memory else ''} |"
        for sessions, (rate, memory) in results.crowds.items()
    ]
    if results.bytes_a_turn:
        lines += ["", "| a turn at 1000 items | JSON of its items | written | stored |", "|---|---|---|---|"]
        lines += [
            f"| {'here' if kind == 'ours' else LABELS['naive']} | {added:.0f} B | {written / 1024:.1f} KB "
            f"| {stored / 1024:.1f} KB |"
            for kind, (added, written, stored) in results.bytes_a_turn.items()
        ]
    return "\n".join(lines)


def write(results: Results, folder: Path) -> None:
    """Write `benchmarks.md` and `benchmarks.png` into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmarks.md").write_text(_page(results), encoding="utf-8")
    _plot(results, folder / "benchmarks.png")


def _page(results: Results) -> str:
    trust = (
        f"**The machine was too busy to tell**: the same work took {results.noisy:.1f} times as long at the 90th "
        "percentile as at its best. Read the figures beside each other, not as what a quiet machine does."
        if results.noisy > NOISY
        else f"The machine was quiet: the same work took at most {results.noisy:.1f} times as long at the 90th "
        "percentile as at its best."
    )
    return f"""# Benchmarks

![Milliseconds a turn, by the length of the conversation](benchmarks.png)

Made by one command, which measures everything side by side in one run, in alternation, against a chat-completions
server on loopback that answers at once:

```
uv run --group bench python -m benchmarks          # {results.minutes:.0f} minutes; --quick: one
```

With `FLAME_ENDPOINT` set it runs on that cluster, which has to be on the same machine.

{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}. {trust}

{table(results)}

*Flame's example* reads the whole context before a turn and writes it back whole after it; it runs on the same engine.
*In process* means without an engine: nothing survives the process but what SQLite has. A turn here is what a client
sees: create a task, watch it, get it; agent and model run in a process of their own. Where there are more sessions at
once than executors (8), each waits for its turn to have an instance started, most of which is the import of the SDK.

## Where the time goes

Of a turn without a history, some 20 ms, the processes take on the processor: the engine 6 to 7 (gRPC and Arrow in
Python, three commits that reach the disk), the worker 8 to 10 (half of it `Runner.run`; then the read, the append
and the SDK's own session machinery), the instance 1, the client 2; the rest is waiting for the disk and for each
other. Of a turn with 1000 items, all of which go to the model, the worker takes 20: the SDK's conversion to messages,
their JSON, its search for duplicates and orphans. In process, with the SDK's own model class, nine tenths go to the
openai client's walk over each value of the request.

What is stored for a turn beside its items (their JSON is some 500 bytes here) is the question and the answer once
more, for a repeated question and for lists, the usage, and the task with its input, output and events, which Flame
keeps too.
"""


def _plot(results: Results, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    styles = {"sqlite": "o--", "memory": "s--", "bare": "^:", "naive": "v--", "all": "o-", "window": "D-"}
    for kind, label in LABELS.items():
        taken = results.turns[kind]
        axes.plot(
            [max(size, 1) for size in taken],
            [_p50(each) for each in taken.values()],
            styles[kind],
            label=label.replace("`", ""),
            linewidth=2.5 if kind in ("all", "window") else 1.2,
        )
    axes.set(xscale="log", yscale="log", xlabel="items before the turn", ylabel="ms a turn (p50)")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def _p50(taken: list[float]) -> float:
    return statistics.median(taken)


def _p95(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=20, method="inclusive")[-1] if len(taken) > 1 else taken[0]
