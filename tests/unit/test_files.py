"""Files that people name: text of every program is read, and what is written over stays what it was."""

from __future__ import annotations

import codecs
import io
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flameagent import files

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\ufeff"))
SAVED = {
    "UTF-8": "utf-8",
    "UTF-8 with a mark": "utf-8-sig",
    "UTF-16, as Windows has it": "utf-16-le",
    "UTF-16, the other way round": "utf-16-be",
}
MARK = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}


def saved(text: str, encoding: str, end: str) -> bytes:
    return MARK.get(encoding, b"") + text.replace("\n", end).encode(encoding)


@given(text=TEXT, encoding=st.sampled_from([*SAVED.values()]), end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_text_is_the_same_whatever_program_saved_it(text: str, encoding: str, end: str) -> None:
    data = saved(text, encoding, end)
    assert files.decoded(data) == text
    # In a pipe it comes in parts.
    stream = io.BufferedReader(io.BytesIO(data), buffer_size=16)  # type: ignore[type-var]
    assert "".join(files.lines(stream)) == text


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"\xff\xd8\xff\xe0",
        b"caf\xe9",
        "text".encode("utf-16-le"),
        b"\xff\xfea",
        b"\0",
    ],
    ids=["a picture", "another", "Latin 1", "UTF-16 without a mark", "half a character", "nothing"],
)
def test_what_is_no_text_is_told(data: bytes) -> None:
    with pytest.raises(files.NotText):
        files.decoded(data)


def test_a_line_is_there_when_it_was_sent() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stream:
        os.write(writer, "\ufeffone\r\n".encode("utf-16-le"))
        lines = files.lines(stream)
        assert next(lines) == "one\n"
        os.write(writer, b"t\0w\0")
        os.write(writer, b"o\0\r\0")
        os.close(writer)
        assert next(lines) == "two\n"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_new_file_is_made_as_others_are(tmp_path: Path) -> None:
    beside = tmp_path / "beside"
    beside.touch()
    files.write(tmp_path / "new.md", "é\ud800")
    assert (tmp_path / "new.md").read_bytes() == b"\xc3\xa9?"
    assert (tmp_path / "new.md").stat().st_mode == beside.stat().st_mode
    longest = tmp_path / ("n" * 255)
    files.write(longest, "text")
    files.write(longest, "more text")
    assert longest.read_text() == "more text" and names(tmp_path) == {"beside", "new.md", "n" * 255}


@pytest.mark.parametrize("held", ["", "short", "something longer than what comes"])
def test_a_file_that_is_there_is_written_into(tmp_path: Path, held: str) -> None:
    file, other, link, far = (tmp_path / name for name in ("file", "other", "link", "far"))
    file.write_text(held)
    file.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(file, 1234, 4321)
    with_names = hasattr(os, "setxattr") and not _refused(lambda: os.setxattr(file, "user.kept", b"yes"))
    other.hardlink_to(file)
    link.symlink_to("far")
    far.symlink_to(file)
    before = file.stat()
    for path in (file, other, link):
        files.write(path, f"written by {path.name}")
        after = file.stat()
        assert file.read_text() == other.read_text() == f"written by {path.name}"
        for field in ("st_ino", "st_dev", "st_mode", "st_uid", "st_gid", "st_nlink"):
            assert getattr(after, field) == getattr(before, field), field
    assert link.is_symlink() and far.is_symlink() and names(tmp_path) == {"file", "other", "link", "far"}
    assert not with_names or os.getxattr(file, "user.kept") == b"yes"


def _refused(does) -> bool:  # type: ignore[no-untyped-def]
    try:
        does()
    except OSError:
        return True
    return False


