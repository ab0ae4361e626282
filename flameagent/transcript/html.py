"""A conversation as a web page of one file, which loads nothing and runs nothing.

Promises that what users, models and tools wrote is shown and never obeyed: the template escapes all of it, of
Markdown only what cannot load or run anything becomes HTML, and the page forbids the browser everything but its own
style.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from html import escape
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from flameagent.client.history import History
from flameagent.conversation import Attached, Block, Conversation, Summarized
from flameagent.conversation.attachments import IMAGES, UNKNOWN
from flameagent.transcript import wording
from flameagent.transcript.sanitize import sanitize
from flameagent.transcript.steps import Step, heading, steps


def reader() -> MarkdownIt:
    """Markdown as HTML of which nothing loads or runs."""
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")


_MARKDOWN = reader()


@dataclass(frozen=True)
class _Shown:
    """An attachment as the template has it; `url` has its data, "" where they are gone."""

    name: str
    line: str
    url: str
    is_image: bool


@dataclass(frozen=True)
class _Section:
    """A turn, items that no turn added, or a summary, as the template has it.

    Of its attachments `asked` came with the question, and `returned` of tools.
    """

    heading: str
    steps: list[Step]
    asked: list[_Shown] = field(default_factory=list)
    returned: list[_Shown] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)


def page(found: History, data: Mapping[str, bytes] = MappingProxyType({})) -> str:
    """The conversation as HTML, with the data of its attachments by their hash."""
    conversation = found.conversation or Conversation()
    about = [found.session_id, wording.turns(conversation.turn_count)]
    if conversation.turns():
        about.append(wording.moment(conversation.turns()[-1][0].at))
    facts = "\n".join(f"{key}: {text}" for key, text in conversation.facts.items())
    page = _template().render(
        title=heading(found),
        about=" · ".join(about),
        panels=[("Prompt", conversation.prompt), ("Facts", facts)],
        sections=[_section(part, data) for part in found.parts],
    )
    return sanitize(page.replace("\r\n", "\n"))  # the page's own text has none of what that changes


def _section(block: Block | Summarized, data: Mapping[str, bytes]) -> _Section:
    if isinstance(block, Summarized):
        return _Section(wording.summarized(block.summary), [Step("summary", block.summary.text)])
    turn = block.turn
    if turn is None:
        return _Section("", list(steps(block.items)))
    return _Section(
        " · ".join(filter(None, (f"Turn {turn.number}", wording.moment(turn.at), turn.model))),
        list(steps(block.items)),
        [_shown(each, data.get(each.sha256)) for each in turn.attachments if not each.call],
        [_shown(each, data.get(each.sha256)) for each in turn.attachments if each.call],
        [
            f"{line} · {wording.moment(decided.at)}"
            for decided in turn.decisions
            for line in wording.decided_lines(decided, block.items)
        ],
        [wording.learned(key, text) for key, text in turn.facts.items()],
    )


def _shown(attached: Attached, data: bytes | None) -> _Shown:
    # The browser is told a type for images alone: what is saved it has nothing to do with.
    is_image = attached.media_type in IMAGES
    kind = attached.media_type if is_image else UNKNOWN
    url = "" if data is None else f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return _Shown(attached.name, wording.attached(attached), url, is_image)


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
