"""Text of others, at every door to a person: nothing commands a terminal, turns words around or hides them."""

from __future__ import annotations

import io
import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flameagent.cli.terminal.display import TurnDisplay
from flameagent.cli.terminal.screen import Screen
from flameagent.client.errors import ClientError
from flameagent.client.history import History
from flameagent.conversation import Block, Conversation, Turn, Usage
from flameagent.transcript import export
from flameagent.transcript.html import page
from flameagent.transcript.sanitize import sanitize, sanitize_json

TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
ORDER = [chr(code) for code in range(0x110000) if unicodedata.bidirectional(chr(code)) in TURNING]
MARKS = ["\u200e", "\u200f", "\u061c", "\u2028", "\u2029", "\U000e0041"]
HARM = [*ORDER, *MARKS, "\x1b", "\x9b", "\x07", "\x7f", "\x85"]
WRITING = "Ω עברית हिन्दी ไทย 日本語 👩\u200d👩\u200d👧 می\u200cخ e\u0301 \t\n\xad"


def test_what_shows_itself_stays_and_the_rest_becomes_a_sign() -> None:
    assert sanitize(WRITING) == WRITING
    assert sanitize("pay \u202e001$\u202c now\x1b[2J\x9b1m\u2028\U000e0041") == (
        "pay \\u202e001$\\u202c now␛[2J\\x9b1m\\u2028\\U000e0041"
    )
    assert len(ORDER) == 9


@given(st.text())
def test_a_sign_is_never_one_of_them_and_json_means_the_same(text: str) -> None:
    assert not set(HARM) & set(sanitize(text))
    shown = sanitize_json(json.dumps(text, ensure_ascii=False))
    assert json.loads(shown) == text
    assert not {each for each in HARM if each >= " "} & set(shown)


class _Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("evil", HARM)
def test_no_door_lets_it_through(evil: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out, err = _Terminal(), _Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    text = f"a{evil}b"
    screen = Screen()
    screen.text(text)
    screen.text(text, folded=True)
    screen.text(text, wrapped=True)
    screen.heading(text)
    screen.aside(text, folded=True)
    screen.field(text, text)
    screen.value(text, text, text)
    screen.part(text)
    screen.note(text, "blue", text)
    screen.item({"role": "user", "content": text})
    screen.item({"type": text, "what": text})
    screen.item({"type": "function_call", "name": text, "arguments": text})
    screen.markdown(
        f"{text} `{text}` &#{ord(evil)}; &rlm;\n\n```{text}\n{text}\n```\n\n| {text} |\n|---|\n| {text} |"
    )
    screen.notice(text)
    screen.warning(text)
    screen.error(ClientError(text))
    display = TurnDisplay(screen)
    display.doing(f"calling {text}")
    screen._err.console.print(display._last_lines())
    Screen(as_json=True).data({text: text})
    Screen(as_json=True).error(ClientError(text))
    seen = out.getvalue() + err.getvalue()
    # Colours are ours.
    assert evil not in (seen.replace("\x1b[", "") if evil == "\x1b" else seen)


@pytest.mark.parametrize("evil", HARM)
def test_no_file_for_people_has_it(evil: str) -> None:
    text = f"a{evil}b\r\nc &#{ord(evil)};"
    items = [
        {"role": "user", "content": text},
        {"type": "function_call", "call_id": text, "name": text, "arguments": text},
        {"type": "function_call_output", "call_id": text, "output": text},
        {"role": "assistant", "content": text},
        {"type": text, "what": text},
    ]
    turn = Turn(1, "t", text, {"answer": text}, Usage(), text, 0, {text: text})
    found = History("s", True, Conversation(prompt=text, title=text, facts={text: text}, blocks=[Block(items, turn)]))
    for form in export.FORMS:
        written = export.written(found, form)
        assert evil not in written and ("\r" not in written or form == "json")
    assert json.loads(export.written(found, "json"))["turns"][0]["question"] == text
    assert "a&#" not in page(found)
