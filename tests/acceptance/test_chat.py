"""The chat: at a terminal as it looks there, interrupted, in a pipe."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.assistant import assistant
from tests.acceptance.conftest import Warm
from tests.acceptance.program import PATIENCE, Program, eventually, interrupt
from tests.acceptance.terminal import Terminal
from tests.support.model_server import ModelServer, Step, echo

_GREETING = "/help lists the commands, Alt-Enter begins a new line, Ctrl-D leaves.\n"


@pytest.fixture
def human(embedded: Program, tmp_path: Path) -> Program:
    """The client of somebody who has typed nothing yet, at a terminal of 80 columns."""
    return embedded.having(HOME=str(tmp_path), TERM="xterm-256color", NO_COLOR="1")


@pytest.fixture
def chat(human: Program, warm_here: Warm) -> Iterator[Terminal]:
    """A chat in a session whose agent is warm, at its prompt."""
    terminal = Terminal(human, "chat", "-s", warm_here.part, columns=80)
    _prompted(terminal)
    yield terminal
    terminal.type("\x04")
    said = terminal.ended()
    assert said.endswith(f"\nCome back: uv run client.py chat -s {warm_here.id}\n"), said


def _prompted(terminal: Terminal) -> None:
    """Wait until the prompt stands on the last line."""
    eventually(lambda: terminal.text.endswith("\n>\n"))


def _said(terminal: Terminal, line: str) -> str:
    """Type a line, and what stands between it and the next prompt."""
    before = terminal.text
    terminal.type(f"{line}\r")
    eventually(lambda: terminal.text != before and terminal.text.endswith("\n>\n"))
    return terminal.text.rpartition(f"> {line}\n")[2].removesuffix("\n>\n")


def test_a_chat_looks_like_this(human: Program, model: ModelServer) -> None:
    model.script = assistant
    chat = Terminal(human, "chat", columns=80)
    _prompted(chat)
    assert _said(chat, "My name is Ada and I live in Lisbon")
    assert _said(chat, "/facts") == "name: Ada\ncity: Lisbon\n"
    chat.type("forget my city\r")
    chat.type_when("[l]ater? ", "approve\n")
    _prompted(chat)
    model.script = lambda request: Step(text="Some **Markdown**:\n\n- 日本語 one\n- `two`\n", chunk_delay=0.02)
    assert _said(chat, "say something") == "Some Markdown:\n\n • 日本語 one\n • two\n"
    chat.type("/quit\r")
    seen = chat.ended()
    session = seen.split()[-1]
    assert re.fullmatch(r"openai-agent-[A-Z0-9]{6}", session)
    assert seen == (
        "A new session\n"
        f"{_GREETING}"
        "\n"
        "> My name is Ada and I live in Lisbon\n"
        "Let me see.\n"
        "→ remember name, Ada\n"
        "→ remember city, Lisbon\n"
        "Nice to meet you. I will remember that.\n"
        "\n"
        "> /facts\n"
        "name: Ada\n"
        "city: Lisbon\n"
        "\n"
        "> forget my city\n"
        "Let me see.\n"
        "→ forget city\n"
        "1 call waits for your decision:\n"
        '  call_3  forget({"key": "city"})\n'
        "call_3: [a]pprove, [r]eject (and why), al[w]ays, [l]ater? approve\n"
        "Forgot city.\n"
        "\n"
        "> say something\n"
        "Some Markdown:\n"
        "\n"
        " • 日本語 one\n"
        " • two\n"
        "\n"
        "> /quit\n"
        f"Come back: uv run client.py chat -s {session}\n"
    )

    again = Terminal(human, "chat", "-c", columns=40)
    _prompted(again)
    assert again.text == (
        f"Session {session}, 3 turns\n"
        "> say something\n"
        "Some Markdown:\n"
        "\n"
        " • 日本語 one\n"
        " • two\n"
        "/help lists the commands, Alt-Enter\n"
        "begins a new line, Ctrl-D leaves.\n"
        "\n"
        ">\n"
    )
    assert "\n/history [N]     the conversation, or\n                 its turn N\n" in _said(again, "/help")
    model.script = echo
    assert _said(again, "/rewind 1") == (
        f"Session {session}, 1 turn\n> My name is Ada and I live in Lisbon\nNice to meet you. I will remember that.\n"
    )
    assert _said(again, "one") == "answer 2: one\n"
    assert _said(again, "/retry") == "answer 2: one\n"
    forked = _said(again, "/fork 1")
    assert re.match(r"Session openai-agent-[A-Z0-9]{6}, 1 turn\n> My name is Ada", forked) and session not in forked
    assert _said(again, f"/sessions {session[-6:]}") == f"Session {session}, 2 turns\n> one\nanswer 2: one\n"
    again.type("\x04")
    again.ended()


def test_lines_are_edited_and_remembered_and_commands_forgive(
    chat: Terminal, human: Program, warm_here: Warm
) -> None:
    assert "answer 1: who are you?" in _said(chat, "/history")
    assert _said(chat, "/fokr") == (
        "There is no command /fokr. Did you mean /fork? A question that begins with / is\ntyped with //.\n"
    )
    assert _said(chat, "/rewind all") == "/rewind wants a number, such as /rewind 2.\n"
    assert _said(chat, "/cancel") == "No turn was left: there is nothing to cancel.\n"
    assert "/rewind N        keep the first N turns\n" in _said(chat, "/he")
    chat.type("first\\\rsecond\x1b\rthird\r")
    eventually(lambda: chat.text.count("third") == 2 and chat.text.endswith("\n>\n"))
    assert re.search(r"\n> first\n  second\n  third\nanswer \d+: first\nsecond\nthird\n\n>\n$", chat.text)
    chat.type("\x1b[A")  # the arrow up
    eventually(lambda: chat.text.endswith("\n> first\n  second\n  third\n"))
    chat.type("\x03")  # Ctrl-C leaves the line, not the chat
    eventually(lambda: chat.text.endswith("\nCtrl-D leaves.\n\n>\n"))
    chat.type("/his\t")
    eventually(lambda: chat.text.endswith("\n> /history\n"))
    chat.type("\x15")
    _prompted(chat)
    (history,) = Path(human.environment["HOME"]).rglob("chat-history")
    assert "+first\n+second\n+third\n" in history.read_text() and history.stat().st_mode & 0o777 == 0o600


def test_ctrl_c_leaves_the_turn_and_not_the_chat(chat: Terminal, model: ModelServer) -> None:
    asked, let = threading.Event(), threading.Event()

    def held(request: dict[str, Any]) -> Step:
        asked.set()
        let.wait(PATIENCE)
        return echo(request)

    model.script = held
    chat.type("take your time\r")
    assert asked.wait(PATIENCE)
    interrupt(chat.run)
    eventually(lambda: chat.text.endswith("/wait waits for its answer, /cancel cancels it.\n\n>\n"))
    assert "Interrupted; the turn goes on. Ctrl-C again within 2 s cancels it.\nThe turn goes on." in chat.text
    let.set()
    assert re.fullmatch(r"answer \d+: take your time\n", _said(chat, "/wait"))

    asked.clear()
    let.clear()
    chat.type("never mind\r")
    assert asked.wait(PATIENCE)
    interrupt(chat.run)
    eventually(lambda: chat.text.count("Ctrl-C again") == 2)
    interrupt(chat.run)
    _prompted(chat)
    let.set()
    assert chat.text.endswith("The turn was cancelled; nothing was added.\n\n>\n")
    assert re.fullmatch(r"answer \d+: and now\?\n", _said(chat, "and now?"))
    assert "never mind" not in _said(chat, "/history")


def test_in_a_pipe_each_line_is_a_question(embedded: Program, model: ModelServer) -> None:
    lines = "one\n\n//two\\\nmore\n/facts\n"
    first = embedded("chat", "--prompt", "Be brief.", input=lines)
    session = first.err.split()[-1]
    assert first.out == "answer 1: one\n\nanswer 2: /two\nmore\n\nThe agent remembers nothing yet.\n\n"
    assert first.err == f"Come back: uv run client.py chat -s {session}\n"
    assert embedded("history", session, "--json").json["prompt"] == "Be brief."
    quiet = embedded("chat", "-q", "-s", session, input="three\nfour")
    assert (quiet.out, quiet.err) == ("answer 3: three\nanswer 4: four\n", "")

    model.script = assistant
    waits = embedded("chat", "-c", "--json", input="hello\nforget my city\nnever asked\n", code=3)
    told = [json.loads(line) for line in waits.out.splitlines()]
    assert [turn["status"] for turn in told] == ["answered", "awaiting_approval"] and waits.err == ""
    refused = embedded("chat", "-c", "-q", input="more?\n", code=3)
    assert refused.out == "" and "waits" in refused.err


def test_what_a_chat_cannot_begin_with_is_a_sentence(embedded: Program) -> None:
    both = embedded("chat", "-s", "x", "--prompt", "y", code=2)
    assert both.err == "A prompt is for a new session; this one has its own from its beginning.\n"
    assert "No session of openai-agent has 'NO-SUCH' in its ID" in embedded("chat", "-s", "NO-SUCH", code=4).err
    assert embedded("chat", "--json", "-s", "NO-SUCH", code=4).error["code"] == "no_session"


def test_a_chat_names_exports_and_searches_its_session_and_says_what_answers(
    chat: Terminal, model: ModelServer, warm_here: Warm, tmp_path: Path
) -> None:
    asked: list[str] = []

    def noting(request: dict[str, Any]) -> Step:
        asked.append(request["model"])
        return Step(text="Noted.")

    model.script = noting
    _said(chat, "/fork")  # the session is that of other tests, too
    of_the_settings = _said(chat, "/model")
    assert re.fullmatch(r"The next turns are answered by \S+ \(.*\)\.\n", of_the_settings)
    assert _said(chat, "/model other-model") == "The next turns are answered by other-model.\n"
    _said(chat, "one")
    assert _said(chat, "/model -") == of_the_settings
    _said(chat, "two")
    assert asked[0] == "other-model" and asked[1] != "other-model"

    assert _said(chat, "/rename Ducks in   Lisbon") == "The session is called Ducks in Lisbon.\n"
    assert "Ducks in Lisbon" in _said(chat, "/search ducks")
    assert _said(chat, "/search nothing-is-like-this") == "No session is like that.\n"
    chat.type("/export ~/talk.html\r")
    file = tmp_path / "talk.html"  # the folder is the human's home
    eventually(lambda: file.exists() and chat.text.endswith(" turns.\n\n>\n"))
    assert file.read_text().startswith("<!") and "Noted." in file.read_text()
    assert "which is no form of an export" in _said(chat, "/export talk.pdf")
    for command in ("/rename", "/export", "/search"):
        assert _said(chat, command).startswith(f"{command} wants a")
    assert "embedded, reachable\n" in _said(chat, "/status") and warm_here.id not in _said(chat, "/status")
    _said(chat, f"/sessions {warm_here.part}")
