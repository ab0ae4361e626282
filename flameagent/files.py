"""Files that people name, as they have them: read as text whatever program saved it, and written through.

Promises that what a program on Windows writes is read like everything else, that what is no text is told as that; and
that writing changes what a file holds and nothing else of it, and loses nothing where it is broken off.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_OPEN = re.compile(r"(?:/dev|/proc/self)/fd/(\d+)")
_STANDARD = {"-": 1, "/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


class NotText(ValueError):
    """The bytes are no text. The message is the reason, as a part of a sentence."""


def decoded(data: bytes, errors: str = "strict") -> str:
    r"""Text that people wrote: UTF-8, or UTF-16 where it begins with the mark of that; each line ends with `\n`.

    `errors` is what becomes of bytes that are neither. Raises `NotText`.
    """
    try:
        text = data.decode("utf-16" if data[:2] in _UTF_16 else "utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise NotText(str(error)) from error
    return _without_nul(text.replace("\r\n", "\n").replace("\r", "\n"))


def read(path: Path) -> str:
    """The text of a file. Raises `OSError`; `NotText`, a `ValueError` as that of a path which can be none."""
    return decoded(path.read_bytes())


def lines(stream: IO[bytes]) -> Iterator[str]:
    """The same of a stream, line by line as they come; other bytes than these become U+FFFD. Raises `NotText`."""
    begin = stream.peek(2) if isinstance(stream, io.BufferedReader) else b""
    encoding = "utf-16" if begin[:2] in _UTF_16 else "utf-8-sig"
    decoded(begin[: len(begin) // 2 * 2], "replace")  # what is no text is that before its first line
    for line in io.TextIOWrapper(stream, encoding, "replace"):
        yield _without_nul(line)


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise NotText("it is no text in UTF-8, nor in UTF-16 with a mark of that")
    return text


def why(error: OSError | ValueError) -> str:
    """Why a file could not be read or written, as a part of a sentence."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def is_standard_output(path: Path) -> bool:
    """True where it names what this process writes to anyway."""
    return _descriptor(path) == 1


def write(path: Path, text: str) -> None:
    """Write text in UTF-8 to where the path leads. Raises `OSError`, or `ValueError` for a path that can be none.

    What is there is written into, whatever it is, and stays what it is, with its mode, owner, ACL and other names. A
    new file is there whole or not at all. While a file that holds something is written over, that is kept beside it
    (`NAME.before-…`, in the temporary folder where it cannot be there), and it is put back when writing fails. A
    reader that goes away is no error.
    """
    data = text.encode(errors="replace")
    with suppress(BrokenPipeError):
        if (number := _descriptor(path)) is not None:
            _write(number, data)
            return
        try:
            found = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
        except FileNotFoundError:
            _create(Path(os.path.realpath(path)), data)  # a link may lead to a file that is not there yet
            return
        try:
            if stat.S_ISREG(os.fstat(found).st_mode):
                _write_over(found, path, data)
            else:
                _write(found, data)
        finally:
            os.close(found)


def _descriptor(path: Path) -> int | None:
    """The descriptor of a file that is open here; opened once more, it would be written from its beginning."""
    found = _OPEN.fullmatch(str(path))
    return int(found[1]) if found else _STANDARD.get(str(path))


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _create(path: Path, data: bytes) -> None:
    fresh = path.with_name(f".{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            _write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fresh.replace(path)
    except BaseException:
        with suppress(OSError):
            fresh.unlink()
        raise


def _write_over(descriptor: int, path: Path, data: bytes) -> None:
    held = path.read_bytes() if os.access(path, os.R_OK) else None
    copy = _kept(held, path) if held else None
    failed: OSError | None = None
    try:
        _put(descriptor, data)
    except OSError as error:
        failed = error
        if held is not None:
            _put(descriptor, held)  # where that fails too, the copy stays
    if copy is not None:
        copy.unlink()
    if failed is not None:
        raise failed


def _put(descriptor: int, data: bytes) -> None:
    # Shortened last: what a file held finds its room again on a full disk.
    os.lseek(descriptor, 0, os.SEEK_SET)
    _write(descriptor, data)
    os.ftruncate(descriptor, len(data))
    os.fsync(descriptor)


def _kept(held: bytes, path: Path) -> Path | None:
    """Keep what the file held in a file for this user alone; None where none can be made."""
    prefix = f"{path.name[:60]}.before-"
    try:
        try:
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=prefix)
        except OSError:
            descriptor, name = tempfile.mkstemp(prefix=prefix)
    except OSError:
        return None
    copy = Path(name)
    try:
        _write(descriptor, held)
        os.fsync(descriptor)
    except OSError:
        copy.unlink()
        raise
    finally:
        os.close(descriptor)
    return copy
