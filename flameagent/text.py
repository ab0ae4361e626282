"""Text that every encoding has, and sentences that can stand before another.

A Python string may hold halves of characters, which UTF-8 and servers refuse. JSON may have such halves ("\\ud83d"),
and so do a terminal's input and file names that are no UTF-8.
"""

from __future__ import annotations

import re
from typing import Any

_ENDED = re.compile(r"""[.!?…。\uff01\uff1f]["'”\u2019»)\]`]*$""")


def closed(sentence: str) -> str:
    """Return what somebody wrote with an end, so that a sentence can stand behind it; "" stays empty."""
    sentence = sentence.rstrip()
    return sentence if not sentence or _ENDED.search(sentence) else f"{sentence.rstrip(',;:')}."


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
