"""A trace for people: each span with its time and what matters of it, as a tree of lines or as a web page.

The page loads nothing and runs nothing; names and errors, which others wrote, are shown and never obeyed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flameagent.client.traces import Span, TurnTrace
from flameagent.transcript import wording

_TEXTS = ("gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "gen_ai.input.messages", "gen_ai.output.messages")


@dataclass(frozen=True)
class Line:
    """A span as it is shown. `after` is when it began, behind the trace's own beginning; `left` and `width` are where
    its bar is, in percent of the whole."""

    branch: str
    depth: int
    name: str
    after: str
    took: str
    about: str
    error: str
    left: float
    width: float
    attributes: list[tuple[str, str]]
    texts: list[tuple[str, str]]


def lines(trace: TurnTrace) -> list[Line]:
    """The spans of a trace in the order of its tree."""
    return [_line(trace, span, lasts) for span, lasts in trace.tree()]


def heading(trace: TurnTrace) -> str:
    """What the trace is of, in a line."""
    named = f"turn {trace.number}" if trace.number else f"turn {trace.turn_id}"
    when = wording.moment(trace.start // 1_000_000)
    return " · ".join(filter(None, (trace.session_id, named, when, trace.outcome, time(trace.end - trace.start))))


def time(nanoseconds: int) -> str:
    """A time in a few characters."""
    milliseconds = nanoseconds / 1e6
    if milliseconds < 10:
        return f"{milliseconds:.1f} ms"
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    return f"{seconds:.2f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _line(trace: TurnTrace, span: Span, lasts: tuple[bool, ...]) -> Line:
    whole = max(trace.end - trace.start, 1)
    attributes = span["attributes"]
    stem = "".join("  " if last else "│ " for last in lasts[1:-1])
    own = "" if len(lasts) == 1 else "└ " if lasts[-1] else "├ "
    return Line(
        branch=stem + own,
        depth=len(lasts) - 1,
        name=span["name"],
        after=time(span["start"] - trace.start),
        took=time(span["end"] - span["start"]),
        about=_about(span),
        error=str(span.get("error") or attributes.get("error.type") or "") if _failed(span) else "",
        left=100 * (span["start"] - trace.start) / whole,
        width=100 * (span["end"] - span["start"]) / whole,
        attributes=[(name, str(value)) for name, value in sorted(_described(span).items()) if name not in _TEXTS],
        texts=[(name, str(attributes[name])) for name in _TEXTS if name in attributes],
    )


def _failed(span: Span) -> bool:
    return span.get("error") is not None or "error.type" in span["attributes"]


def _described(span: Span) -> dict[str, Any]:
    return {**span["attributes"], **span["resource"], "trace_id": span["trace_id"], "span_id": span["span_id"]}


def _about(span: Span) -> str:
    """What matters of a span beside its name, in a few words."""
    attributes = span["attributes"]
    told = []
    if span["kind"] in ("client", "server") and "gen_ai.operation.name" not in attributes:
        told.append(f"{span['resource'].get('service.name', '')} on {span['resource'].get('host.name', '')}")
    if (attempt := attributes.get("flame.attempt")) not in (None, 1):
        told.append(f"attempt {attempt}")
    given, made = attributes.get("gen_ai.usage.input_tokens"), attributes.get("gen_ai.usage.output_tokens")
    if "gen_ai.operation.name" in attributes and given is not None:
        cached = attributes.get("gen_ai.usage.cache_read.input_tokens")
        told.append(f"{given} tokens{f' ({cached} cached)' if cached else ''} → {made}")
    if isinstance(reasons := attributes.get("gen_ai.response.finish_reasons"), list):
        told.append(", ".join(map(str, reasons)))
    if "flame.hits" in attributes:
        told.append(f"{attributes['flame.hits']} found")
    if attributes.get("flame.guardrail.triggered"):
        told.append("triggered")
    if server := attributes.get("flame.mcp.server"):
        told.append(str(server))
    if status := attributes.get("http.response.status_code"):
        told.append(str(status))
    if attributes.get("flame.unfinished"):
        told.append("unfinished")
    return ", ".join(filter(None, told))


def page(trace: TurnTrace) -> str:
    """The trace as HTML."""
    from flameagent.transcript.pages import render

    given = {"title": heading(trace), "lines": lines(trace)}
    return render("flameagent.transcript", "trace", lstrip_blocks=True, **given)
