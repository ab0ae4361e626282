"""The one node: this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flamewire.stubs import types


def memory() -> int:
    """The bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory() -> int:
    """The bytes of it that programs may still take; all of it where the system does not say (macOS)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(available.split()[1]) * 1024
    except (OSError, ValueError, StopIteration):
        return memory()


def node() -> Any:
    """This machine, as Flame describes a node (flame.v1.Node)."""
    uname = os.uname()
    cores = os.cpu_count() or 1
    room = types.ResourceRequirement(cpu=cores, memory=memory())
    return types.Node(
        metadata=types.Metadata(id=uname.nodename, name=uname.nodename),
        spec=types.NodeSpec(hostname=uname.nodename),
        status=types.NodeStatus(
            state=types.Ready,
            capacity=room,
            allocatable=room,
            info=types.NodeInfo(arch=uname.machine, os=uname.sysname.lower()),
        ),
    )
