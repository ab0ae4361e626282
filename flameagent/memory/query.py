"""A question as the words that a search looks for.

Words that nearly every sentence has are left out. Text of scripts that put no spaces between words is looked for by
the pieces of three letters in it.
"""

from __future__ import annotations

import re

_COMMON_WORDS = """
a about also am an and any are as at be been being but by can could d did do does for from get go going got
had has have he her him his how i in into is it its just like ll m made make many may me might mine much my no
not of on or our re s she should so some such t than that the their them then there these they this those to
us ve was we went were what when where which who whom whose why will with would you your yours
"""
_COMMON = frozenset(_COMMON_WORDS.split())
"""English words that say little about what is meant; in other languages their number in the index does the same."""

_WORD = re.compile(r"[^\W_]+")
# Thai, Lao, Tibetan, Burmese, Khmer; kana, Han, Yi; and the Han of the other planes.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf"
    "\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_PIECE = 3
_LONGEST = 64
"""Words of a question that are looked for; a search takes as much longer as there are more."""


def has_unspaced(text: str) -> bool:
    """True where there is text without spaces between its words."""
    return _UNSPACED.search(text) is not None


def words(question: str) -> list[str]:
    """The words of a question that say what is meant, each once; all of them where none does."""
    found = list(dict.fromkeys(_WORD.findall(_UNSPACED.sub(" ", question).casefold())))
    return ([word for word in found if word not in _COMMON] or found)[:_LONGEST]


def pieces(question: str) -> tuple[list[str], list[str]]:
    """Of text without spaces: the pieces of three letters, and what is shorter than one. Each once."""
    long: dict[str, None] = {}
    short: dict[str, None] = {}
    for run in _UNSPACED.findall(question):
        if len(run) < _PIECE:
            short[run] = None
        for start in range(len(run) - _PIECE + 1):
            long[run[start : start + _PIECE]] = None
    return list(long)[:_LONGEST], list(short)[:_LONGEST]


def any_of(terms: list[str]) -> str:
    """The expression of SQLite's FTS5 for texts that have one of these."""
    return " OR ".join(f'"{term}"' for term in terms)
