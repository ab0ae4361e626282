"""Web pages of one file, made of templates: each loads nothing and runs nothing.

Promises that what users, models and tools wrote is shown and never obeyed: a template escapes all that it is given,
and of Markdown only what cannot load or run anything becomes HTML.
"""

from __future__ import annotations

from functools import cache
from html import escape
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from flameagent.transcript.sanitize import sanitize


def render(package: str, template: str, *, lstrip_blocks: bool = False, **given: Any) -> str:
    """The page that a template of a package (`templates/TEMPLATE.html.jinja`) makes of what it is given."""
    made = _templates(package, lstrip_blocks).get_template(f"{template}.html.jinja").render(**given)
    return sanitize(made.replace("\r\n", "\n"))  # a page's own text has none of what that changes


def reader() -> MarkdownIt:
    """Markdown as HTML of which nothing loads or runs."""
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")


@cache
def _templates(package: str, lstrip_blocks: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        finalize=_escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=lstrip_blocks,
        keep_trailing_newline=True,
    )
    markdown = reader()
    environment.filters["markdown"] = lambda text: Markup(markdown.render(text))  # noqa: S704 - without HTML of others
    environment.filters["beginning"] = lambda text: " ".join(text.split())[:80]
    return environment


def _escaped(value: Any) -> Any:
    """The value with its quotes escaped by name, as the Markdown beside it has them; autoescape uses numbers."""
    return value if isinstance(value, Markup) else Markup(escape(str(value)))  # noqa: S704 - it is escaped
