"""The page and the plot that a run writes."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.engine import ROOT
from benchmarks.measures import HELP, IMPORT, NEW, NOTHING, WARM, Results
from flameagent.conversation.reader import SEGMENT_RECORDS

LABELS = {
    "sqlite": "Agents SDK, SQLiteSession in process",
    "memory": "Agents SDK, in-memory session in process",
    "bare": "`Runner.run` in process, no session, our model class",
    "naive": "Flame's example, on the engine",
    "all": "here, through the engine, all items sent",
    "window": "here, through the engine, default window",
}
OTHERS = "## An instance"
"""The heading from which on the page is written by other benchmarks."""
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
        lines += [
            "",
            "| a turn at 1000 items | JSON of its items | more in the cache | more in the file | written |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {'here' if kind == 'ours' else LABELS['naive']} | {took.items:.0f} B | {took.cached:.0f} B "
            f"| {took.stored / 1024:.1f} KB | {took.written / 1024:.1f} KB |"
            for kind, took in results.bytes_a_turn.items()
        ]
    if results.segments:
        lines += [
            "",
            "| records a segment | an append, p50 | a worker's reading before its first turn | calls of the cache |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {records}{' (here)' * (records == SEGMENT_RECORDS)} | {append:.1f} ms | {cold:.0f} ms | {calls} |"
            for records, (append, cold, calls) in results.segments.items()
        ]
    return "\n".join(lines)


def aims(results: Results) -> str:
    """The table of what was to hold, and whether it did in this run, as Markdown."""
    lines = ["| what was to hold | at most | here | |", "|---|---|---|---|"]
    for what, limit, measured, unit in _aims(results):
        held = "held" if round(measured) <= limit else f"**missed** by {measured - limit:.0f} {unit}"
        lines.append(f"| {what} | {limit:.0f} {unit} | {measured:.0f} {unit} | {held} |")
    return "\n".join(lines)


def _aims(results: Results) -> Iterator[tuple[str, float, float, str]]:
    """A row: what, at most how much, what was measured, and the unit of both."""
    embedded = bool(results.bytes_a_turn)
    p50 = {kind: {size: _p50(taken) for size, taken in sizes.items()} for kind, sizes in results.turns.items()}
    for size, limit in {0: 15, 100: 20, 1000: 35, 4000: 100}.items():
        if size in p50["all"]:
            yield f"a turn at {size} items, all sent", limit, p50["all"][size], "ms"
    for size, took in p50["window"].items():
        yield f"a turn at {size} items, default window", 18, took, "ms"
    for size, took in p50["all"].items():
        over = took - p50["bare"][size]
        yield f"engine and storage over the bare `Runner.run`, {size} items", 8 if embedded else 11, over, "ms"
    if 1000 in p50["all"]:
        of = 100 * p50["all"][1000] / p50["sqlite"][1000]
        yield "a turn at 1000 items, all sent, of what SQLiteSession takes in process", 100 / 6, of, "%"
    for size, (took, _) in results.cold.items():
        yield f"a worker's reading before its first turn, {size} items", 150, took, "ms"
    if embedded:
        grown = results.bytes_a_turn["ours"]
        yield "more in the cache a turn, of the JSON of its items", 160, 100 * grown.cached / grown.items, "%"
    once = {row: _p50(taken) for row, taken in results.one_off.items()}
    for row, limit in {HELP: 400, WARM: 1200, NEW: 450}.items():
        if row in once:
            yield row, limit, once[row], "ms"
    if NOTHING in once:
        yield f"{NOTHING}, over {IMPORT}", 2000, once[NOTHING] - once[IMPORT], "ms"


def write(results: Results, folder: Path) -> None:
    """Write `benchmarks.md` and `benchmarks.png` into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "benchmarks.md"
    page.write_text(_page(results) + _kept(page), encoding="utf-8")
    _plot(results, folder / "benchmarks.png")


def _kept(page: Path) -> str:
    """What the page has of other benchmarks, which write it themselves; "" where it has nothing."""
    if not page.exists():
        return ""
    _, heading, after = page.read_text(encoding="utf-8").partition(f"\n{OTHERS}\n")
    return heading and heading + after


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

Made by one command, which measures everything side by side in one run, five turns of each kind in alternation,
against a chat-completions server on loopback that answers at once:

```
uv run python -m benchmarks          # {results.minutes:.0f} minutes; --quick: one
```

With `FLAME_ENDPOINT` set it runs on that cluster, which has to be on the same machine.

{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}. {trust}

{table(results)}

*Flame's example* reads the whole context before a turn and writes it back whole after it; it runs on the same engine.
*In process* means without an engine: nothing survives the process but what SQLite has. A turn here is what a client
sees: create a task and watch it; agent and model run in a process of their own.

## What was to hold

{aims(results)}

## Where the time goes

A timeline of 120 turns in a row on the embedded engine, all items sent, p50 in ms, on a machine at its slowest (a
bare `Runner.run` took 6 there):

| | 0 items | 1000 items |
|---|---|---|
| until the worker has the task: created by the client, committed by the engine, handed on | 2.3 | 2.9 |
| the worker looks whether the code has changed, and reads what is new | 1.0 | 1.2 |
| what the run begins with is prepared | 0.7 | 1.3 |
| `Runner.run`, with the session | 7.8 | 27.1 |
| the record is made; the worker looks whether it may append | 0.8 | 2.4 |
| the append; the engine commits it | 1.2 | 1.6 |
| until the client is told: the answer goes back, the engine commits the task's end | 3.0 | 3.6 |

What is read and looked at costs next to nothing since it is in the engine's file; most of the rest is the waking of
processes and of the threads of gRPC, three commits to the disk among it, and hardly depends on how long the
conversation is. What a turn takes over the bare `Runner.run` beyond that is what the SDK does where there is a
session: it has a copy of all items made, and looks at each. Of the run with 1000 items the conversion to messages and
their JSON are the largest parts. In process, with the SDK's own model class, nine tenths go to the openai client's
walk over each value of the request.

An append takes the same in a segment of any size, and a cold reader the longer the larger it is; a segment for few
records makes many objects of a conversation, which whoever wants all of it reads one by one.

What is in the cache for a turn beside its items (their JSON is some 460 bytes here) is the usage and what numbers the
record, however long the items are: some 260 bytes. In the file there are also the task with its input, output and
events, which Flame keeps too.
"""


def _plot(results: Results, path: Path) -> None:
    """Drawn in an environment of its own: what that needs would slow down the imports that are measured here."""
    lines = [
        {"kind": kind, "label": label.replace("`", ""), "sizes": list(taken), "ms": list(map(_p50, taken.values()))}
        for kind, label in LABELS.items()
        if (taken := results.turns[kind])
    ]
    command = ["uv", "run", "--isolated", "--group", "bench", "python", "-m", "benchmarks.plot", str(path.resolve())]
    subprocess.run(command, input=json.dumps(lines), text=True, cwd=ROOT, check=True)


def _p50(taken: list[float]) -> float:
    return statistics.median(taken)


def _p95(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=20, method="inclusive")[-1] if len(taken) > 1 else taken[0]
