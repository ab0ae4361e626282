"""Text that every encoding has: a Python string may hold halves of characters, which UTF-8 and servers refuse.

JSON may have such halves ("\\ud83d"), and so do a terminal's input and file names that are no UTF-8.
"""

from __future__ import annotations

from typing import Any


def well_formed(text: str) -> str:
    """Return the text with its halves joined where they are a pair, and each lone one replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def all_well_formed(value: Any) -> Any:
    """Return JSON of Python's own types with its texts, names included, well-formed; other objects as they are."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, dict):
        return {all_well_formed(name): all_well_formed(one) for name, one in value.items()}
    if isinstance(value, list):
        return [all_well_formed(one) for one in value]
    if isinstance(value, tuple):
        return tuple(all_well_formed(one) for one in value)
    return value
