"""A report of an agent for people: a web page of one file, which loads nothing and runs nothing, or some lines.

Promises that what models, servers and users have chosen as names or said as reasons is shown and never obeyed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from flameagent.transcript import plots, wording
from flameagent.transcript.pages import render
from flameagent.transcript.plots import Plot, Values

if TYPE_CHECKING:
    from flameagent.client.report import Percentiles, Report

_LABELS = {"hour": "%d %b %H:00", "day": "%d %b", "week": "%d %b"}
_EACH = {"hour": "hour by hour", "day": "day by day", "week": "week by week"}


@dataclass(frozen=True)
class Table:
    """A table of the page; the columns of these places are `texts`, the others numbers."""

    title: str
    note: str
    head: list[str]
    rows: list[list[str]]
    texts: Sequence[int] = (0,)


def page(found: Report) -> str:
    """The report as HTML."""
    return render(
        "flameagent.transcript",
        "report",
        title=f"{found.application}, {_period(found)}",
        about=_about(found),
        figures=_figures(found),
        plots=_plots(found),
        tables=_tables(found),
        width=plots.WIDTH,
        height=plots.HEIGHT,
    )


def lines(found: Report) -> list[str]:
    """The report in a few lines."""
    told = [f"{found.application}, {_period(found)}", ""]
    width = max(len(label) for label, *_ in _figures(found))
    told += [f"{label:<{width}}  {value}{f'  ({note})' if note else ''}" for label, value, note in _figures(found)]
    for table in _tables(found):
        told += ["", table.title, *_columns(table)]
    told += ["", *_notes(found)] if _notes(found) else []
    return told


def _columns(table: Table) -> list[str]:
    rows = [table.head, *table.rows]
    widths = [max(len(row[at]) for row in rows) for at in range(len(table.head))]
    return [
        "  ".join(
            cell.ljust(width) if at in table.texts else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _period(found: Report) -> str:
    first = found.since or (found.spans[0].start if found.spans else found.until)
    return f"{wording.moment(first)} to {wording.moment(found.until)}"


def _about(found: Report) -> list[str]:
    zone = datetime.fromtimestamp(found.until / 1000).astimezone().tzname() or "local time"
    return [f"{_EACH[found.step].capitalize()}, in {zone}.", *_notes(found)]


def _notes(found: Report) -> list[str]:
    notes = []
    if found.unpriced:
        notes.append(f"Without a price in the settings: {', '.join(each or '(no name)' for each in found.unpriced)}.")
    if found.unread:
        count = "1 session" if len(found.unread) == 1 else f"{len(found.unread)} sessions"
        notes.append(f"{count} could not be read as a whole: {', '.join(found.unread[:5])}.")
    return notes


def _figures(found: Report) -> list[tuple[str, str, str]]:
    """The numbers in large: each with its name, and what else there is to say of it."""
    asked = found.turns + found.failures
    share = f"{found.failures / asked:.1%} of all" if found.failures else ""
    used = found.usage
    cached = f"{used.cached_tokens / used.input_tokens:.0%} of those in were cached" if used.cached_tokens else ""
    figures = [
        ("turns answered", str(found.turns), _in(found)),
        ("turns failed", str(found.failures), share),
        ("a turn ran", *_times(found.ran)),
        ("it waited before", *_times(found.waited)),
        ("of it, its models", *_times(found.model_time)),
        ("tokens", wording.count(used.input_tokens + used.output_tokens), cached),
    ]
    if found.cost is not None:
        figures.append(("cost", _money(found.cost), ""))
    return figures


def _in(found: Report) -> str:
    sessions = "1 session" if found.sessions == 1 else f"{found.sessions} sessions"
    users = "" if not found.users else ", 1 user" if found.users == 1 else f", {found.users} users"
    return f"in {sessions}{users}"


def _times(found: Percentiles) -> tuple[str, str]:
    if found.p50 is None or found.p95 is None:
        return "-", ""
    return wording.seconds(found.p50), f"95% within {wording.seconds(found.p95)}"


def _plots(found: Report) -> list[Plot]:
    spans = found.spans
    if not found.turns and not found.failures:
        return []
    times = [datetime.fromtimestamp(span.start / 1000).strftime(_LABELS[found.step]) for span in spans]
    each = _EACH[found.step]
    worst = max(spans, key=lambda span: span.failures)
    summary = f"{found.turns} turns were answered and {found.failures} failed"
    if worst.failures:
        summary += f", most of them ({worst.failures}) at {times[spans.index(worst)]}"
    answered = Values("answered", "good", [span.turns for span in spans])
    failed = Values("failed", "bad", [span.failures for span in spans])
    shown = [plots.bars(f"Turns, {each}", f"{summary}.", times, [answered, failed], wording.count)]
    if any(span.latency.count for span in spans):
        half = Values("half within", "good", [span.latency.p50 for span in spans])
        most = Values("95% within", "other", [span.latency.p95 for span in spans])
        within, rest = _times(found.latency)
        said = f"Half of all turns had their answer within {within}, {rest}."
        shown.append(plots.points(f"From question to answer, {each}", said, times, [half, most], wording.seconds))
    tokens = Values("tokens", "good", [span.tokens for span in spans])
    said = f"{wording.count(found.usage.input_tokens + found.usage.output_tokens)} tokens in all."
    shown.append(plots.bars(f"Tokens, {each}", said, times, [tokens], wording.count))
    if found.cost is not None:
        cost = Values("cost", "other", [span.cost for span in spans])
        shown.append(plots.bars(f"Cost, {each}", f"{_money(found.cost)} in all.", times, [cost], _money))
    return shown


def _tables(found: Report) -> list[Table]:
    tables = []
    if found.reasons:
        rows = [
            [each.code, str(each.count), wording.moment(each.newest), each.session_id, each.reason]
            for each in found.reasons
        ]
        codes = ", ".join(f"{code} {count}" for code, count in found.codes.items())
        head = ["code", "turns", "newest", "in session", "reason"]
        tables.append(Table("Why turns failed", f"By code: {codes}.", head, rows, (0, 4)))
    if found.models:
        rows = [
            [
                each.model or "-",
                str(each.turns),
                str(each.failed),
                str(each.usage.input_tokens),
                str(each.usage.cached_tokens),
                str(each.usage.output_tokens),
                "-" if each.cost is None else _money(each.cost),
            ]
            for each in found.models
        ]
        head = ["model", "turns", "failed", "tokens in", "of them cached", "tokens out", "cost"]
        tables.append(Table("Models", "Failed are attempts at turns that had asked the model before.", head, rows))
    if found.tools:
        rows = [
            [
                each.tool,
                str(each.calls),
                str(each.failed),
                "-" if each.took.p50 is None else wording.seconds(each.took.p50),
                "-" if each.took.p95 is None else wording.seconds(each.took.p95),
            ]
            for each in found.tools
        ]
        head = ["tool", "calls", "failed", "half within", "95% within"]
        tables.append(
            Table("Tools", "Failed are calls of turns that were answered, which raised something.", head, rows)
        )
    return tables


def _money(amount: float) -> str:
    return f"{amount:,.2f}" if amount >= 0.1 or amount == 0 else f"{amount:.4f}"
