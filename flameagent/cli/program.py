"""The words that run this program, for the lines that say what to do next."""

from __future__ import annotations

import sys
from pathlib import Path


def program() -> str:
    """The installed program's name, or how a checkout is run."""
    return "flame-agent" if Path(sys.argv[0]).stem == "flame-agent" else "uv run client.py"
