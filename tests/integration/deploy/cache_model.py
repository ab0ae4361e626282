"""A model of how Flame 0.6.0's object cache keeps objects in a folder, and what it does when it starts.

Made from reading its source, not from the script that mends such folders: an object is `<app>/<session>/<id>.arrow`,
its patches are `<id>.deltas/<number>.arrow`. A start reads all of them, and the first that it cannot read ends it.
"""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

LIMIT = 1000
"""Patches of one object at most."""


class NoStart(Exception):
    """The cache ends with this sentence instead of starting."""


def start(storage: Path) -> dict[str, list[tuple[int, bytes]]]:
    """What the cache has in memory afterwards, by key: the base, then the patches. Raises `NoStart`."""
    loaded = {}
    for app in filter(Path.is_dir, storage.iterdir()):
        _text(app.name)
        for session in filter(Path.is_dir, app.iterdir()):
            _text(session.name)
            for path in session.iterdir():
                if path.suffix == ".arrow" and not path.is_dir():
                    base = _row(path)
                    patches = _patches(path.with_name(f"{path.stem}.deltas"), base[0])
                    loaded[f"{app.name}/{session.name}/{_text(path.stem)}"] = [base, *patches]
    return loaded


def _patches(folder: Path, version: int) -> list[tuple[int, bytes]]:
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise NoStart("Not a directory")
    files = sorted((path for path in folder.iterdir() if path.suffix == ".arrow"), key=_number)
    rows = [_row(path) for path in files]
    rows = [(own or version + place, data) for place, (own, data) in enumerate(rows, 1)]
    for own, _ in rows:
        if own <= version:
            raise NoStart(f"Patch versions must be strictly increasing; found {own} after {version}")
        version = own
    return rows


def _row(path: Path) -> tuple[int, bytes]:
    try:
        with pa.ipc.open_file(pa.BufferReader(path.read_bytes())) as reader:
            table: Any = reader.read_all()
        table.validate(full=True)
    except (OSError, pa.ArrowException) as error:
        raise NoStart(f"Failed to create reader: {error}") from error
    about = table.schema.metadata or {}
    if about.get(b"flame.cache.format") == b"arrow-table-v1":
        version = about.get(b"flame.cache.version", b"")
        return (int(version) if version.isdigit() else 0), b""
    if table.num_rows != 1:
        raise NoStart("Expected exactly one row")
    if table.schema.types[:2] != [pa.uint64(), pa.binary()]:
        raise NoStart("Invalid version column")
    return table.column(0)[0].as_py(), table.column(1)[0].as_py()


def _text(name: str) -> str:
    try:
        return name.encode().decode()
    except UnicodeEncodeError as error:
        raise NoStart("Invalid name") from error


def _number(path: Path) -> int:
    digits = path.stem.removeprefix("+")
    number = int(digits) if digits.isascii() and digits.isdigit() else 2**64
    return min(number, 2**64 - 1)


class Cache:
    """A cache that serves one object from a folder, and the accidents that happen to it.

    `acknowledged` are the patches whose writers were told so, each version with its file as it was.
    """

    def __init__(self, storage: Path, object: str = "openai-agent/s-1/object") -> None:
        self.storage = storage
        self.base = storage / f"{object}.arrow"
        self.folder = self.base.with_suffix(".deltas")
        self.acknowledged: dict[int, bytes] = {}
        if not self.base.exists():
            self.base.parent.mkdir(parents=True)
            self.write(self.base, 1, b"base")
        self.version = start(storage)[object][-1][0]

    def write(self, path: Path, version: int, data: bytes) -> None:
        """A file, as the cache writes it."""
        path.write_bytes(encoded(version, data))
        age(path)

    def free(self) -> Path:
        """The file that the next patch is given."""
        self.folder.mkdir(exist_ok=True)
        number = sum(path.suffix == ".arrow" for path in self.folder.iterdir())
        while (self.folder / f"{number}.arrow").exists():
            number += 1
        assert number < LIMIT
        return self.folder / f"{number}.arrow"

    def patch(self, data: bytes) -> Path:
        """A patch that is acknowledged."""
        path = self.writer_goes_away(data)
        self.version += 1
        self.acknowledged[self.version] = path.read_bytes()
        return path

    def writer_goes_away(self, data: bytes, version: int | None = None) -> Path:
        """A patch that comes to the disk and not into memory: its version is given again."""
        path = self.free()
        self.write(path, self.version + 1 if version is None else version, data)
        return path

    def broken_off(self, data: bytes, length: int) -> Path:
        """A patch that a kill, or a full disk, leaves unfinished."""
        path = self.free()
        path.write_bytes(encoded(self.version + 1, data)[:length])
        age(path)
        return path


def encoded(version: int, data: bytes) -> bytes:
    """The bytes of such a file; `data` are flamepy's pickled bytes."""
    columns = [pa.array([version], pa.uint64()), pa.array([b"FLM\x00" + pickle.dumps(data)], pa.binary())]
    batch = pa.record_batch(columns, names=["version", "data"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def age(path: Path, seconds: float = 3600) -> None:
    """Have the file be written that long ago."""
    long_ago = time.time() - seconds
    os.utime(path, (long_ago, long_ago), follow_symlinks=False)
