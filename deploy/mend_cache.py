"""Find what keeps Flame 0.6.0's object cache from starting again, and set it aside.

    python3 deploy/mend_cache.py STORAGE                 # says what it would do
    python3 deploy/mend_cache.py STORAGE --set-aside     # does it; stop the object cache before

The cache reads all its files when it starts, and one that it cannot read, or that is out of order, ends it. What
certainly was never acknowledged is set aside (renamed to `….aside`, which the cache does not look at):

- an unreadable patch, where the next one got the version that it would have had;
- of two patches with one version, the one whose writer went away in the middle: the cache forgot it and gave its
  version to the next.

What may have been acknowledged is named, and its object left as it is; the exit code is then 1. That is above all the
newest patch of an object, or an object without any, that is unreadable: a killed write and, since the cache never
waits for the disk, a loss of power leave the same. `--lose` sets that aside too, and says what is lost with it.
Uses Flame's Python libraries, where the image has them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FRESH = 10.0
"""Seconds in which a file that was written says that the object cache may still run."""


@dataclass(frozen=True)
class File:
    """A base or a patch on the disk; `version` and `data` are None where the cache could not read it."""

    path: Path
    version: int | None
    data: bytes | None

    def __str__(self) -> str:
        return self.path.name


@dataclass(frozen=True)
class Finding:
    """Find what is wrong with an object, and the files to set aside for it; none: nothing can be done here.

    `lost` names what goes with them where they may have been acknowledged.
    """

    what: str
    aside: tuple[Path, ...]
    lost: str = ""


def main() -> int:
    """Look, and do what is asked. 0: the cache can start (or could, after --set-aside); 1: something was left."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n\n")[0], epilog="Without --set-aside nothing is changed."
    )
    parser.add_argument("storage", type=Path, help="the folder that `cache.storage` names")
    parser.add_argument("--set-aside", action="store_true", help="rename what certainly was never acknowledged")
    parser.add_argument("--lose", action="store_true", help="rename what may have been acknowledged, too")
    options = parser.parse_args()
    if not options.storage.is_dir():
        parser.error(f"{options.storage} is no folder")
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.path[:0] = [
        str(Path(__file__).resolve().parent.parent),
        f"{os.environ.get('FLAME_HOME', '/usr/local/flame')}/lib/"
        f"python{sys.version_info.major}.{sys.version_info.minor}/site-packages",
    ]
    try:
        return mend(options.storage, options.set_aside, options.lose)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}. Run this as the user of the object cache.", file=sys.stderr)
        return 1


def mend(storage: Path, set_aside: bool, lose: bool) -> int:
    """Say what is wrong with each object, and set aside what may be; the exit code."""
    found = {base: findings for base in objects(storage) if (findings := list(examine(base)))}
    runs = written_just_now(storage)
    left: set[Path] = set()
    for base, findings in found.items():
        mendable = not runs and all(finding.aside and (lose or not finding.lost) for finding in findings)
        for finding in findings:
            print(f"{base.relative_to(storage)}: {finding.what}")
            verb = "left" if not mendable else "set aside" if set_aside else "would set aside"
            loses = f"; with it goes {finding.lost}" if finding.lost else ""
            for path in finding.aside:
                print(f"  {verb}: {path.name}{loses}")
                if set_aside and mendable:
                    rename_aside(path)
        if not mendable or (set_aside and os.path.lexists(base) and any(examine(base))):
            left.add(base)
    gapped = 0
    for base in objects(storage):
        renames = renumbering(base) if base not in left else []
        if renames and base not in found:
            gapped += 1
            print(
                f"{base.relative_to(storage)}: numbered with a gap: what is added next would be read before the last"
            )
            print(f"  {'numbered anew' if set_aside and not runs else 'would be numbered anew'}")
        for path, fresh in renames if set_aside and not runs else ():
            path.rename(fresh)
    misnamed = [path for path in folders(storage) + objects(storage) if not is_unicode(path.name)]
    for path in misnamed:
        print(f"{path.relative_to(storage)}: the cache takes no name that is not UTF-8: rename it")
    if not (found or gapped or misnamed):
        print("Nothing keeps the object cache from starting.")
    elif runs:
        print(f"Files were written in the last {FRESH:.0f} seconds: stop the object cache and look again.")
    elif left:
        print(
            "What was left was acknowledged, or may have been: restore it from a backup, or give it up with --lose."
        )
    elif not set_aside and not misnamed:
        lossy = " --lose" if any(finding.lost for findings in found.values() for finding in findings) else ""
        print(f"Stop the object cache, run this again with --set-aside{lossy}, and start it.")
    return 1 if left or misnamed or (gapped and runs) else 0


