"""The instances that an engine left behind when it was killed: found by their notes, and ended by the next engine."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from localflame.instance.process import INSTANCE_ENDPOINT, signal_group, start_time

if TYPE_CHECKING:
    from localflame.home import Home


def end_leftovers(home: Home) -> int:
    """Kill the instances that an earlier engine of this home left behind: the number of processes and groups.

    A note is named `<group>-<start time of its leader>`, and has the instance's socket and the identity of the home.
    A group is ours if its leader is the process that was noted, or, where that is dead, by the socket in
    the environment of its members: process IDs are used again, these are not. Where no group was noted (0), because
    the engine was killed just then, by that alone.
    """
    count, ours = 0, str(home.identity())
    for note in home.instances.iterdir():
        number, _, start = note.name.partition("-")
        endpoint, _, whose = note.read_text().partition("\n")
        if whose not in ("", ours):  # of the home that this one was copied from; older engines did not note it
            note.unlink(missing_ok=True)
            continue
        group, marker = int(number), f"{INSTANCE_ENDPOINT}={endpoint}".encode()
        leader = start_time(group)
        if leader == start != "":
            signal_group(group, signal.SIGKILL)
            count += 1
        elif leader == "" or group == 0:
            for member in _members(group, marker):
                with contextlib.suppress(OSError):
                    os.kill(member, signal.SIGKILL)
                count += 1
        note.unlink(missing_ok=True)
    shutil.rmtree(home.temporary, ignore_errors=True)
    home.temporary.mkdir(mode=0o700, exist_ok=True)
    return count


def _members(group: int, marker: bytes) -> list[int]:
    """Processes of the group (0: of any) whose environment has the marker; none where there is no /proc."""
    members = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if group in (0, os.getpgid(int(entry.name))) and marker in (entry / "environ").read_bytes().split(b"\0"):
                members.append(int(entry.name))
    return members
