"""Flame as this project uses it: where it is, its frontend and its object cache.

Promises errors that say in a sentence what happened and what to do, calls that end, and none of
the traps of flamepy 0.6.0 (whose `import` alone runs FastAPI, and whose errors are all INTERNAL).
"""

from flameagent.flame.endpoints import Endpoints, resolve
from flameagent.flame.errors import (
    CacheFull,
    FlameError,
    Misconfigured,
    Mismatch,
    NotFlame,
    NotFound,
    NotOpen,
    Refused,
    Unclear,
    Unreachable,
)

__all__ = [
    "CacheFull",
    "Endpoints",
    "FlameError",
    "Misconfigured",
    "Mismatch",
    "NotFlame",
    "NotFound",
    "NotOpen",
    "Refused",
    "Unclear",
    "Unreachable",
    "resolve",
]