def folders(storage: Path) -> list[Path]:
    """The applications' folders, and their sessions'."""
    apps = [path for path in storage.iterdir() if path.is_dir()]
    return apps + [path for app in apps for path in app.iterdir() if path.is_dir()]


def objects(storage: Path) -> list[Path]:
    """The bases, as the cache finds them: `<application>/<session>/<object>.arrow`."""
    found = [path for folder in folders(storage) if folder.parent != storage for path in folder.iterdir()]
    return sorted(path for path in found if path.suffix == ".arrow" and not path.is_dir())


def is_unicode(name: str) -> bool:
    """True where the bytes of a file's name are UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def patch_files(base: Path) -> list[Path]:
    """An object's patches in the order in which the cache reads them."""
    folder = base.with_suffix(".deltas")
    return (
        sorted((path for path in folder.iterdir() if path.suffix == ".arrow"), key=index) if folder.is_dir() else []
    )


def written_just_now(storage: Path) -> bool:
    """True where the cache may still run."""
    paths = [path for base in objects(storage) for path in (base, *patch_files(base))]
    return any(abs(time.time() - path.lstat().st_mtime) < FRESH for path in paths)


def examine(base: Path) -> Iterator[Finding]:
    """A fault of one object, so that the cache could not read it."""
    first, folder = read(base), base.with_suffix(".deltas")
    if folder.exists() and not folder.is_dir():
        yield Finding(f"{folder.name} is no folder", (folder,), "what was added to the object")
        return
    patches = [read(path) for path in patch_files(base)]
    if first.version is None:
        if patches:
            yield Finding(
                "the object itself is unreadable, and records were added to it", (folder, base), "all of it"
            )
        else:
            yield Finding(f"the object itself {UNCLEAR}", (base,), "the object, if it was acknowledged")
        return
    if len({index(patch.path) for patch in patches}) < len(patches):
        yield Finding("two patches have one number", ())
        return
    # A version of 0 is one that the cache gives when it reads.
    patches = [
        File(patch.path, first.version + place + 1, patch.data) if patch.version == 0 else patch
        for place, patch in enumerate(patches)
    ]
    losers: set[Path] = set()
    for finding in ties(patches):
        losers.update(finding.aside)
        yield finding
    yield from gaps(first, [patch for patch in patches if patch.path not in losers])


UNCLEAR = "is unreadable, and nothing was added since: a write that was killed, or lost with the machine's power"


def ties(patches: list[File]) -> Iterator[Finding]:
    """The patches that have a version which another one has, too; one with each version stays."""
    for version in dict.fromkeys(patch.version for patch in patches if patch.version is not None):
        same = [patch for patch in patches if patch.version == version]
        if len(same) == 1:
            continue
        stays, certain = acknowledged(same, patches)
        lost = tuple(patch for patch in same if patch is not stays)
        aside = tuple(patch.path for patch in lost)
        if certain:
            yield Finding("the writer went away in the middle", aside)
        else:
            names = " and ".join(map(str, same))
            yield Finding(
                f"{names} have one version, and which of them was acknowledged cannot be known (as a rule the last)",
                aside,
                " and ".join(map(described, lost)) + ", if that was acknowledged",
            )


def acknowledged(same: list[File], patches: list[File]) -> tuple[File, bool]:
    """Which of these patches with one version stays, and whether it is known to be the one that was acknowledged."""
    version = same[0].version or 0
    # The next version was given when this one was acknowledged: what came behind that was too late.
    after = next((place for place, patch in enumerate(patches) if (patch.version or 0) > version), len(patches))
    in_time = [patch for patch in same if patches.index(patch) < after] or same
    if all(patch.data == in_time[0].data for patch in in_time):
        return in_time[-1], True  # the only one, or one record that was sent again
    # The next record of a conversation names the one before it, as its writer has seen it.
    names = {record(patch.data).get("prev") for patch in patches if patch not in same}
    named = [patch for patch in in_time if record(patch.data).get("id", "") in names]
    return (named[-1], True) if len({patch.data for patch in named}) == 1 else (in_time[-1], False)


