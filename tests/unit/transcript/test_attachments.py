"""Attachments in exports: in a page and in JSON, beside Markdown, and back again."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flameagent.client.errors import UsageError
from flameagent.conversation import Attached, Conversation, attachments
from flameagent.transcript import document, export
from flameagent.transcript.html import page
from tests.support.schema import check
from tests.unit.transcript.test_export import HOSTILE, conversation, history, said, turn

PNG = b"\x89PNG\r\n\x1a\npicture"
CAT = attachments.describe("cat.png", PNG)
NOTES = attachments.describe(HOSTILE, b"# Notes")
CHART = msgspec.structs.replace(attachments.describe("chart](x).png", PNG + b"!"), call="call_1")
DATA = {CAT.sha256: PNG, NOTES.sha256: b"# Notes", CHART.sha256: PNG + b"!"}


def talk(*attached: Attached) -> Conversation:
    message = {"role": "user", "content": [{"type": "input_text", "text": "what?"}, *map(attachments.part, attached)]}
    asked = turn(1, message, said("that", "assistant"))
    return conversation(msgspec.structs.replace(asked, attachments=list(attached)), turn(2))


def test_json_has_the_data_once_and_brings_them_back() -> None:
    written = export.written(history(talk(CAT, NOTES, CHART, CAT)), "json", DATA)
    check("export", json.loads(written))
    assert json.loads(written)["version"] == 2
    assert json.loads(written)["attachments"][CAT.sha256] == base64.b64encode(PNG).decode()
    back = document.read(written.encode(), "talk.json")
    assert back.data() == DATA
    ((first, items), _) = conversation(back.edit()).turns()
    assert [(each.sha256, each.call) for each in first.attachments] == [
        (each.sha256, each.call) for each in (CAT, NOTES, CHART, CAT)
    ]
    assert json.dumps(items).count("flame-attachment:") == 4


def test_without_attachments_older_programs_read_the_file() -> None:
    assert document.as_json(history(talk()))["version"] == 1
    assert document.as_json(history(talk()))["attachments"] == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"attachments": {CAT.sha256: "no base64!"}},
        {"attachments": {CAT.sha256: base64.b64encode(b"other").decode()}},
        {"attachments": ["x"]},
    ],
)
def test_a_file_with_other_data_is_refused(wrong: dict[str, Any]) -> None:
    written = document.as_json(history(talk(CAT)), DATA) | wrong
    with pytest.raises(UsageError, match="is not what `export --format json` writes"):
        document.read(json.dumps(written).encode(), "talk.json")


def test_a_file_names_no_objects_of_others() -> None:
    written = document.as_json(history(talk(CAT)), DATA)
    written["turns"][0]["attachments"][0]["sha256"] = "../another/session"
    with pytest.raises(UsageError):
        document.read(json.dumps(written).encode(), "talk.json")


def test_a_page_has_images_in_it_and_loads_nothing() -> None:
    text = page(history(talk(CAT, NOTES, CHART)), DATA)
    assert text.count(f'<img src="data:image/png;base64,{base64.b64encode(PNG).decode()}" alt="cat.png">') == 1
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in text
    assert f'href="data:application/octet-stream;base64,{base64.b64encode(b"# Notes").decode()}"' in text
    assert "<script" not in text and "src=x" not in text.replace("src=x onerror=alert(1)&gt;", "")
    assert page(history(talk(CAT)), {}).count("cat.png, image/png, 15 B (gone)") == 1


def test_markdown_has_them_beside_it(tmp_path: Path) -> None:
    found, output = history(talk(CAT, NOTES, CHART)), tmp_path / "my talk.md"
    export.save_attachments(found, DATA, output)
    text = export.written(found, "md", DATA, output)
    assert f"**attached**\n\n- ![cat.png, image/png, 15 B](my%20talk_files/{CAT.sha256[:8]}-cat.png)\n- [" in text
    assert "**returned**\n\n- ![chart\\](x).png, image/png, 16 B](my%20talk_files/" in text
    files = sorted((tmp_path / "my talk_files").iterdir())
    assert {file.read_bytes() for file in files} == set(DATA.values())
    assert all(file.name.split("-")[1].strip("_") for file in files)


def test_markdown_alone_names_them() -> None:
    text = export.written(history(talk(CAT)), "md")
    assert "**attached**\n\n- cat.png, image/png, 15 B\n" in text and "](" not in text


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "talk_files").write_text("in the way")
    with pytest.raises(UsageError, match="cannot be written"):
        export.save_attachments(history(talk(CAT)), DATA, tmp_path / "talk.md")