@pytest.mark.skipif(not shutil.which("setfacl"), reason="there is no setfacl")
def test_an_acl_stays(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("before")
    if subprocess.run(["setfacl", "-m", "u:1234:r", file], capture_output=True).returncode:
        pytest.skip("this file system has no ACLs")
    before = subprocess.run(["getfacl", file], capture_output=True).stdout
    files.write(file, "after")
    assert subprocess.run(["getfacl", file], capture_output=True).stdout == before


def test_a_link_to_nothing_has_it_made(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/file")
    files.write(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "folder" / "file").read_text() == "text"
    assert names(tmp_path / "folder") == {"file"}


def test_a_pipe_with_a_name_gets_all_of_it(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    text = "much " * 100_000
    files.write(pipe, text)
    reader.join()
    assert got == [text] and stat.S_ISFIFO(pipe.stat().st_mode)
    leaves = threading.Thread(target=lambda: os.close(os.open(pipe, os.O_RDONLY)))
    leaves.start()
    files.write(pipe, text)
    leaves.join()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    null, full = tmp_path / "null.md", tmp_path / "full.md"
    try:
        os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(full, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
        files.write(null, "text")
    except PermissionError:
        pytest.skip("this file system takes no devices")
    with pytest.raises(OSError, match="No space left"):
        files.write(full, "text")
    assert [stat.S_ISCHR(path.stat().st_mode) for path in (null, full)] == [True, True]
    assert names(tmp_path) == {"null.md", "full.md"}


def test_what_is_open_goes_on_where_it_is(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("before\n")
    program = "from flameagent import files; from pathlib import Path; files.write(Path({!r}), 'text\\n')"
    for name in ("-", "/dev/stdout", "/dev/fd/1", "/dev/stderr"):
        with file.open("a") as appended:
            subprocess.run([sys.executable, "-c", program.format(name)], stdout=appended, stderr=appended, check=True)
    assert file.read_text() == "before\n" + "text\n" * 4


@pytest.mark.parametrize("name", ["folder", "folder/no/file", "loop", "file/below", "\0"])
def test_what_cannot_be_written_is_told_and_nothing_is_left(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises((OSError, ValueError)) as told:
        files.write(tmp_path / name, "text")
    assert files.why(told.value)  # type: ignore[arg-type]
    assert names(tmp_path) == {"folder", "file", "loop"} and not names(tmp_path / "folder")


@contextmanager
def small_disk() -> Iterator[None]:
    """A file can have 1000 bytes; no fixture, because pytest writes, too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_without_room_all_stays_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("before" * 100)
    for path in (file, tmp_path / "new"):
        with small_disk(), pytest.raises(OSError, match="File too large"):
            files.write(path, "text" * 1000)
    assert file.read_text() == "before" * 100 and names(tmp_path) == {"file"}


_KILLED = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
from flameagent import files
real = os.write
def write(descriptor, data):
    if data[:4] == b"text":
        real(descriptor, data[:1000])
        os.kill(os.getpid(), signal.SIGKILL)
    return real(descriptor, data)
os.write = write
files.write(Path(sys.argv[1]), "text" * 1000)
"""


def test_a_kill_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    file, new = tmp_path / "file", tmp_path / "new"
    file.write_text("before" * 1000)
    for path in (file, new):
        killed = subprocess.run([sys.executable, "-c", _KILLED, path])
        assert killed.returncode == -signal.SIGKILL
    (kept,) = tmp_path.glob("file.before-*")
    assert kept.read_text() == "before" * 1000 and kept.stat().st_mode & 0o777 == 0o600
    assert not new.exists()


_AS_NOBODY = """
import os, sys
from contextlib import contextmanager
from pathlib import Path
from flameagent import files
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
files.write(Path(sys.argv[1]), "after")
try:
    files.write(Path(sys.argv[2]), "after")
except PermissionError:
    sys.exit(0)
sys.exit("it was written")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_file_in_a_folder_that_may_not_be_changed_is_written(tmp_path: Path) -> None:
    file, locked = tmp_path / "file", tmp_path / "locked"
    for path, mode in ((file, 0o666), (locked, 0o444)):
        path.write_text("before")
        path.chmod(mode)
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(0o711)
    subprocess.run([sys.executable, "-c", _AS_NOBODY, file, locked], check=True)
    assert (file.read_text(), locked.read_text()) == ("after", "before") and names(tmp_path) == {"file", "locked"}
