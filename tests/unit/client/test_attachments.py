"""Files for a question: what is read, what is refused before anything is sent, what a dropped line names."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from flameagent.client import attachments
from flameagent.client.attachments import Attachment, dropped, gather
from flameagent.client.errors import UsageError

PNG = b"\x89PNG\r\n\x1a\npicture"


@pytest.fixture
def png(tmp_path: Path) -> Path:
    file = tmp_path / "a cat's picture.png"
    file.write_bytes(PNG)
    return file


def test_paths_names_with_bytes_and_attachments_are_taken(png: Path) -> None:
    given = [png, str(png), ("notes.md", b"# Notes"), Attachment("x", b"x")]
    assert gather(given, {}) == [
        Attachment(png.name, PNG),
        Attachment(png.name, PNG),
        Attachment("notes.md", b"# Notes"),
        Attachment("x", b"x"),
    ]


def test_a_pipe_is_read_as_a_shell_gives_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"hello",))
    writer.start()
    assert gather([pipe], {}) == [Attachment("pipe", b"hello")]
    writer.join()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("gone.png", None, "cannot be read: No such file or directory"),
        ("empty.txt", b"", "is empty"),
        ("a.bin", b"\0\1\2", "is nothing that a model takes: attach images (PNG, JPEG, GIF, WebP), PDF"),
        ("a.png", b"\xff\xfe\xfd", "is nothing that a model takes"),
        ("long.txt", b"x" * 1_000_001, "has more than 1 MB"),
        ("large.pdf", b"%PDF-" + b"x" * 20_000_000, "has more than 20 MB"),
        ("a\0b", None, "cannot be read: embedded null"),
    ],
)
def test_what_cannot_be_sent_is_one_sentence(tmp_path: Path, name: str, data: bytes | None, said: str) -> None:
    file = tmp_path / name
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(UsageError) as refused:
        gather([str(tmp_path) + "/" + name], {})
    assert said in str(refused.value)
    assert str(refused.value).endswith(("othing was asked.", "it was not asked."))


def test_folders_devices_and_sockets_are_refused_and_not_read(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        for path, said in (
            (tmp_path, "it is a folder"),
            (Path("/dev/zero"), "it is a device or a socket, no file"),
            (tmp_path / "s", "it is a device or a socket, no file"),
        ):
            with pytest.raises(UsageError, match=said):
                gather([path], {})


def test_all_together_have_a_limit_and_settings_say_which() -> None:
    each = [("a.pdf", b"%PDF-" + b"x" * 19_000_000)]
    assert len(gather(each * 2, {})) == 2
    with pytest.raises(UsageError, match="more than 50 MB together"):
        gather(each * 3, {})
    assert len(gather(each * 3, {"FLAME_AGENT_ATTACHMENTS_MB": "60"})) == 3
    with pytest.raises(UsageError, match=r"more than 0\.5 MB"):
        gather(each, {"FLAME_AGENT_ATTACHMENT_MB": "0.5"})
    for wrong in ("many", "-1", "nan"):
        with pytest.raises(UsageError, match="FLAME_AGENT_ATTACHMENT_MB is a number of MB"):
            gather([], {"FLAME_AGENT_ATTACHMENT_MB": wrong})


@pytest.mark.parametrize("given", ["cat.png", b"x", [5], [("a", "text")], [("", b"x")], [("a", b"x", 1)], [None]])
def test_wrong_types_are_told(given: Any) -> None:
    with pytest.raises(UsageError, match="attachment"):
        gather(given, {})


def test_a_name_that_is_no_text_is_made_one() -> None:
    (one,) = gather([("half \ud83d.txt", b"x")], {})
    one.name.encode()


def test_a_dropped_file_is_known_however_a_terminal_writes_it(png: Path) -> None:
    quoted = str(png).replace("'", "'\\''")
    escaped = str(png).replace(" ", "\\ ").replace("'", "\\'")
    url = png.as_uri().replace("'", "%27")
    for line in (str(png), f"'{quoted}'", f'"{png}"', escaped, url, f" {escaped} "):
        assert dropped(line) == [png], line
    assert dropped(f"{escaped} {url}") == [png, png]


def test_any_other_line_is_no_dropped_file(png: Path) -> None:
    for line in (
        f"what is {png}",
        png.name,
        str(png.parent),
        "/help",
        "/gone.png",
        "it's",
        "",
        f"{png} and more",
        "http://x",
        "file:///gone",
        "\0",
    ):
        assert dropped(line) == [], line


def test_they_are_named_as_a_question_has_them() -> None:
    described = Attachment("dir/cat.png", PNG).described
    assert attachments.question_field([described]) == [
        {"name": "cat.png", "media_type": "image/png", "size": len(PNG), "sha256": described.sha256}
    ]
    assert attachments.question_field([]) is None


def test_a_session_that_keeps_nothing_takes_none() -> None:
    class Without:
        def log(self, session: object) -> None:
            return None

    attachments.upload(Without(), None, [])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="has no context"):
        attachments.upload(Without(), None, [Attachment("a", b"x")])  # type: ignore[arg-type]
