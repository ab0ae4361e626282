"""Processes of instances."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

INSTANCE_ENDPOINT = "FLAME_INSTANCE_ENDPOINT"


def started(pid: int) -> str:
    """When the process started, in the system's own words; empty where there is no such process."""
    if sys.platform.startswith("linux"):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] == "Z" else fields[19]
    found = subprocess.run(["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip().replace(" ", "_").replace(":", "_")


def signal_group(group: int, number: int) -> bool:
    """Whether there was anybody in the group to send it to."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS: only zombies are left
        return False
    return True
