"""What a conversation's rows mean, written down a second time and as plainly as possible.

Reads the raw JSON of a `MemoryCache`, knows nothing of the code under test, and has no damage to report:
rows that are out of line fail an assertion.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from typing import Any

from tests.support.memory_cache import MemoryCache


@dataclass
class Reference:
    """The records that count, in order, and the items that they leave."""

    records: list[dict[str, Any]] = field(default_factory=list)
    items: list[dict[str, Any]] = field(default_factory=list)
    turns: list[str] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    """The turns that ever were, those that were rewound included."""
    requests: int = 0
    model: str = ""
    always: set[str] = field(default_factory=set)
    title: str = ""
    segments: int = 0
    facts: dict[str, str] = field(default_factory=dict)
    waits: tuple[str, str] | None = None
    """The record to decide on, and the turn that waits."""
    decided: list[str] = field(default_factory=list)
    summary: tuple[str, int] = ("", 0)
    """The newest, and of how many items it is."""
    began: dict[int, dict[str, Any]] = field(default_factory=dict)
    """What it was before each turn began, by the number of turns before it."""

    def begin(self) -> None:
        """A turn begins, unless it has begun already and waits."""
        if self.waits is None:
            rewound = "items", "turns", "requests", "model", "always", "facts", "summary"
            self.began[len(self.turns)] = {name: copy.copy(getattr(self, name)) for name in rewound}

    def check_summary(self) -> None:
        """A summary of items that are not there any more is none."""
        if self.summary[1] > len(self.items):
            self.summary = "", 0

    @property
    def last(self) -> str:
        return str(self.records[-1]["id"]) if self.records else ""

    def times(self, operation: str, token: str) -> int:
        """How often what the operation wanted under that token was done."""
        return self.decided.count(token) if operation == "decide" else self.added_by(f"<{token}>")

    def added_by(self, token: str) -> int:
        """In how many of the records that count the token is."""
        return sum(token in json.dumps(record.get("items", [])) for record in self.records)


def read(cache: MemoryCache, first_key: str, items: list[dict[str, Any]] | None = None) -> Reference:
    """Fold everything from the first object on; `items` were there before the first record."""
    state = Reference(items=list(items or []))
    key: str | None = first_key
    while key is not None:
        key = _object(cache, key, state)
    return state


def in_full(record: dict[str, Any]) -> dict[str, Any]:
    """A record with what it leaves out because it says it elsewhere, as turns do from version 7 on."""
    if record["kind"] != "turn" or record["v"] < 7:
        return record
    counts = ("requests", *(f"{kind}_tokens" for kind in ("input", "cached", "output", "cache_write", "reasoning")))
    usage = dict(zip(counts, [*record["usage"], 0, 0, 0, 0, 0], strict=False)) if "usage" in record else None
    answer = {"answer": _text(record["items"][-1]), "turn_id": record["turn"]}
    answer |= {name: value for name, value in (("model", record.get("model")), ("usage", usage)) if value}
    record = {**record, "usage": usage or {}}
    return {"question": _text(record["items"][0]), **record, "answer": {**answer, **record["answer"]}}


def _text(item: dict[str, Any]) -> str:
    content = item["content"] if "content" in item else item["output"]
    texts = [content] if isinstance(content, str) else [part["text"] for part in content if "text" in part]
    return str(texts[0]) if texts else ""


def _object(cache: MemoryCache, key: str, state: Reference) -> str | None:
    for _, row in cache.objects[key].patches:
        assert row is not None
        record = in_full(json.loads(row))
        assert record["seq"] <= len(state.records)
        if record["seq"] < len(state.records):
            continue
        assert record["prev"] == state.last
        state.records.append(record)
        if record["kind"] == "segment":
            state.segments += 1
            return str(record["key"])
        if record["kind"] == "turn":
            state.begin()
            state.turns.append(record["turn"])
            state.answered.append(record["turn"])
            state.requests += record.get("usage", {}).get("requests", 0)
            state.model = record.get("model") or state.model
            state.items += record["items"]
            state.waits = None
            for name, text in record.get("facts", {}).items():
                state.facts.pop(name, None)
                state.facts |= {name: text} if text is not None else {}
        elif record["kind"] == "pending":
            state.begin()
            state.waits = record["id"], record["turn"]
        elif record["kind"] == "decision":
            if state.waits is not None and record["on"] == state.waits[0]:
                state.waits = record["id"], state.waits[1]
                state.decided.append(record["decision"])
                state.always |= set(record.get("always", []))
        elif record["op"] == "cancel":
            if state.waits is not None and state.waits[1] == record["turn"]:
                state.waits = None
        elif record["op"] == "rewind":
            for name, value in state.began[record["kept"].get("turns", 0)].items():
                setattr(state, name, copy.copy(value))
            state.waits = None
            state.check_summary()
        elif record["op"] == "summary":
            made = record["summary"]
            if made.get("start", 0) == state.summary[1] < made["items"] <= len(state.items):
                state.summary = made["text"], made["items"]
        elif record["op"] == "title":
            state.title = record.get("title", "")
        elif record["op"] == "add":
            state.items += record["items"]
        elif record["op"] == "pop":
            del state.items[-1:]
            state.check_summary()
        elif record["op"] == "clear":
            state.items.clear()
            state.waits = None
            state.check_summary()
    return None
