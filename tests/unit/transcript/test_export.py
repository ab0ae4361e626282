"""Exports: what a conversation looks like as a file, and that the file brings it back."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from msgspec.structs import asdict

from flameagent.client.errors import UsageError
from flameagent.client.history import History
from flameagent.conversation import (
    Call,
    Conversation,
    DecisionBody,
    EditBody,
    Item,
    PendingBody,
    Summary,
    TurnBody,
    Usage,
    fold_row,
)
from flameagent.conversation.records import Body, make
from flameagent.text import all_well_formed
from flameagent.transcript import document, export
from flameagent.transcript.html import page
from tests.support.schema import check

HOSTILE = "<script>alert(1)</script> & <img src=x onerror=alert(1)> \x00 \ud800 `a` **b**"


def said(text: str, role: str = "user") -> Item:
    return {"role": role, "content": text}


def turn(number: int, *items: Item, facts: dict[str, str | None] | None = None) -> TurnBody:
    answer = {"answer": f"answer {number}", "turn": number, "turn_id": f"t{number}", "model": "m"}
    answer["usage"] = asdict(Usage(1, 10, 0, 2))
    shown = items or (said(f"question {number}"), said(f"answer {number}", "assistant"))
    return TurnBody(f"t{number}", f"question {number}", [*shown], answer, Usage(1, 10, 0, 2), "m", facts or {})


def conversation(*bodies: Body, prompt: str = "", items: list[Item] | None = None) -> Conversation:
    folded = Conversation.from_context(prompt, items or [])
    for body in bodies:
        if isinstance(body, DecisionBody):
            body = DecisionBody(
                body.decision, folded.last, body.approved, always_approved=body.always_approved, by=body.by
            )
        fold_row(folded, make(body, seq=folded.seq, prev=folded.last).data)
    assert folded.damage is None
    return folded


def history(folded: Conversation) -> History:
    return History("openai-agent-ABCDEF", True, folded)


def brought_back(folded: Conversation) -> Conversation:
    file = export.written(history(folded), "json").encode()
    check("export", json.loads(file))
    exported = document.read(file, "file")
    return conversation(exported.edit(), prompt=exported.prompt)


DECIDED = (
    PendingBody("t2", "question 2", [Call("call_1", "forget", "{}")], {"a": "state"}, []),
    DecisionBody("d", "", approved=["call_1"], always_approved=["forget"], by="ada"),
    turn(
        2,
        said("question 2"),
        {"type": "function_call", "name": "forget", "call_id": "call_1", "arguments": '{"key": "city"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "Forgot ```city```."},
        said("answer 2", "assistant"),
        facts={"city": None},
    ),
)

STORIES: dict[str, list[Body]] = {
    "nothing": [],
    "turns": [turn(1, facts={"city": "Paris", "name": "Ada"}), turn(2, facts={"city": "Rome"})],
    "a decision": [turn(1, facts={"city": "Paris"}), *DECIDED],
    "items outside": [EditBody("add", items=[said("first")]), turn(1), EditBody("add", items=[said("last")])],
    "hostile": [turn(1, said(HOSTILE), said(HOSTILE, "assistant"), facts={HOSTILE: HOSTILE})],
    "a clear": [turn(1, facts={"name": "Ada"}), EditBody("clear"), turn(2, facts={"city": "Rome"})],
    "a rewind": [turn(1), turn(2), EditBody("rewind")],
    "a title": [turn(1), EditBody("title", title=HOSTILE)],
}


@pytest.mark.parametrize("story", STORIES)
def test_json_brings_everything_back(story: str) -> None:
    """But for halves of characters: what comes in is well-formed."""
    folded = conversation(*STORIES[story], prompt="Be kind. " + HOSTILE, items=[said("before")])
    back = brought_back(folded)
    for name in ("prompt", "turn_count", "facts", "usage", "model", "title"):
        assert getattr(back, name) == all_well_formed(getattr(folded, name)), name
    assert back.items() == all_well_formed(folded.items())
    assert [_without_always(t) for t, _ in back.turns()] == all_well_formed(
        [_without_always(t) for t, _ in folded.turns()]
    )
    assert document.as_json(history(brought_back(back))) == document.as_json(history(back))


def _without_always(turn: Any) -> Any:
    return turn.id, turn.number, turn.answer, turn.at, turn.facts, [(d.by, d.approved) for d in turn.decisions]


def test_a_file_gives_no_permissions() -> None:
    folded = conversation(turn(1), *DECIDED)
    assert folded.always_approved == ("forget",)
    assert brought_back(folded).always_approved == ()


def test_a_turn_that_waits_is_left_out() -> None:
    back = brought_back(conversation(turn(1), DECIDED[0]))
    assert (back.turn_count, back.waiting) == (1, None)


def test_items_behind_the_last_turn_stay_there() -> None:
    file = {
        **document.as_json(history(conversation(turn(1)))),
        "outside": [{"after": 7, "items": [said("late")]}, {"after": 0, "items": [said("early")]}],
    }
    back = conversation(document.read(json.dumps(file).encode(), "file").edit())
    assert [item["content"] for item in back.items()] == ["early", "question 1", "answer 1", "late"]


SOUND = {"format": "flame-agent conversation", "version": 1, "session_id": "x", "turns": []}
TURN = {"turn_id": "x", "question": "q", "answer": "a", "items": []}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\x00", "talk.json is not what `export --format json` writes: "),
        (b"[]", "Expected `object`, got `array`"),
        (b"[" * 100_000, "is not what `export --format json` writes: "),
        ({**SOUND, "format": "chat"}, "Invalid enum value 'chat'"),
        ({**SOUND, "turns": [{**TURN, "items": None}]}, "Expected `array`, got `null`"),
        ({**SOUND, "turns": [{**TURN, "items": ["text"]}]}, "Expected `object`, got `str`"),
        ({**SOUND, "turns": [{**TURN, "turn": 0}]}, "Expected `int` >= 1"),
        ({**SOUND, "usage": {"requests": -1}}, "Expected `int` >= 0"),
        ({**SOUND, "version": 9}, "talk.json was written by a newer version of this program (version 9)."),
    ],
)
def test_what_is_no_export_is_refused_in_a_sentence(content: Any, said: str) -> None:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(UsageError) as refused:
        document.read(data, "talk.json")
    assert said in str(refused.value)
    document.read(json.dumps({**SOUND, "turns": [TURN]}).encode(), "-")
    with pytest.raises(UsageError, match=r"^Standard input is not what "):
        document.read(b"{}", "-")


@pytest.mark.parametrize("story", STORIES)
def test_a_page_runs_and_loads_nothing(story: str) -> None:
    text = page(history(conversation(*STORIES[story], prompt=HOSTILE)))
    assert "<script" not in text and "<img" not in text and "\0" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert text.startswith("<!doctype html>\n") and text.endswith("</html>\n")
    assert "default-src 'none'; style-src 'unsafe-inline'" in text


def test_of_markdown_a_page_takes_no_images_no_html_and_no_scripts() -> None:
    hostile = (
        "**b** [x](javascript:alert(1)) [y](data:text/html,z) ![i](http://x/i.png) <b>raw</b>\n\n| a |\n|---|\n| c |"
    )
    text = page(history(conversation(turn(1, said("**u**"), said(hostile, "assistant")))))
    assert "<strong>b</strong>" in text and "<td>c</td>" in text and "&lt;b&gt;raw&lt;/b&gt;" in text
    assert 'href="javascript' not in text and 'href="data' not in text and "<img" not in text
    assert '<div class="said user">**u**</div>' in text


def test_a_call_stands_with_its_output_and_who_decided() -> None:
    folded = conversation(turn(1), *DECIDED)
    text = page(history(folded))
    assert "<summary>called <b>forget</b> { &quot;key&quot;: &quot;city&quot; }</summary>" in text
    assert "<h3>result</h3><pre>Forgot ```city```.</pre>" in text
    assert "ada approved forget (call_1) for good · " in text
    markdown = export.written(history(folded), "md")
    assert (
        '**call** `forget`\n\n```json\n{\n  "key": "city"\n}\n```\n\n**result**\n\n````\nForgot ```city```.\n````\n'
        in markdown
    )
    assert "- ada approved forget (call_1) for good\n- forgot city\n" in markdown


_ODD = [
    "1000000000000000000",
    "1" + "0" * 30,
    "1" + "0" * 400,
    "-1",
    "1.5",
    "1e400",
    "NaN",
    "true",
    "null",
    '"1"',
    "[]",
]


@pytest.mark.parametrize("odd", _ODD)
@pytest.mark.parametrize("name", ["at", "turn", "unseen", "input_tokens", "requests", "after", "version"])
def test_a_file_with_a_number_that_nothing_writes_is_refused(name: str, odd: str) -> None:
    decided = DecisionBody("d", "", ["c"], always_approved=["x"], by="ada")
    pending = PendingBody("t1", "question 1", [Call("c", "pay", "{}")], {}, [])
    file = export.written(history(conversation(pending, decided, turn(1), items=[said("outside")])), "json")
    assert f'"{name}": ' in file and '"by": "ada"' in file
    places = file.split(f'"{name}": ')
    for place in range(1, len(places)):
        value, rest = re.match(r"(\d+)(.*)", places[place], re.DOTALL).groups()  # type: ignore[union-attr]
        assert value
        wrong = f'"{name}": '.join([*places[:place], odd + rest, *places[place + 1 :]])
        with pytest.raises(UsageError, match=r"^talk\.json (is not what|was written by a newer)"):
            document.read(wrong.encode(), "talk.json")


@pytest.mark.parametrize("at", [-(10**18), -1, 0, 253_402_300_800_000, 10**18, 10**30])
def test_a_moment_that_no_calendar_has_is_shown_in_words(at: int) -> None:
    folded = conversation(turn(1))
    replace = msgspec.structs.replace
    folded.blocks = [replace(each, turn=each.turn and replace(each.turn, at=at)) for each in folded.blocks]
    for form in export.FORMS:
        written = export.written(history(folded), form)
        assert ("unknown time" in written) == (form != "json" and abs(at) > 10**14)


def test_a_summary_is_shown_where_it_was_made_and_is_what_others_wrote() -> None:
    made = EditBody("summary", summary=Summary(HOSTILE, 1, 2, model="m", usage=Usage(1, 20, 0, 5)))
    found = history(conversation(turn(1), turn(2), made, turn(3)))
    for form in ("md", "html"):
        text = page(found) if form == "html" else export.written(found, "md")
        second, summary, third = (text.index(word) for word in ("answer 2", "Summary of turn 1 ", "question 3"))
        assert second < summary < third
        assert form == "md" or "<script>alert" not in text
    shown = found.as_json()
    check("history", shown)
    assert [(each["turns"], each["items"], each["after"]) for each in shown["summaries"]] == [(1, 2, 2)]
    assert not brought_back(conversation(turn(1), turn(2), made)).summary.text
