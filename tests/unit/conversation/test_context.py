"""A session's base: read as flamepy pickles it, without running anything that a pickle can run."""

from __future__ import annotations

import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import apis
from flameagent.apis import Answer, MyContext, Question
from flameagent.conversation import DamagedError, context
from tests.support.conversations import cold, everything, turn
from tests.support.memory_cache import MemoryCache

MESSAGES = ['{"role": "user", "content": "hé \\ud800 😊"}', '{"role": "assistant", "content": null}']


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("messages", [None, [], MESSAGES])
def test_what_plain_flamepy_pickles_is_read(protocol: int, messages: list[str] | None) -> None:
    prompt, items, *_ = context.read(cloudpickle.dumps(MyContext("Be brief.", messages), protocol=protocol))
    assert prompt == "Be brief."
    assert len(items) == len(messages or [])
    assert items[:1] == [{"role": "user", "content": "hé \ud800 😊"}][: len(items)]


def test_what_is_written_is_what_flamepy_reads() -> None:
    data = context.write(MyContext("p", MESSAGES))
    assert cloudpickle.loads(data) == apis.MyContext("p", MESSAGES)
    assert context.read(data)[0] == "p"


def test_the_context_of_the_protocols_example_is_read() -> None:
    """Another program's `apis.py`, with the same class and other fields."""
    theirs = types.ModuleType("apis")
    exec(
        "from dataclasses import dataclass\n@dataclass\nclass MyContext:\n    prompt: str\n    extra: int = 3\n",
        theirs.__dict__,
    )
    sys.modules["apis"] = theirs
    try:
        data = cloudpickle.dumps(theirs.MyContext("theirs"))
    finally:
        sys.modules["apis"] = apis
    assert context.read(data)[:3] == ("theirs", [], "")


class _Runs:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.file),))


def refused(data: bytes | None) -> str:
    with pytest.raises(DamagedError) as raised:
        context.read(data)
    assert raised.value.record == 0
    return str(raised.value)


@pytest.mark.parametrize("inside", [False, True])
def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(tmp_path: Path, inside: bool) -> None:
    trap = _Runs(tmp_path / "ran")
    value: Any = MyContext("p", [trap]) if inside else trap
    assert "mkdir" in refused(pickle.dumps(value))
    assert not trap.file.exists()


def test_a_pickle_cannot_change_our_classes() -> None:
    opcodes = [
        b"\x80\x04",
        b"capis\nMyContext\n",
        b"N",
        b"}",
        b"X\x06\0\0\0prompt",
        b"X\x04\0\0\0evil",
        b"s",
        b"\x86b.",
    ]
    refused(b"".join(opcodes))  # BUILD with (None, {"prompt": "evil"}): setattr on the class
    assert MyContext().prompt == ""
    assert "evil" not in vars(MyContext).values()


@pytest.mark.parametrize(
    "value",
    [
        Question("?"),
        Answer("!"),
        MyContext,
        None,
        "text",
        b"bytes",
        {"prompt": "p"},
        lambda: None,
        MyContext(5),
        MyContext("p", "text"),
        MyContext("p", {"role": "user"}),
    ],
)
def test_what_is_no_context_is_refused(value: Any) -> None:
    assert "context" in refused(cloudpickle.dumps(value))


@pytest.mark.parametrize("data", [None, b"", b"\x80", b"\x80\x04.", b"not a pickle", b'{"prompt": "p"}'])
def test_garbage_is_refused(data: bytes | None) -> None:
    refused(data)


@pytest.mark.parametrize("message", ["", "text", "[1]", "null", '{"a": ', None, 5, {"role": "user"}, "[" * 100_000])
def test_a_message_that_is_no_json_object_is_named(message: Any) -> None:
    data = cloudpickle.dumps(MyContext("p", ['{"role": "user"}', message]))
    assert "Message 2 of the session's context is not a JSON object" in refused(data)


def test_a_prompt_that_an_old_pickle_lacks_is_the_default() -> None:
    value = MyContext("p")
    del value.__dict__["prompt"], value.__dict__["messages"]
    assert context.read(pickle.dumps(value))[:3] == ("", [], "")
    value.__dict__["prompt"] = None
    assert context.read(pickle.dumps(value))[:3] == ("", [], "")


def test_a_context_that_cannot_be_read_is_damage_before_the_first_record() -> None:
    cache = MemoryCache()
    key = cache.put("openai-agent/session", b"garbage").key
    log = cold(cache, key)
    assert everything(log)["damage"].startswith("The session's context")
    assert log.conversation.damage is not None
    assert log.conversation.damage.record == 0
    with pytest.raises(DamagedError):
        log.append(turn("never"))
    assert cache.objects[key].patches == []
