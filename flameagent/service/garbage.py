"""When a worker looks for garbage that refers to itself: seldom.

A conversation is copied several times a turn (the SDK's doing). A collection that begins every few hundred objects,
and walks all that was imported, took a third of a turn with 4000 items; one in the middle of such a turn, which walks
all copies and finds nothing, a tenth.
"""

from __future__ import annotations

import gc

_OBJECTS = 50_000  # new ones between two collections
_OF_AN_ITEM = 15  # more of them for each item that a turn shows: so many has it at once in all its copies

_seldom = False


def collect_seldom() -> None:
    """Leave what there is now out of all collections, and begin those of the rest seldom: in a process of ours."""
    global _seldom
    _seldom = True
    gc.collect()
    gc.freeze()
    expect(0)


def expect(items: int) -> None:
    """A turn begins that shows so many items."""
    if _seldom:
        gc.set_threshold(_OBJECTS + _OF_AN_ITEM * items, 20, 100)
