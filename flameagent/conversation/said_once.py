"""What a turn's record says once: in version 7 it leaves out what follows from the rest of it.

The question is the text of the turn's first item, the answer that of its last. Of the answer's other fields,
`turn_id` and `model` are the record's `turn` and `model`, and `usage` are the record's counts. A field that is there
is what it says. The record's `usage` is a list: its counts in this order, without the zeros at its end; `ms`, the
times, are a list without what is empty (`_NO_TIMES`) at its end. Promises that what was left out comes back as it
was: a turn of which that is not so is written in full. These rules are part of the format and never change; others
are a version of their own.
"""

from __future__ import annotations

from typing import Any

from flameagent.conversation.codec import encode

SAID_ONCE = 7
"""The version of turns of which something is left out."""

_COUNTS = (
    "requests",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
_NO_TIMES: list[Any] = [0, 0, None, {}, 0, []]


def shortened(turn: dict[str, Any]) -> dict[str, Any] | None:
    """The fields of a turn's record without what follows from the others; None where it has to be written in full.

    That is where neither the question nor the answer's text is in the items, or where something would follow that
    the answer has not.
    """
    answer: dict[str, Any] = turn["answer"]
    usage: dict[str, int] = turn.get("usage", {})
    counts = {name: usage.get(name, 0) for name in _COUNTS} if usage else None
    question, following = _following(turn, counts)
    if following.keys() - answer.keys() or usage.keys() - set(_COUNTS):
        return None
    left = {name: value for name, value in answer.items() if not _same(value, following.get(name))}
    short = {**turn, "answer": left}
    short.pop("usage", None)
    if counts is not None:
        short["usage"] = _without_last([*counts.values()], [0] * len(_COUNTS))
    if "ms" in short:
        short["ms"] = _without_last(short["ms"], _NO_TIMES)
    if question is not None and turn["question"] == question:
        del short["question"]
    return short if "question" not in short or "answer" in answer.keys() - left.keys() else None


def restored(turn: dict[str, Any]) -> dict[str, Any]:
    """All fields of a turn's record of which something was left out. What is no such record is none afterwards."""
    answer, usage = turn.get("answer"), turn.get("usage")
    if not isinstance(answer, dict) or not isinstance(usage, list | None) or len(usage or ()) > len(_COUNTS):
        return turn
    counts = None if usage is None else dict(zip(_COUNTS, [*usage, *[0] * len(_COUNTS)], strict=False))
    question, following = _following(turn, counts)
    full = {**turn, "answer": {**following, **answer}}
    if question is not None:
        full.setdefault("question", question)
    if counts is not None:
        full["usage"] = counts
    return full


def _following(turn: dict[str, Any], counts: dict[str, Any] | None) -> tuple[str | None, dict[str, Any]]:
    """The question and the answer's fields, as far as the rest of the record says them."""
    items = turn.get("items")
    first, last = (items[0], items[-1]) if items and isinstance(items, list) else (None, None)
    following = {"answer": _text(last), "turn_id": turn.get("turn"), "model": turn.get("model"), "usage": counts}
    return _text(first), {name: value for name, value in following.items() if value is not None}


def _text(item: Any) -> str | None:
    """The text of a message, or of what a tool returned; of several parts the first one's."""
    content = item.get("content", item.get("output")) if isinstance(item, dict) else None
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        content = next((text for text in texts if isinstance(text, str)), None)
    return content if isinstance(content, str) else None


def _same(value: Any, following: Any) -> bool:
    """True for the same JSON: in Python, 1 is also 1.0 and True."""
    return following is not None and value == following and encode(value) == encode(following)


def _without_last(values: list[Any], empty: list[Any]) -> list[Any]:
    """The values without those at the end that are as in `empty`."""
    length = len(values)
    while length and values[length - 1] == empty[length - 1]:
        length -= 1
    return values[:length]
