"""deploy/mend_cache.py: what was never acknowledged is set aside, and no acknowledged record ever.

The files are laid out as Flame 0.6.0 does: `<application>/<session>/<object>.arrow`, and `.deltas/N.arrow` beside it.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

ROOT = Path(__file__).parents[2]
NOTHING = "Nothing keeps the object cache from starting.\n"


class Object:
    """One object on the disk, that files can be added to as the cache and its accidents do."""

    def __init__(self, storage: Path) -> None:
        self.storage = storage
        self.base = storage / "openai-agent" / "s-1" / "object.arrow"
        self.folder = self.base.with_suffix(".deltas")
        self.folder.mkdir(parents=True)
        self.write(self.base, 1, b"base")

    def write(self, path: Path, version: int, data: bytes) -> None:
        columns = [pa.array([version], pa.uint64()), pa.array([b"FLM\x00" + pickle.dumps(data)], pa.binary())]
        batch = pa.record_batch(columns, names=["version", "data"])
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema, options=options) as writer:
            writer.write_batch(batch)
        self.age(path)

    def patch(self, number: int, version: int, id: str, prev: str = "") -> None:
        record = {"v": 1, "id": id, "prev": prev, "seq": version - 2, "kind": "turn"}
        self.write(self.folder / f"{number}.arrow", version, json.dumps(record).encode())

    def unfinished(self, path: Path, whole: bytes = b"") -> None:
        path.write_bytes(whole[: len(whole) // 2])
        self.age(path)

    def age(self, path: Path) -> None:
        long_ago = time.time() - 3600
        os.utime(path, (long_ago, long_ago))

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    @property
    def records(self) -> list[tuple[int, str]]:
        """What the cache would read: version and record ID, by number; strictly increasing, or it does not start."""
        found = []
        for path in sorted(self.folder.glob("*.arrow"), key=lambda path: int(path.stem)):
            with pa.ipc.open_file(pa.OSFile(str(path))) as reader:
                row = reader.get_batch(0).to_pylist()[0]
                found.append((row["version"], json.loads(pickle.loads(row["data"][4:]))["id"]))
        versions = [version for version, _ in found]
        assert versions == sorted(set(versions))
        return found


@pytest.fixture
def stored(tmp_path: Path) -> Object:
    return Object(tmp_path)


def mend(stored: Object, *options: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "mend_cache.py", stored.storage, *options], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (code, "")
    return done.stdout


def test_a_sound_cache_is_left_alone(stored: Object) -> None:
    stored.patch(0, 2, "a")
    stored.patch(1, 3, "b", "a")
    assert mend(stored) == NOTHING
    assert mend(stored, "--set-aside") == NOTHING
    assert stored.files == ["0.arrow", "1.arrow"]


@pytest.mark.parametrize("whole", [False, True])
def test_a_write_that_was_broken_off_is_set_aside_after_a_dry_run(stored: Object, whole: bool) -> None:
    stored.patch(0, 2, "a")
    stored.unfinished(stored.folder / "1.arrow", (stored.folder / "0.arrow").read_bytes() if whole else b"")
    before = stored.files
    assert mend(stored) == (
        "openai-agent/s-1/object.arrow: never finished, or its machine lost power\n"
        "  would set aside: 1.arrow\n"
        "Stop the object cache, run this again with --set-aside, and start it.\n"
    )
    assert stored.files == before
    assert "  set aside: 1.arrow\n" in mend(stored, "--set-aside")
    assert stored.files == ["0.arrow", "1.arrow.aside"]
    assert stored.records == [(2, "a")]
    assert mend(stored) == NOTHING


def test_an_object_that_was_never_finished_is_set_aside(stored: Object) -> None:
    stored.unfinished(stored.base)
    mend(stored, "--set-aside")
    assert [path.name for path in stored.base.parent.glob("object.arrow*")] == ["object.arrow.aside"]


@pytest.mark.parametrize("acknowledged", ["first", "second"])
def test_of_two_with_one_version_the_one_that_was_gone_on_from_stays(stored: Object, acknowledged: str) -> None:
    stored.patch(0, 2, "a")
    stored.patch(1, 3, "first", "a")
    stored.patch(2, 3, "second", "a")
    stored.patch(3, 4, "c", acknowledged)
    out = mend(stored, "--set-aside")
    assert f"set aside: {'2' if acknowledged == 'first' else '1'}.arrow\n" in out
    assert stored.records == [(2, "a"), (3, acknowledged), (4, "c")]


def test_a_write_that_came_late_is_told_by_what_was_added_before_it(stored: Object) -> None:
    stored.patch(0, 2, "a")
    stored.patch(1, 3, "b", "a")
    stored.patch(2, 4, "c", "b")
    stored.patch(3, 3, "late", "a")
    assert "set aside: 3.arrow\n" in mend(stored, "--set-aside")
    assert stored.records == [(2, "a"), (3, "b"), (4, "c")]


def test_one_record_that_was_sent_twice_stays_once(stored: Object) -> None:
    stored.patch(0, 2, "a")
    stored.patch(1, 2, "a")
    mend(stored, "--set-aside")
    assert stored.records == [(2, "a")]


def test_patches_are_numbered_so_that_the_next_one_comes_last(stored: Object) -> None:
    stored.patch(0, 2, "a")
    stored.patch(1, 3, "lost", "a")
    stored.patch(2, 3, "lost too", "a")
    stored.patch(3, 3, "b", "a")
    stored.patch(4, 4, "c", "b")
    mend(stored, "--set-aside")
    assert stored.records == [(2, "a"), (3, "b"), (4, "c")]
    number = len(list(stored.folder.glob("*.arrow")))  # as the cache numbers a new one
    while (stored.folder / f"{number}.arrow").exists():
        number += 1
    stored.patch(number, 5, "d", "c")
    assert stored.records[-1] == (5, "d")


def test_nothing_is_set_aside_where_nobody_can_know_what_was_acknowledged(stored: Object) -> None:
    stored.patch(0, 2, "a")
    stored.patch(1, 3, "first", "a")
    stored.patch(2, 3, "second", "a")
    before = stored.files
    out = mend(stored, "--set-aside", code=1)
    assert "1.arrow and 2.arrow have one version, nothing was added since" in out
    assert stored.files == before


def test_an_acknowledged_record_that_is_unreadable_is_named_and_stays(stored: Object) -> None:
    stored.patch(0, 2, "a")
    stored.unfinished(stored.folder / "1.arrow")
    stored.patch(2, 4, "c", "b")
    before = stored.files
    out = mend(stored, "--set-aside", code=1)
    assert out.startswith("openai-agent/s-1/object.arrow: 1.arrow is unreadable, and was acknowledged\n")
    assert stored.files == before


def test_what_is_being_written_is_left_alone(stored: Object) -> None:
    stored.patch(0, 2, "a")
    (stored.folder / "1.arrow").touch()
    out = mend(stored, "--set-aside", code=1)
    assert "stop the object cache and look again" in out
    assert stored.files == ["0.arrow", "1.arrow"]
