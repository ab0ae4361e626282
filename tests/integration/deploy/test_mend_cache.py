"""deploy/mend_cache.py: what was never acknowledged is set aside, and what may have been only where that is asked.

Each damage is tried against a model of the real cache's start.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flameagent.flame.objects import payload
from tests.integration.deploy.cache_model import Cache, NoStart, age, encoded, start

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "deploy" / "mend_cache.py"
KEY = "openai-agent/s-1/object"
NOTHING = "Nothing keeps the object cache from starting.\n"


def record(id: str, prev: str, number: int) -> bytes:
    return json.dumps({"v": 1, "id": id, "prev": prev, "seq": number - 1, "kind": "turn"}).encode()


class Conversation(Cache):
    """A conversation in the cache: each record names the one before it, as its writer has seen it."""

    ids: tuple[str, ...] = ()

    def turn(self, id: str) -> Path:
        path = self.patch(self.next(id))
        self.ids += (id,)
        return path

    def next(self, id: str) -> bytes:
        return record(id, self.ids[-1] if self.ids else "", len(self.ids) + 1)

    def at(self, number: int) -> Path:
        return self.folder / f"{number}.arrow"


@pytest.fixture
def three(tmp_path: Path) -> Conversation:
    """A conversation of three turns."""
    stored = Conversation(tmp_path)
    for id in "abc":
        stored.turn(id)
    return stored


def read(storage: Path) -> str | None:
    """The IDs of the records that the cache has when it starts; None where it does not, "-" without the object."""
    try:
        loaded = start(storage)
    except NoStart:
        return None
    if KEY not in loaded:
        return "-"
    return "".join(_id(payload(data) or b"") for _, data in loaded[KEY][1:])


def _id(data: bytes) -> str:
    return str(json.loads(data)["id"]) if data.startswith(b"{") else "?"


def files(storage: Path) -> dict[str, tuple[int, bytes]]:
    found = (path for path in storage.rglob("*") if path.is_file())
    return {str(path.relative_to(storage)): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mend_cache", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["mend_cache"] = module
    spec.loader.exec_module(module)
    return module


class Mend:
    """The script on a folder, without a process of its own."""

    def __init__(self, script: ModuleType) -> None:
        self._script = script

    def __call__(self, storage: Path, *options: str, code: int = 0) -> str:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            left = self._script.mend(storage, set_aside="--set-aside" in options, lose="--lose" in options)
        assert left == code, said.getvalue()
        return said.getvalue()


@pytest.fixture(scope="module")
def mend(script: ModuleType) -> Mend:
    return Mend(script)


def zeroed(path: Path, begin: int = 0) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:begin] + bytes(len(content) - begin))
    age(path)


def cut(path: Path, length: int = 100) -> None:
    path.write_bytes(path.read_bytes()[:length])
    age(path)


def rewritten(path: Path, batch: pa.RecordBatch, batches: int = 1) -> None:
    with pa.ipc.new_file(str(path), batch.schema) as writer:
        for _ in range(batches):
            writer.write_batch(batch)
    age(path)


def gone_on_from(number: int) -> Callable[[Conversation], None]:
    """Two patches with one version, and the next record names the first (0) or the second (1)."""

    def damage(stored: Conversation) -> None:
        stored.writer_goes_away(stored.next("x"))
        stored.turn("d")
        stored.patch(record("e", "xd"[number], 5))

    return damage


def sent_again(stored: Conversation) -> None:
    stored.writer_goes_away(stored.next("d"))
    stored.turn("d")


def late(stored: Conversation) -> None:
    stored.writer_goes_away(record("x", "a", 2), version=3)


def no_records(stored: Conversation) -> None:
    """Rows of something else than a conversation tell by their order."""
    stored.writer_goes_away(b"\x00x")
    stored.patch(b"\x00y")
    stored.patch(b"\x00z")
    stored.writer_goes_away(b"\x00late", version=stored.version)


def three_with_one_version(stored: Conversation) -> None:
    stored.writer_goes_away(stored.next("x"))
    stored.writer_goes_away(stored.next("y"))
    stored.turn("d")
    stored.turn("e")


def full_disk(stored: Conversation) -> None:
    stored.broken_off(stored.next("x"), 0)
    stored.broken_off(stored.next("x"), 300)
    stored.turn("d")


def tie(stored: Conversation) -> None:
    stored.writer_goes_away(stored.next("x"))
    stored.turn("d")


def tie_and_broken_off(stored: Conversation) -> None:
    tie(stored)
    stored.broken_off(stored.next("e"), 0)


def no_base(stored: Conversation) -> None:
    for path in (*stored.folder.iterdir(), stored.base):
        path.unlink()
    stored.folder.rmdir()
    stored.base.touch()
    age(stored.base)


def no_folder(stored: Conversation) -> None:
    for path in stored.folder.iterdir():
        path.unlink()
    stored.folder.rmdir()
    stored.folder.touch()


def table(stored: Conversation) -> None:
    metadata = {"flame.cache.format": "arrow-table-v1", "flame.cache.version": "1"}
    batch = pa.record_batch([pa.array([1, 2])], schema=pa.schema([pa.field("n", pa.int64())], metadata=metadata))
    rewritten(stored.base, batch, batches=2)


def version_0(stored: Conversation) -> None:
    for number, id in enumerate("abc"):
        stored.at(number).write_bytes(encoded(0, record(id, "", number + 1)))
        age(stored.at(number))


def odd_names(stored: Conversation) -> None:
    stored.at(2).rename(stored.folder / "+2.arrow")
    (stored.base.parent / "a folder.arrow").mkdir()
    (stored.storage / "a file").touch()


@dataclass(frozen=True)
class Damage:
    """What lies on the disk (`a`, `b` and `c` were acknowledged before), and what becomes of it.

    `before` are the records that the cache starts with, None where it does not; `said` is part of what the script
    says; `kept` is the same after `--set-aside`, with None where that is refused and nothing is changed; `lost` is it
    after `--set-aside --lose`.
    """

    done: Callable[[Conversation], object]
    before: str | None
    said: str
    kept: str | None
    lost: str | None = None


DAMAGE = {
    "nothing": Damage(lambda s: None, "abc", NOTHING, "abc"),
    "an Arrow table": Damage(table, "abc", NOTHING, "abc"),
    "versions that the reader gives": Damage(version_0, "abc", NOTHING, "abc"),
    "names that are no numbers, and what is no object": Damage(odd_names, "abc", NOTHING, "abc"),
    # What certainly was never acknowledged.
    "writes that a full disk broke off": Damage(full_disk, None, "3.arrow is unreadable, and was", "abcd"),
    "two with one version, and the first gone on from": Damage(gone_on_from(0), None, "aside: 4.arrow", "abcxe"),
    "two with one version, and the second gone on from": Damage(gone_on_from(1), None, "aside: 3.arrow", "abcde"),
    "three with one version": Damage(three_with_one_version, None, "aside: 4.arrow", "abcde"),
    "one record that was sent twice": Damage(sent_again, None, "set aside: 3.arrow", "abcd"),
    "a write that came late": Damage(late, None, "set aside: 3.arrow", "abc"),
    "rows that are no records": Damage(no_records, None, "3.arrow and 4.arrow have one version", None, "abc??"),
    # What may have been.
    "the newest is empty": Damage(lambda s: cut(s.at(2), 0), None, "version 4 (record 3), if", None, "ab"),
    "the newest is cut off": Damage(lambda s: cut(s.at(2)), None, "2.arrow is unreadable, and nothing", None, "ab"),
    "the newest is full of zeros": Damage(lambda s: zeroed(s.at(2)), None, "lost with the machine's", None, "ab"),
    "the newest is zeros from its middle on": Damage(lambda s: zeroed(s.at(2), 200), None, "2.arrow", None, "ab"),
    "the newest two are empty": Damage(
        lambda s: (cut(s.at(1), 0), cut(s.at(2), 0)), None, "2.arrow; with it goes version 4 ", None, "a"
    ),
    "a write that was killed": Damage(lambda s: s.broken_off(s.next("d"), 0), None, "3.arrow is unr", None, "abc"),
    "the last two have one version": Damage(tie, None, "3.arrow and 4.arrow have one version", None, "abcd"),
    "and one was killed behind them": Damage(tie_and_broken_off, None, "5.arrow is unreadable", None, "abcd"),
    "an object that has nothing else": Damage(no_base, None, "object.arrow; with it goes the object, if", None, "-"),
    # What was.
    "an acknowledged one": Damage(lambda s: cut(s.at(1)), None, "goes on from version 3 (record 2)", None, "ac"),
    "two acknowledged ones": Damage(
        lambda s: (s.turn("d"), cut(s.at(1)), cut(s.at(2), 0)), None, "goes on from version 4", None, "ad"
    ),
    "an acknowledged one behind one that was not": Damage(
        lambda s: (tie(s), s.turn("e"), cut(s.at(4))), None, "4.arrow is unreadable, and what was", None, "abcxe"
    ),
    "the object itself": Damage(lambda s: cut(s.base), None, "with it goes all of it", None, "-"),
    "the object is full of zeros": Damage(lambda s: zeroed(s.base), None, "records were added to it", None, "-"),
    "out of order": Damage(
        lambda s: s.at(0).rename(s.at(9)), None, "9.arrow has version 2 after 4", None, "bc"
    ),
    "a folder in place of a patch": Damage(
        lambda s: (s.at(1).unlink(), s.at(1).mkdir(), age(s.at(1))), None, "1.arrow is unreadable", None, "ac"
    ),
    "a file in place of the patches": Damage(no_folder, None, "object.deltas is no folder", None, ""),
    "a link that leads nowhere": Damage(
        lambda s: ((link := s.base.parent / "x.arrow").symlink_to("/nowhere"), age(link)),
        None,
        "x.arrow",
        None,
        "abc",
    ),
    "rows of another kind": Damage(
        lambda s: rewritten(s.at(2), pa.record_batch([pa.array([4]), pa.array([b"x"])], names=["version", "data"])),
        None,
        "2.arrow is unreadable",
        None,
        "ab",
    ),
    "no rows": Damage(
        lambda s: rewritten(
            s.at(2), pa.record_batch([pa.array([4], pa.uint64()), pa.array([b"x"])], names=["version", "data"]), 0
        ),
        None,
        "2.arrow is unreadable",
        None,
        "ab",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_what_may_have_been_acknowledged_is_never_set_aside_unasked(
    three: Conversation, mend: Mend, name: str
) -> None:
    damage = DAMAGE[name]
    damage.done(three)
    storage, before = three.storage, files(three.storage)
    assert read(storage) == damage.before

    refused = 1 if damage.kept is None else 0
    said = mend(storage, code=refused)
    assert damage.said in said.replace("would set", "set") and files(storage) == before
    if damage.before is not None:
        assert said == NOTHING
    if refused:
        left = mend(storage, "--set-aside", code=1)
        assert files(storage) == before
        assert left.endswith("restore it from a backup, or give it up with --lose.\n")
        assert "; with it goes " in left and "  left: " in left and "set aside" not in left
        assert mend(storage, "--lose").endswith("run this again with --set-aside --lose, and start it.\n")
        assert files(storage) == before
    expected = damage.lost if refused else damage.kept
    mend(storage, "--set-aside", *(["--lose"] if refused else []))
    assert read(storage) == expected
    contents = {content for _, content in files(storage).values()}
    assert contents == {content for _, content in before.values()}  # nothing is gone, it has other names
    assert mend(storage) == NOTHING
    if expected not in (None, "-"):
        three.version = start(storage)[KEY][-1][0]
        three.patch(three.next("z"))
        assert read(storage) == f"{expected}z"  # the next one comes last


def test_as_a_program_it_says_what_it_did(three: Conversation) -> None:
    three.broken_off(three.next("d"), 0)
    for options, code, said in (
        ([], 1, "give it up with --lose.\n"),
        (["--set-aside"], 1, "give it up with --lose.\n"),
        (["--set-aside", "--lose"], 0, "; with it goes version 5 (record 4), if that was acknowledged\n"),
        ([], 0, NOTHING),
    ):
        done = subprocess.run([sys.executable, SCRIPT, three.storage, *options], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (code, "") and done.stdout.endswith(said)
    assert read(three.storage) == "abc"


def test_a_cache_that_may_still_run_is_left_alone_and_what_is_wrong_is_said(three: Conversation, mend: Mend) -> None:
    tie(three)
    for number in (3, 4):
        age(three.at(number), seconds=1)
    before = files(three.storage)
    for options in ([], ["--set-aside"], ["--set-aside", "--lose"]):
        said = mend(three.storage, *options, code=1)
        assert "3.arrow and 4.arrow have one version" in said
        assert said.endswith("written in the last 10 seconds: stop the object cache and look again.\n")
        assert files(three.storage) == before
    age(three.at(3))
    age(three.at(4), seconds=-3600)  # a clock that was put back is no reason to wait for an hour
    mend(three.storage, "--set-aside", "--lose")
    assert read(three.storage) == "abcd"


def test_one_object_that_was_written_just_now_has_all_be_left(three: Conversation, mend: Mend) -> None:
    other = Conversation(three.storage, "openai-agent/s-2/object")
    gone_on_from(1)(three)
    age(other.base, seconds=1)
    assert "  left: 3.arrow\n" in mend(three.storage, "--set-aside", code=1)
    age(other.base)
    assert "  set aside: 3.arrow\n" in mend(three.storage, "--set-aside")


def test_a_sound_cache_that_runs_is_said_to_be_sound(three: Conversation, mend: Mend) -> None:
    age(three.at(2), seconds=1)
    assert mend(three.storage, "--set-aside") == NOTHING


def test_patches_with_a_gap_in_their_numbers_are_numbered_anew(three: Conversation, mend: Mend) -> None:
    three.at(2).rename(three.folder / "²x.arrow")
    three.at(1).rename(three.at(5))
    said = mend(three.storage)
    assert said.startswith(f"{KEY}.arrow: numbered with a gap: ") and three.at(5).exists()
    assert "  numbered anew\n" in mend(three.storage, "--set-aside")
    assert sorted(path.name for path in three.folder.iterdir()) == ["0.arrow", "1.arrow", "2.arrow"]
    three.turn("d")
    assert read(three.storage) == "abcd"


def test_what_was_set_aside_before_is_not_overwritten(three: Conversation, mend: Mend) -> None:
    for content in (b"one", b"two"):
        three.at(3).write_bytes(content)
        age(three.at(3))
        mend(three.storage, "--set-aside", "--lose")
    aside = {path.read_bytes() for path in three.folder.glob("3.arrow*.aside")}
    assert aside == {b"one", b"two"} and read(three.storage) == "abc"


def test_other_objects_are_mended_where_one_is_left(three: Conversation, mend: Mend) -> None:
    other = Conversation(three.storage, "openai-agent/s-2/object")
    gone_on_from(1)(three)
    other.broken_off(other.next("a"), 0)
    said = mend(three.storage, "--set-aside", code=1)
    assert "  set aside: 3.arrow\n" in said and "  left: 0.arrow; with it goes version 2, if " in said
    assert read(three.storage) is None
    mend(three.storage, "--set-aside", "--lose")
    assert read(three.storage) == "abcde"


def test_a_name_that_is_no_text_is_said(three: Conversation, mend: Mend) -> None:
    (three.storage / os.fsdecode(b"\xff")).mkdir()
    assert read(three.storage) is None
    assert mend(three.storage, "--set-aside", code=1) == (
        "\udcff: the cache takes no name that is not UTF-8: rename it\n"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_may_not_read_the_files_is_told_so(three: Conversation) -> None:
    three.at(2).chmod(0o600)
    for folder in (three.storage, *three.storage.parents[:3]):
        folder.chmod(0o755)
    program = (
        "import os, sys; sys.path.insert(0, sys.argv.pop(1)); import mend_cache; mend_cache.main(); "
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); sys.exit(mend_cache.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, SCRIPT.parent, three.storage], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, NOTHING)
    assert done.stderr == f"{three.at(2)}: Permission denied. Run this as the user of the object cache.\n"


ACCIDENTS = st.lists(st.sampled_from(["turn", "turn", "goes away", "late", "late again", "full disk"]), max_size=9)
LOSSES = st.lists(st.sampled_from([lambda b: b"", lambda b: b[:100], lambda b: bytes(len(b)), None]), max_size=3)


def lived(stored: Conversation, accidents: list[str], place: int) -> None:
    for number, accident in enumerate(accidents):
        turn = place % len(stored.ids) if stored.ids else 0
        before = stored.ids[turn - 1] if turn else ""
        if accident == "goes away":
            stored.writer_goes_away(stored.next(f"{number}"))
        elif accident == "full disk":
            stored.broken_off(stored.next(f"{number}"), place)
        elif accident.startswith("late") and stored.ids:
            id = stored.ids[turn] if accident == "late again" else f"{number}"
            stored.writer_goes_away(record(id, before, turn + 1), version=turn + 2)
        else:
            stored.turn(f"{number}")


@settings(max_examples=100, deadline=None)
@given(accidents=ACCIDENTS, place=st.integers(0, 400))
def test_where_processes_were_killed_it_starts_again_with_all_that_was_acknowledged(
    mend: Mend, accidents: list[str], place: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stored = Conversation(Path(folder))
        lived(stored, [*accidents, "turn", "turn"], place)
        mend(stored.storage, "--set-aside")
        there = {content for name, (_, content) in files(stored.storage).items() if name.endswith(".arrow")}
        assert {*stored.acknowledged.values()} <= there
        *_, last = start(stored.storage)[KEY]
        assert last[0] == stored.version
        stored.turn("next")
        assert len(start(stored.storage)[KEY]) == len(stored.ids) + 1


@settings(max_examples=100, deadline=None)
@given(accidents=ACCIDENTS, place=st.integers(0, 400), losses=LOSSES)
def test_where_power_was_lost_nothing_that_was_acknowledged_is_set_aside_unasked(
    script: ModuleType,
    mend: Mend,
    accidents: list[str],
    place: int,
    losses: list[Callable[[bytes], bytes] | None],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stored = Conversation(Path(folder))
        lived(stored, [accident for accident in accidents if not accident.startswith("late")], place)
        newest = sorted(stored.folder.glob("*.arrow"), key=script.index, reverse=True)
        acknowledged = {path.stat().st_ino for path in newest if path.read_bytes() in stored.acknowledged.values()}
        for path, loss in zip(newest, losses, strict=False):
            if loss is None:
                acknowledged.discard(path.stat().st_ino)
                path.unlink()
            else:
                path.write_bytes(loss(path.read_bytes()))
                age(path)
        before = files(stored.storage)

        with contextlib.redirect_stdout(io.StringIO()):
            code = script.mend(stored.storage, set_aside=True, lose=False)
        assert (code == 0) == (read(stored.storage) is not None)
        assert code == 0 or files(stored.storage) == before
        assert acknowledged <= {path.stat().st_ino for path in stored.folder.glob("*.arrow")}
        mend(stored.storage, "--set-aside", "--lose")
        loaded = start(stored.storage)[KEY]
        stored.version = loaded[-1][0]
        stored.patch(b"next")
        assert start(stored.storage)[KEY][:-1] == loaded
