"""Attachments: stored once under their hash, referred to by items, named by records."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from flameagent.apis import Answer
from flameagent.conversation import ConversationLog, FlameSession, PendingBody, TurnBody, attachments
from flameagent.conversation.attachments import AttachmentGone, AttachmentStore, Reference, describe
from flameagent.conversation.records import Attached, Block, EditBody, QuestionData, Turn, make
from flameagent.conversation.usage import Usage
from tests.support.memory_cache import MemoryCache

PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
PDF = b"%PDF-1.7 paper"


def url(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def test_bytes_are_stored_once_and_never_put_over(cache: MemoryCache) -> None:
    store = AttachmentStore(cache, "app/session")
    name = store.put(PNG)
    assert AttachmentStore(cache, "app/session").put(PNG) == name
    assert cache.writes == [f"app/session/{name}"]
    assert AttachmentStore(cache, "app/session").read(name) == PNG


def test_to_look_whether_they_are_there_transfers_none_of_them(cache: MemoryCache) -> None:
    store = AttachmentStore(cache, "app/session")
    name = store.put(PNG)
    cache.reads.clear()
    assert store.has(name)
    assert not store.has("0" * 64)
    assert cache.reads == [(f"app/session/{name}", 1, 0)]


def test_what_was_read_last_is_read_from_memory(cache: MemoryCache) -> None:
    name = AttachmentStore(cache, "app/session").put(PNG)
    store = AttachmentStore(cache, "app/session")
    assert store.read(name) == store.read(name) == PNG
    assert len(cache.reads) == 1


def test_the_memory_has_a_bound(cache: MemoryCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "_MEMORY", 25)
    store = AttachmentStore(cache, "app/session")
    first, second, third = (store.put(bytes([65 + number]) * 10) for number in range(3))
    cache.reads.clear()
    assert [store.read(name) for name in (third, second)] == [b"C" * 10, b"B" * 10]
    assert cache.reads == []
    assert store.read(first) == b"A" * 10
    assert len(cache.reads) == 1


def test_what_is_gone_or_was_changed_is_told_as_gone(cache: MemoryCache) -> None:
    name = AttachmentStore(cache, "app/session").put(PNG)
    cache.objects[f"app/session/{name}"].base = b"something else"
    with pytest.raises(AttachmentGone):
        AttachmentStore(cache, "app/session").read(name)
    cache.delete("app/session")
    with pytest.raises(AttachmentGone):
        AttachmentStore(cache, "app/session").read(name)


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.txt", PNG, "image/png"),
        ("a", b"\xff\xd8\xff\xe0", "image/jpeg"),
        ("a", b"GIF89a...", "image/gif"),
        ("a.png", b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        ("a", PDF, "application/pdf"),
        ("a.DOCX", b"PK\x03\x04", attachments.DOCUMENTS[".docx"]),
        ("a.zip", b"PK\x03\x04", attachments.UNKNOWN),
        ("notes.md", b"# Notes", "text/markdown"),
        ("a.png", b"no picture", "text/plain"),
        ("data.json", b"{}", "text/plain"),
        ("a", "ä".encode("utf-16"), "text/plain"),
        ("a.png", b"\x00\x01\x02", attachments.UNKNOWN),
        ("a.txt", b"\xff\x00\xff", attachments.UNKNOWN),
    ],
)
def test_the_type_is_what_the_bytes_are_whatever_the_name(name: str, data: bytes, kind: str) -> None:
    assert describe(name, data).media_type == kind


def test_a_reference_comes_back_whatever_the_name() -> None:
    told = Reference("image/png", "a, b;%2C=ä\n.png", "0" * 64)
    assert Reference.read(str(told)) == told
    for other in (None, 5, "data:image/png;base64,AA==", "https://x/y.png", "flame-attachment:image/png", ""):
        assert Reference.read(other) is None


def test_data_in_items_become_references_and_only_data(cache: MemoryCache) -> None:
    store = AttachmentStore(cache, "app/session")
    item: dict[str, Any] = {
        "type": "function_call_output",
        "call_id": "c1",
        "output": [
            {"type": "input_text", "text": url(PNG, "image/png")},
            {"type": "input_image", "image_url": url(PNG, "image/png"), "detail": "low"},
            {"type": "input_image", "image_url": "https://example.com/a.png"},
            {"type": "input_image", "image_url": "data:image/png;base64,no base64!"},
            {"type": "input_file", "filename": "paper.pdf", "file_data": base64.b64encode(PDF).decode()},
        ],
    }
    before = json.dumps(item)
    changed, found = attachments.extracted(item, store.put)
    picture, paper = found
    assert (picture.media_type, picture.size, picture.call) == ("image/png", len(PNG), "c1")
    assert picture.name == f"{picture.sha256[:8]}.png"
    assert (paper.name, paper.media_type) == ("paper.pdf", "application/pdf")
    assert json.dumps(item) == before
    assert changed["output"][1] == {
        "type": "input_image",
        "image_url": str(Reference("image/png", picture.name, picture.sha256)),
        "detail": "low",
    }
    assert [changed["output"][place] for place in (0, 2, 3)] == [item["output"][place] for place in (0, 2, 3)]
    assert changed["output"][4]["file_data"] == str(Reference("application/pdf", "paper.pdf", paper.sha256))
    assert (store.read(picture.sha256), store.read(paper.sha256)) == (PNG, PDF)
    again, none = attachments.extracted(changed, store.put)
    assert (again, none) == (changed, [])


async def test_a_turn_keeps_no_data_in_its_record(cache: MemoryCache, key: str) -> None:
    session = FlameSession("s", ConversationLog(cache, key))
    screenshot = {"type": "computer_screenshot", "image_url": url(PNG, "image/png")}
    async with session.turn("t1", "look") as turn:
        await session.add_items(
            [
                {"role": "user", "content": "look"},
                {"type": "computer_call_output", "call_id": "c1", "output": screenshot},  # type: ignore[list-item]
            ]
        )
        turn.answer = Answer("seen")
    reader = ConversationLog(cache, key)
    ((recorded, items),) = reader.load_all().turns()
    assert [(each.media_type, each.call) for each in recorded.attachments] == [("image/png", "c1")]
    assert "base64" not in json.dumps(items)
    assert reader.attachments.read(recorded.attachments[0].sha256) == PNG
    *_, (_, row) = cache.objects[key].patches
    assert json.loads(row or b"")["v"] >= 3


async def test_a_session_that_is_used_alone_gives_the_data_back(cache: MemoryCache, key: str) -> None:
    session = FlameSession("s", ConversationLog(cache, key))
    shown = {"type": "input_image", "image_url": url(PNG, "image/png"), "detail": "auto"}
    read = {"type": "input_file", "filename": "paper.pdf", "file_data": url(PDF, "application/pdf")}
    item: Any = {"role": "user", "content": [{"type": "input_text", "text": "look"}, shown, read]}
    async with session.turn("t1", "look") as turn:
        await session.add_items([item])
        assert await session.get_items() == [item]
        turn.answer = Answer("seen")
    again = FlameSession("s", ConversationLog(cache, key))
    assert await again.get_items() == [item]
    refers = FlameSession("s", ConversationLog(cache, key), refers=True)
    assert json.dumps(await refers.get_items()).count("flame-attachment:") == 2
    for name in [name for name in cache.objects if name != key]:
        del cache.objects[name]
    (gone,) = await FlameSession("s", ConversationLog(cache, key)).get_items()
    assert "paper.pdf was left out: its data are gone" in json.dumps(gone)


async def test_a_turn_without_data_asks_the_cache_for_nothing_more(cache: MemoryCache, key: str) -> None:
    session = FlameSession("s", ConversationLog(cache, key))
    async with session.turn("t1", "say") as turn:
        calls = len(cache.reads)
        await session.add_items([{"role": "user", "content": "say"}])
        turn.answer = Answer("said")
        assert len(cache.reads) == calls
    assert not session.names_attachments
    *_, (_, row) = cache.objects[key].patches
    assert "attachments" not in json.loads(row or b"")


ATTACHED = Attached("a.png", "image/png", 3, "0" * 64)


@pytest.mark.parametrize(
    ("body", "version"),
    [
        (TurnBody("t", "?", [], {}), 1),
        (TurnBody("t", "?", [], {}, attachments=[ATTACHED]), 3),
        (PendingBody("t", "?", [], {}, []), 1),
        (PendingBody("t", "?", [], {}, [], attachments=[ATTACHED]), 3),
        (EditBody("rewind"), 2),
        (EditBody("rewind", retry_data=QuestionData(attachments=[ATTACHED])), 3),
        (EditBody("copy", blocks=[Block([], Turn(1, "t", "?", {}, Usage(), "", 0, {}))]), 2),
        (EditBody("copy", blocks=[Block([], Turn(1, "t", "?", {}, Usage(), "", 0, {}, attachments=[ATTACHED]))]), 3),
    ],
)
def test_what_has_attachments_is_refused_by_older_programs(body: Any, version: int) -> None:
    assert json.loads(make(body, seq=0, prev="").data)["v"] == version


@pytest.mark.parametrize(
    "given",
    [["a.png"], [{"name": "a"}], [{"name": "a", "media_type": "image/png;x", "size": 1, "sha256": "0" * 64}]],
)
def test_a_question_that_names_no_attachment_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="attachment"):
        attachments.read_list(given)
