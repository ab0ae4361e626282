"""The one node: this machine."""

from __future__ import annotations

import os
from typing import Any

from flamewire.stubs import types


def node() -> Any:
    """This machine, as Flame describes a node (flame.v1.Node)."""
    uname = os.uname()
    cores = os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    room = types.ResourceRequirement(cpu=cores, memory=memory)
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
