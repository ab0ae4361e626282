"""Words and numbers about a conversation, wherever it is shown: in a terminal, in Markdown, on a page."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flameagent.client.timings import TurnTimes
    from flameagent.conversation import Attached, Call, Summary, TurnDecision

_TITLE = 60


def turns(count: int) -> str:
    """How many turns, in words."""
    return "1 turn" if count == 1 else f"{count} turns"


def failures(count: int) -> str:
    """How many turns have failed, in words."""
    return f"{turns(count)} failed"


def seconds(milliseconds: float) -> str:
    """How long something took, in a few characters."""
    if milliseconds < 1000:
        return f"{max(milliseconds, 0):.0f} ms"
    if milliseconds < 120_000:
        return f"{milliseconds / 1000:.1f} s"
    return f"{milliseconds / 60_000:.0f} min"


def count(number: float) -> str:
    """How many of something, in a few characters."""
    for unit, length in (("M", 1_000_000), ("k", 1000)):
        if number >= 10 * length:
            return f"{number / length:.0f}{unit}"
        if number >= length:
            return f"{number / length:.1f}{unit}"
    return f"{number:g}"


def times(found: TurnTimes) -> list[str]:
    """Lines for the times of a turn: when it was asked and what it took, and its calls of tools."""
    parts = [f"asked {_clock(found.asked)}"] if found.asked is not None else []
    for label, took in (("waited", found.waited), ("ran", found.ran), ("models", found.model)):
        if took is not None:
            parts.append(f"{label} {seconds(took)}")
    if found.ran is None and found.total is not None:
        parts.append(f"answered after {seconds(found.total)}")
    lines = [" · ".join(parts) or "not known: an older program has answered"]
    if found.tools:
        calls = [
            f"{each.tool or each.call_id} {seconds(each.took)}{' (failed)' * each.failed}" for each in found.tools
        ]
        lines.append(f"tools: {', '.join(calls)}")
    return lines


def _clock(at: int) -> str:
    """A moment with its seconds."""
    try:
        return datetime.fromtimestamp(at / 1000).astimezone().strftime("%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "at an unknown time"


def title(text: str) -> str:
    """A text as one short line."""
    line = " ".join(text.split())
    return line if len(line) <= _TITLE else f"{line[: _TITLE - 1]}…"


def size(count: int) -> str:
    """Bytes, in a few characters."""
    for unit, length in (("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)):
        if count >= length:
            return f"{count / length:.0f} {unit}"
    return f"{count} B"


def tokens(usage: dict[str, int]) -> str:
    """How many tokens went in and came out, in a few characters."""
    count = usage.get("input_tokens", 0) + usage.get("output_tokens", 0)
    for unit, size in (("M", 1_000_000), ("k", 1000)):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)


def age(created: int) -> str:
    """How long ago a moment in epoch milliseconds was, in its largest unit."""
    seconds = max(time.time() - created / 1000, 0)
    for name, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {name}"
    return f"{int(seconds)} s"


def moment(at: int) -> str:
    """A moment in epoch milliseconds, in local time; in words where no calendar has it."""
    try:
        return datetime.fromtimestamp(at / 1000).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return "at an unknown time"


def learned(key: str, text: str | None) -> str:
    """Words for what a turn remembered, or forgot."""
    return f"forgot {key}" if text is None else f"remembered {key}: {text}"


def summarized(summary: Summary) -> str:
    """The heading of a summary: of which turns it is, when it was made, and by which model."""
    of = "turn 1" if summary.turn_count == 1 else f"turns 1 to {summary.turn_count}"
    return " · ".join(filter(None, (f"Summary of {of}", moment(summary.at), summary.model)))


def attached(found: Attached) -> str:
    """An attachment as a line: its name, its type and its size."""
    return f"{found.name}, {found.media_type}, {size(found.size)}"


def decided_lines(decided: TurnDecision, among: list[dict[str, Any]]) -> list[str]:
    """Lines for what was decided of which calls, and by whom; `among` are the items that have the calls."""
    shown = {call.id: call_text(call) for call in decided.calls}
    shown |= {item.get("call_id", ""): item.get("name", "") for item in among if item.get("type") == "function_call"}
    lines = []
    for verb, ids in (("approved", decided.approved), ("rejected", decided.rejected)):
        if ids:
            calls = ", ".join(f"{shown[each]} ({each})" if shown.get(each) else each for each in ids)
            always = " for good" if verb == "approved" and decided.always_approved else ""
            reason = f": {decided.reason}" if verb == "rejected" and decided.reason else ""
            lines.append(f"{decided.by or 'someone'} {verb} {calls}{always}{reason}")
    return lines


def call_text(call: Call) -> str:
    """A call as a line: who calls what with which arguments."""
    text = f"{call.tool}({call.arguments})"
    return f"{call.agent}: {text}" if call.agent else text
