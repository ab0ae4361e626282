"""Find what keeps Flame 0.6.0's object cache from starting again, and set it aside.

    python3 deploy/mend_cache.py STORAGE                 # says what it would do
    python3 deploy/mend_cache.py STORAGE --set-aside     # does it; stop the object cache before

The cache reads all its files when it starts, and one that it cannot read ends it. Two kinds are left behind by what
was never acknowledged, and these are set aside (renamed to `….aside`, which the cache does not look at):

- a file that a kill in the middle of a write has left unfinished;
- of two patches with one version, the one whose writer went away in the middle: the cache forgot it and gave its
  version to the next.

An acknowledged record is never set aside, and its content never changed. Where it cannot be known which one was
acknowledged, or an acknowledged file is unreadable, the script says so, leaves all of that object as it is, and exits
with 1. Uses Flame's Python libraries, where the image has them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FRESH = 10.0  # seconds: what is younger may just be being written


@dataclass(frozen=True)
class File:
    """A base or a patch on the disk; `version` and `data` are None where it cannot be read."""

    path: Path
    version: int | None
    data: bytes | None


@dataclass(frozen=True)
class Finding:
    """What is wrong with an object: files to set aside, or, without any, why nothing can be done here."""

    what: str
    aside: tuple[Path, ...] = ()


def main() -> int:
    """Look, and do what is asked. 0: the cache can start (or could, after --set-aside); 1: not all can be mended."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n\n")[0], epilog="Without --set-aside nothing is changed."
    )
    parser.add_argument("storage", type=Path, help="the folder that `cache.storage` names")
    parser.add_argument("--set-aside", action="store_true", help="rename what was never acknowledged")
    options = parser.parse_args()
    if not options.storage.is_dir():
        parser.error(f"{options.storage} is no folder")
    sys.path[:0] = [
        str(Path(__file__).resolve().parent.parent),
        f"{os.environ.get('FLAME_HOME', '/usr/local/flame')}/lib/"
        f"python{sys.version_info.major}.{sys.version_info.minor}/site-packages",
    ]

    hopeless = found = 0
    for base in sorted(options.storage.glob("*/*/*.arrow")):
        findings = list(examine(base))
        mendable = all(finding.aside for finding in findings)
        for finding in findings:
            print(f"{base.relative_to(options.storage)}: {finding.what}")
            for path in finding.aside if mendable else ():
                print(f"  {'set aside' if options.set_aside else 'would set aside'}: {path.name}")
                if options.set_aside:
                    path.rename(path.with_name(f"{path.name}.aside"))
        if options.set_aside and mendable:
            close_gaps(base.with_suffix(".deltas"))
        found += len(findings)
        hopeless += not mendable
    if not found:
        print("Nothing keeps the object cache from starting.")
    elif hopeless:
        print("Restore what cannot be mended from a backup, or move the object's files away: that loses its records.")
    elif not options.set_aside:
        print("Stop the object cache, run this again with --set-aside, and start it.")
    return 1 if hopeless else 0


def examine(base: Path) -> Iterator[Finding]:
    """What is wrong with one object: its base and its patches in the order in which the cache reads them."""
    folder = base.with_suffix(".deltas")
    patches = [read(path) for path in sorted(folder.glob("*.arrow"), key=index)]
    if any(time.time() - file.stat().st_mtime < FRESH for file in (base, *(patch.path for patch in patches))):
        if any(patch.data is None for patch in (read(base), *patches)):
            yield Finding("written in the last seconds, and unreadable: stop the object cache and look again")
        return
    first = read(base)
    if first.version is None:
        if patches:
            yield Finding("the object itself is unreadable, and records were added to it")
        else:
            yield Finding("never finished, or its machine lost power", (base,))
        return
    version = first.version
    decided: set[int] = set()
    losers: set[Path] = set()
    for place, patch in enumerate(patches):
        if patch.version is None:
            # The version that the next record got tells whether this one ever had one.
            later = next((other.version for other in patches[place + 1 :] if other.version is not None), None)
            if later is not None and later > version + 1:
                yield Finding(f"{patch.path.name} is unreadable, and was acknowledged")
                return
            yield Finding("never finished, or its machine lost power", (patch.path,))
            continue
        if patch.version not in decided:
            decided.add(patch.version)
            same = [other for other in patches if other.version == patch.version]
            winner = acknowledged(same, patches)
            if winner is None:
                yield Finding(
                    f"{' and '.join(other.path.name for other in same)} have one version, nothing was added since, "
                    "and which of them was acknowledged cannot be known (as a rule the last)"
                )
                return
            if lost := tuple(other.path for other in same if other is not winner):
                yield Finding("the writer went away in the middle", lost)
                losers.update(lost)
        if patch.path in losers:
            continue
        if patch.version <= version:
            yield Finding(f"{patch.path.name} has version {patch.version} after {version}")
            return
        version = patch.version


def acknowledged(same: list[File], patches: list[File]) -> File | None:
    """Which of these patches with one version was acknowledged; None where that cannot be known.

    The next record of a conversation names the one before it, as its writer has seen it.
    """
    if all(file.data == same[0].data for file in same):
        return same[-1]  # one record, sent again
    names = {record(file.data).get("prev") for file in patches if file not in same}
    named = [file for file in same if record(file.data).get("id", "") in names]
    return named[0] if len(named) == 1 else None


def record(data: bytes | None) -> dict[str, Any]:
    """The record of a conversation, or an empty one where it is something else."""
    from flameagent.flame.cache import payload

    try:
        found = json.loads(payload(data or b"") or b"")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def read(path: Path) -> File:
    """The file as the cache would read it."""
    import pyarrow as pa

    try:
        with pa.ipc.open_file(pa.OSFile(str(path))) as reader:
            metadata = reader.schema.metadata or {}
            if metadata.get(b"flame.cache.format") == b"arrow-table-v1":
                reader.read_all()
                return File(path, int(metadata.get(b"flame.cache.version", b"0")), b"")
            batch = reader.get_batch(0)
            if batch.num_rows != 1:
                return File(path, None, None)
            return File(path, batch.column(0)[0].as_py(), batch.column(1)[0].as_py())
    except (pa.ArrowException, OSError, IndexError, TypeError, ValueError):
        return File(path, None, None)


def close_gaps(folder: Path) -> None:
    """Number the patches that are left without a gap that the cache would fill with a newer one.

    It numbers a new patch by counting files, and reads them by number. A file keeps its content and its place.
    """
    patches = sorted(folder.glob("*.arrow"), key=index)
    numbers = {index(path) for path in patches}
    free = len(patches)
    while free in numbers:
        free += 1
    if not numbers or free > max(numbers):
        return
    for number, path in enumerate(patches):
        if index(path) != number:
            path.rename(path.with_name(f"{number}.arrow"))


def index(path: Path) -> int:
    """A patch's number, as Flame sorts by it."""
    return int(path.stem) if path.stem.isdigit() else sys.maxsize


if __name__ == "__main__":
    sys.exit(main())
