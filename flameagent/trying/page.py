"""A comparison as a web page of one file, which loads nothing and runs nothing.

Promises what the page of a conversation promises (`transcript.html`): what users, models and tools wrote is shown and
never obeyed.
"""

from __future__ import annotations

from functools import cache
from html import escape
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flameagent.transcript.html import reader
from flameagent.transcript.sanitize import sanitize
from flameagent.trying import words
from flameagent.trying.comparison import Comparison

_MARKDOWN = reader()


def page(found: Comparison) -> str:
    """The comparison as HTML."""
    made = _template().render(
        title=words.title(found),
        about=words.how(found),
        summary=words.summary(found),
        turns=[words.pair(each) for each in found.turns],
    )
    return sanitize(made.replace("\r\n", "\n"))


@cache
def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("flameagent.trying"),
        autoescape=True,
        finalize=_escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["markdown"] = lambda text: Markup(_MARKDOWN.render(text))  # noqa: S704 - without HTML of others
    return environment.get_template("replay.html.jinja")


def _escaped(value: Any) -> Any:
    return value if isinstance(value, Markup) else Markup(escape(str(value)))  # noqa: S704 - it is escaped
