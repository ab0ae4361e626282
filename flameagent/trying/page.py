"""A comparison as a web page of one file, which loads nothing and runs nothing.

Promises what the page of a conversation promises (`transcript.html`): what users, models and tools wrote is shown and
never obeyed.
"""

from __future__ import annotations

from flameagent.transcript.pages import render
from flameagent.trying import words
from flameagent.trying.comparison import Comparison


def page(found: Comparison) -> str:
    """The comparison as HTML."""
    return render(
        "flameagent.trying",
        "replay",
        title=words.title(found),
        about=words.how(found),
        summary=words.summary(found),
        turns=[words.pair(each) for each in found.turns],
    )
