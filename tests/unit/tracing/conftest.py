"""Tracing in this process, until the test has ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flameagent import tracing
from flameagent.tracing import file


class Kept:
    """The folder of the user's traces."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def spans(self) -> list[dict[str, Any]]:
        """What is in the file when all is written."""
        tracing.stop()
        return list(file.lines(self.folder))

    def append(self, text: str) -> None:
        """What another process has left there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / file.NAME).open("a", encoding="utf-8") as there:
            there.write(text)

    def add(self, name: str, span_id: str, parent_id: str = "", start: int = 1, end: int = 2, **more: Any) -> None:
        """A span as another process writes it."""
        fields = {"trace_id": "1" * 32, "kind": "internal", "error": None, "attributes": {}, "resource": {}}
        span = {"name": name, "span_id": span_id, "parent_id": parent_id, "start": start, "end": end}
        self.append(f"\n{json.dumps({**fields, **span, **more})}\n")


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("AGENT_TRACING", "file")
    monkeypatch.delenv("AGENT_TRACE_CONTENT", raising=False)
    folder = file.folder()
    assert folder is not None
    yield Kept(folder)
    tracing.stop()
