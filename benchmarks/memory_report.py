"""What was measured of a person's memory, in words: tables, and their place in the page of all benchmarks."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.memory_measures import Results

HEADING = "## Memory"
"""What the part of the page begins with; it is the last one."""


def tables(results: Results) -> str:
    """The results as Markdown."""
    lines = ["| what is looked for | questions | found |", "|---|---|---|"]
    lines += [f"| {name} | {questions} | {share:.3f} |" for name, questions, share in results.recall]
    lines += [
        "",
        "| turns remembered | first search of a process, no index | with the node's file | search p50 / p99 "
        "| in the cache a turn | in the index a turn | memory of the process |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each.turns:,} | {each.made:,.0f} ms | {each.found:.0f} ms | {each.p50:.1f} / {each.p99:.1f} ms "
        f"| {each.cached:.0f} B | {each.indexed:.0f} B | {each.grown:.0f} MB |".replace(",", " ")
        for each in results.sizes
    ]
    if results.costs:
        lines += ["", "| a warm turn, turns remembered | with memory | without | more, p50 | p25 |"]
        lines += ["|---|---|---|---|---|"]
    lines += [
        f"| {each.turns:,} | {statistics.median(each.on):.1f} ms | {statistics.median(each.off):.1f} ms "
        f"| {each.difference:.1f} ms | {each.quarter:.1f} ms |".replace(",", " ")
        for each in results.costs
    ]
    return "\n".join(lines)


def section(results: Results) -> str:
    """The part of the page."""
    load = " to ".join(f"{each:.1f}" for each in results.load)
    return f"""{HEADING}

```
uv run python -m benchmarks.memory --locomo FOLDER --page docs/benchmarks.md
```

In a run of its own, on {results.cores} cores that {load} processes wanted at once: beside what a quiet machine does
these times are upper bounds.

{tables(results)}

*Found* is the share of the turns with the evidence that are among the first ten hits, by words alone. Of facts that
were told five times, each time differently, it is the share of the questions whose first hit, or one of the five that
a question is shown, is the turn that told it last. Under a key that the agent notes facts with (`remember`) the
newest always holds. LoCoMo's conversations are two lines a turn. The first search of a process reads what is new, and
makes the index of the whole log where the node has none. Turns with and without memory take their turns in
alternation, in two sessions that are as long as each other, against the model's server that answers at once; p25
says what it is with less of what else the machine does.
"""


def write(results: Results, page: Path) -> None:
    """Put it into the page, in place of what was there."""
    before, _, _ = page.read_text(encoding="utf-8").partition(f"\n{HEADING}\n")
    page.write_text(f"{before.rstrip()}\n\n{section(results)}", encoding="utf-8")
