"""What is read beside what else is done: its result or its error is for who asks."""

from __future__ import annotations

import threading

import pytest

from flameagent.conversation.ahead import Ahead


def test_it_reads_while_something_else_is_done() -> None:
    reading, go_on = threading.Event(), threading.Event()

    def read(key: str) -> str:
        reading.set()
        assert go_on.wait(30)
        return f"what {key} holds"

    ahead = Ahead("a", read)
    assert reading.wait(30), "nobody has asked yet"
    go_on.set()
    assert ahead.result() == ahead.result() == "what a holds"


def test_an_error_is_for_who_asks() -> None:
    def read(key: str) -> str:
        raise KeyError(key)

    with pytest.raises(KeyError, match="gone"):
        Ahead("gone", read).result()
