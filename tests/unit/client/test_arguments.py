"""The Python API with arguments of wrong types."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import pytest

from flameagent.client import connect
from flameagent.client.arguments import checked
from flameagent.client.async_client import AsyncClient
from flameagent.client.attachments import Attachment
from flameagent.client.client import Client
from flameagent.client.errors import ClientError, UsageError


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    """An agent on an engine that nothing starts."""
    return connect(environ={"LOCALFLAME_HOME": str(tmp_path / "engine")})


_WRONG: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("ask", (5,), {}, "ask: question is 5, not text."),
    ("ask", (None,), {}, "ask: question is None, not text."),
    ("ask", (b"hi",), {}, "ask: question is b'hi', not text."),
    ("ask", ("hi",), {"timeout": "x"}, "ask: timeout is 'x', not a number."),
    ("ask", ("hi",), {"timeout": True}, "ask: timeout is True, not a number."),
    ("ask", ("hi",), {"session": 3}, "ask: session is 3, not text."),
    ("ask", ("hi",), {"prompt": ["a"]}, "ask: prompt is ['a'], not text."),
    ("ask", ("hi",), {"on_text": "print"}, "ask: on_text is 'print', not a function."),
    ("ask", ("hi",), {"context": ["a"]}, "ask: context is ['a'], not a dict."),
    ("ask", ("hi",), {"attachments": "cat.png"}, "ask: attachments is 'cat.png', not a list."),
    ("ask", ("hi",), {"attachments": [("a", "text")]}, "ask: attachments is [('a', 'text')], not a list."),
    ("decide", ("J1E9PE",), {"approve": "call_1"}, "decide: approve is 'call_1', not a list of texts."),
    ("decide", ("J1E9PE",), {"reject": [1]}, "decide: reject is [1], not a list of texts."),
    ("decide", ("J1E9PE",), {"always": "yes"}, "decide: always is 'yes', not True or False."),
    ("rewind", ("J1E9PE", "2"), {}, "rewind: turns is '2', not a whole number."),
    ("rewind", ("J1E9PE", 2.0), {}, "rewind: turns is 2.0, not a whole number."),
    ("history", (None,), {}, "history: session is None, not text."),
    ("sessions", (), {"limit": "all"}, "sessions: limit is 'all', not a whole number."),
    ("rename", ("J1E9PE", 7), {}, "rename: title is 7, not text."),
]


@pytest.mark.parametrize(("method", "given", "named", "said"), _WRONG, ids=[each[3] for each in _WRONG])
def test_an_argument_of_a_wrong_type_is_told_and_starts_nothing(
    client: Client, method: str, given: tuple[Any, ...], named: dict[str, Any], said: str
) -> None:
    with pytest.raises(ClientError) as wrong:
        getattr(client, method)(*given, **named)
    assert isinstance(wrong.value, UsageError) and str(wrong.value) == said
    assert not getattr(client.engine, "home").exists()  # noqa: B009 - a cluster has none


async def test_the_asynchronous_client_says_the_same(client: Client) -> None:
    with pytest.raises(UsageError, match=r"^ask: question is 5, not text\.$"):
        await AsyncClient(client).ask(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [("a.txt", b""), "gone.txt", Path("gone.txt"), Attachment("a.txt", b"")])
def test_each_form_of_an_attachment_is_one(client: Client, given: Any) -> None:
    with pytest.raises(UsageError, match=r"^The attachment (a|gone)\.txt (is empty|cannot be read)"):
        client.ask("hi", attachments=[given])


def test_what_has_to_look_like_something_is_taken_as_it_is() -> None:
    class Shape(Protocol):
        name: str

    def take(shape: Shape) -> str:
        return shape.name

    take.__annotations__["shape"] = Shape
    with pytest.raises(AttributeError, match="name"):
        checked(take)(5)  # type: ignore[arg-type]


def test_the_engine_itself_is_named_by_text() -> None:
    with pytest.raises(UsageError, match=r"^connect: endpoint is 8080, not text\.$"):
        connect(8080)  # type: ignore[arg-type]


def test_what_is_missing_or_too_much_is_as_python_says_it(client: Client) -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'question'"):
        client.ask()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'temperature'"):
        client.ask("hi", temperature=1)  # type: ignore[call-arg]
