"""A conversation as a web page of one file, which loads nothing and runs nothing.

Promises that what users, models and tools wrote is shown and never obeyed: the template escapes all of it, of
Markdown only what cannot load or run anything becomes HTML, and the page forbids the browser everything but its own
style.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from flameagent.client.history import History
from flameagent.conversation import Attached, Block, Conversation, Summarized
from flameagent.conversation.attachments import IMAGES, UNKNOWN
from flameagent.transcript import wording
from flameagent.transcript.pages import render
from flameagent.transcript.steps import Step, heading, steps


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
    return render(
        "flameagent.transcript",
        "page",
        title=heading(found),
        about=" · ".join(about),
        panels=[("Prompt", conversation.prompt), ("Facts", facts)],
        sections=[_section(part, data) for part in found.parts],
    )


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
