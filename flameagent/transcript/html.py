"""A conversation as a web page of one file, which loads nothing and runs nothing.

Promises that what users, models and tools wrote is shown and never obeyed: the template escapes all of it, of
Markdown only what cannot load or run anything becomes HTML, and the page forbids the browser everything but its own
style.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from html import escape
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from flameagent.client.history import History
from flameagent.conversation import Block, Conversation
from flameagent.transcript import wording
from flameagent.transcript.sanitize import sanitize
from flameagent.transcript.steps import Step, heading, steps

_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")


@dataclass(frozen=True)
class _Section:
    """A turn, or items that no turn added, as the template has it."""

    heading: str
    steps: list[Step]
    decisions: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)


def page(found: History) -> str:
    """The conversation as HTML."""
    conversation = found.conversation or Conversation()
    about = [found.session_id, wording.turns(conversation.turn_count)]
    if conversation.turns():
        about.append(wording.moment(conversation.turns()[-1][0].at))
    facts = "\n".join(f"{key}: {text}" for key, text in conversation.facts.items())
    page = _template().render(
        title=heading(found),
        about=" · ".join(about),
        panels=[("Prompt", conversation.prompt), ("Facts", facts)],
        sections=[_section(block) for block in conversation.blocks],
    )
    return sanitize(page.replace("\r\n", "\n"))  # the page's own text has none of what that changes


def _section(block: Block) -> _Section:
    turn = block.turn
    if turn is None:
        return _Section("", list(steps(block.items)))
    return _Section(
        " · ".join(filter(None, (f"Turn {turn.number}", wording.moment(turn.at), turn.model))),
        list(steps(block.items)),
        [
            f"{line} · {wording.moment(decided.at)}"
            for decided in turn.decisions
            for line in wording.decided_lines(decided, block.items)
        ],
        [wording.learned(key, text) for key, text in turn.facts.items()],
    )


@cache
def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("flameagent.transcript"),
        autoescape=True,
        finalize=_escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["markdown"] = lambda text: Markup(_MARKDOWN.render(text))  # noqa: S704 - without HTML of others
    environment.filters["beginning"] = lambda text: " ".join(text.split())[:80]
    return environment.get_template("page.html.jinja")


def _escaped(value: Any) -> Any:
    """The value with its quotes escaped by name, as the Markdown beside it has them; autoescape uses numbers."""
    return value if isinstance(value, Markup) else Markup(escape(str(value)))  # noqa: S704 - it is escaped
