"""A session's ID, found from a part that only it has."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from flameagent.client.errors import AmbiguousSession, NoSuchSession


def the_one(wanted: str, ids: Sequence[str], application: str) -> str:
    """The ID among these that has `wanted` in it, in any case. Raises `NoSuchSession`, `AmbiguousSession`."""
    if wanted in ids:
        return wanted
    part = wanted.casefold()
    found = [each for each in ids if part and part in each.casefold()]
    if not found:
        close = _close_to(part, ids, application)
        said = f"Did you mean {close}?" if close else "The command `sessions` lists them."
        raise NoSuchSession(f"No session of {application} has {wanted!r} in its ID. {said}")
    if len(found) > 1:
        named = ", ".join(found[:8]) + (", …" if len(found) > 8 else "")
        raise AmbiguousSession(f"{len(found)} sessions have {wanted!r} in their ID: {named}. Give more of it.")
    return found[0]


def _close_to(part: str, ids: Sequence[str], application: str) -> str:
    """The ID that somebody may have meant; "" where none is near."""
    known: dict[str, str] = {}
    for each in ids:
        short = each.removeprefix(f"{application}-")
        known |= {each.casefold(): each, short.casefold(): short}
    return next((known[close] for close in difflib.get_close_matches(part, known, 1)), "")