def gaps(first: File, patches: list[File]) -> Iterator[Finding]:
    """The patches that are unreadable, or whose version is not above those before."""
    version, number, before = first.version or 0, record(first.data).get("seq"), first
    unreadable = 0  # without a break
    for place, patch in enumerate(patches):
        if patch.version is not None and patch.version > version:
            version, before, unreadable = patch.version, patch, 0
            seq = record(patch.data).get("seq")
            number = seq + 1 if isinstance(seq, int) and seq + 1 > (number or 0) else number
            continue
        if patch.version is not None:
            what = f"{patch} has version {patch.version} after {version}"
            yield Finding(what, (patch.path,), described(patch))
            continue
        unreadable += 1
        readable = [patch for patch in patches[place + 1 :] if patch.version is not None]
        row = min(unreadable, (readable[0].version or 0) - version - 1 if readable else unreadable)
        missing = f"version {version + row}" + (f" (record {number + row})" if isinstance(number, int) else "")
        if not readable:
            yield Finding(f"{patch} {UNCLEAR}", (patch.path,), f"{missing}, if that was acknowledged")
        elif readable[0].version == version + 1 and all(map(goes_on, [before, readable[0]], readable[:2])):
            # The next patch got the version that this one would have had. (The same would be seen where this one was
            # acknowledged, then damaged, and the next one came too late: two accidents at once.)
            yield Finding(f"{patch} is unreadable, and was never acknowledged", (patch.path,))
        else:
            yield Finding(
                f"{patch} is unreadable, and what was added since goes on from {missing}", (patch.path,), missing
            )


def goes_on(before: File, patch: File) -> bool:
    """True where a record names the one before it, and of what is no record."""
    last, this = record(before.data), record(patch.data)
    return not this or this.get("prev") == last.get("id", last.get("last", ""))


def described(patch: File) -> str:
    """A readable patch, for who has to decide."""
    found = record(patch.data)
    kind, seq = found.get("kind"), found.get("seq")
    about = f" (record {seq + 1}, {kind!a})" if isinstance(seq, int) and isinstance(kind, str) else ""
    return f"version {patch.version}{about} as in {patch}"


def record(data: bytes | None) -> dict[str, Any]:
    """The record of a conversation, or what its base says, or an empty one where it is something else."""
    from flameagent.flame.objects import payload

    try:
        found = json.loads(payload(data or b"") or b"")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read(path: Path) -> File:
    """The file as the cache would read it: one row, or an Arrow table. Raises `PermissionError`."""
    import pyarrow as pa

    unreadable = File(path, None, None)
    try:
        content = path.read_bytes()
    except PermissionError:
        raise  # the cache may be able to
    except OSError:
        return unreadable
    try:
        with pa.ipc.open_file(pa.BufferReader(content)) as reader:
            schema, batches = reader.schema, [reader.get_batch(number) for number in range(reader.num_record_batches)]
        for batch in batches:
            batch.validate(full=True)
        metadata = schema.metadata or {}
        if metadata.get(b"flame.cache.format") == b"arrow-table-v1":
            version = metadata.get(b"flame.cache.version", b"").decode()
            return File(path, int(version) if re.fullmatch(r"\+?[0-9]{1,19}", version) else 0, b"")
        if batches[0].num_rows != 1 or schema.types[:2] != [pa.uint64(), pa.binary()]:
            return unreadable
        return File(path, batches[0].column(0)[0].as_py(), batches[0].column(1)[0].as_py())
    except (pa.ArrowException, OSError, IndexError, ValueError):
        return unreadable


def rename_aside(path: Path) -> None:
    """Where the cache does not look, and over nothing."""
    name, count = f"{path.name}.aside", 1
    while os.path.lexists(path.with_name(name)):
        count += 1
        name = f"{path.name}.{count}.aside"
    path.rename(path.with_name(name))


def renumbering(base: Path) -> list[tuple[Path, Path]]:
    """Say what to rename so that the patches are numbered without a gap that the cache would fill with a newer one.

    It numbers a new patch by counting files, and reads them by number. A file keeps its content and its place.
    """
    patches = patch_files(base)
    numbers = {index(path) for path in patches}
    free = len(patches)
    while free in numbers:
        free += 1
    if len(numbers) < len(patches) or free > max(numbers, default=-1):
        return []
    anew = [(path, path.with_name(f"{number}.arrow")) for number, path in enumerate(patches)]
    return [(path, fresh) for path, fresh in anew if path != fresh]


def index(path: Path) -> int:
    """A patch's number, as Flame sorts by it."""
    return int(path.stem) if re.fullmatch(r"\+?[0-9]{1,19}", path.stem) else 2**64 - 1


if __name__ == "__main__":
    sys.exit(main())
