"""Where what is remembered of a person is: a log of its own for each application and user.

It has a Flame session of its own, which holds the reference to its first object, so that of two that begin it at once
one wins. The session is of an application that every Flame has, so that no list of an agent's sessions shows it.
"""

from __future__ import annotations

import json
from hashlib import blake2b

HOLDER = "flmping"
"""The application of those sessions; none of them has a task."""


def session_id(application: str, user: str) -> str:
    """The session of a person's memory; a user's name is any text, and not in it."""
    digest = blake2b(json.dumps([application, user]).encode(), digest_size=16).hexdigest()
    return f"memory-{digest}"


def erasing_id(application: str, user: str) -> str:
    """The session that is there while somebody erases a person's memory: whoever begins one meanwhile marks it."""
    return f"{session_id(application, user)}-erasing"


def prefix(application: str, user: str) -> str:
    """What the keys of its objects begin with."""
    return f"{application}/{session_id(application, user)}"


def is_of(key: str, application: str, user: str) -> bool:
    """True where that is the key of an object of this person's memory, and of nobody else's."""
    beside, _, name = key.rpartition("/")
    return bool(user) and beside == prefix(application, user) and name not in ("", ".", "..")
