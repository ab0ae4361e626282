"""A conversation as the page shows it: its turns, and the parts of each, which are the same live and from the record.

Promises that text of others is shown as text, or as Markdown that nothing can be done with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from flameagent.client.approvals import Pending
from flameagent.client.errors import ClientError
from flameagent.client.history import History
from flameagent.conversation import Attached, Block, Item, Summarized
from flameagent.conversation.attachments import IMAGES
from flameagent.conversation.records import CLIENT
from flameagent.server.errors import sentence
from flameagent.server.page import markdown
from flameagent.server.page.rendering import render
from flameagent.transcript import wording
from flameagent.transcript.steps import Step, steps

_NOTHING = Markup("")


@dataclass(frozen=True)
class Shown:
    """A turn, or items that no turn added, as the template has it; all of its HTML is made already."""

    turn_id: str = ""
    number: int = 0
    question: str = ""
    state: str = "answered"
    attached: Markup = _NOTHING
    parts: list[Markup] = field(default_factory=list)
    foot: Markup = _NOTHING
    summary: str = ""


@dataclass(frozen=True)
class Running:
    """A turn that runs; without an ID none does."""

    turn_id: str = ""
    question: str = ""
    attachments: Sequence[Attached] = ()


def shown(found: History, running: Running, last: int) -> list[Shown]:
    """The `last` parts of a conversation, and what waits or runs behind them."""
    made = [_shown(part, found.session_id) for part in found.parts[-last:]]
    number = found.conversation.turn_count if found.conversation else 0
    waiting = found.waiting
    if waiting is not None:
        of_this = running.turn_id == waiting.turn_id
        foot = _NOTHING if of_this else _html(approval(waiting))
        state = "running" if of_this else "waiting"
        files = _html(attached(waiting.attachments, found.session_id))
        made.append(Shown(waiting.turn_id, number + 1, waiting.question, state, files, foot=foot))
    if running.turn_id and running.turn_id not in {each.turn_id for each in made}:
        made.append(_begun(running, found.session_id))
    return made


def begun(running: Running, session_id: str, agent: str) -> str:
    """The frame of a turn that runs."""
    return render("turn", turn=_begun(running, session_id), agent=agent)


def _begun(running: Running, session_id: str) -> Shown:
    files = _html(attached(running.attachments, session_id))
    return Shown(running.turn_id, 0, running.question, "running", files)


def parts(items: Sequence[Item]) -> list[str]:
    """The HTML of what a turn has added: calls, and of messages each paragraph, list and so on."""
    found: list[str] = []
    # What a model has thought and its server does not tell is nothing to show.
    told = [item for item in items if item.get("type") != "reasoning" or item.get("summary") or item.get("content")]
    for step in steps(told):
        found += markdown.blocks(step.text) if step.label == "assistant" and not step.is_call else [_part(step)]
    return found


def parts_of(block: Block) -> list[str]:
    """The parts of a turn of the record, but for its question, which its frame has."""
    asked = block.turn is not None and block.items and block.items[0].get("role") == "user"
    return parts(block.items[1:] if asked else block.items)


def approval(pending: Pending) -> str:
    """The calls that wait, to be decided on."""
    calls = [(call, next(steps([_as_item(call.id, call.tool, call.arguments)])).text) for call in pending.calls]
    return render("approval", calls=calls, decided=pending.decision, client=CLIENT)


def failed(error: ClientError) -> str:
    """What went wrong with a turn."""
    return render("failed", message=sentence(error), stopped=error.code == "cancelled")


def foot(block: Block, note: str = "") -> str:
    """What is told below a turn: decisions, what was remembered, when and by which model."""
    turn = block.turn
    assert turn is not None
    notes = [line for decided in turn.decisions for line in wording.decided_lines(decided, block.items)]
    notes += [wording.learned(key, text) for key, text in turn.facts.items()]
    return render("foot", notes=[*notes, note] if note else notes, at=turn.at, model=turn.model)


def attached(named: Sequence[Attached], session_id: str) -> str:
    """The attachments of a turn."""
    files = [(each, each.media_type in IMAGES, wording.size(each.size)) for each in named]
    return render("attached", files=files, session=session_id)


def _shown(part: Block | Summarized, session_id: str) -> Shown:
    if isinstance(part, Summarized):
        text = list(map(_html, markdown.blocks(part.summary.text)))
        return Shown(parts=text, summary=wording.summarized(part.summary))
    if part.turn is None:
        return Shown(parts=list(map(_html, parts_of(part))))
    turn = part.turn
    return Shown(
        turn.id,
        turn.number,
        turn.question,
        "answered",
        _html(attached(turn.attachments, session_id)),
        list(map(_html, parts_of(part))),
        _html(foot(part)),
    )


def _part(step: Step) -> str:
    return render("part", step=step, beginning=" ".join(step.text.split())[:80])


def _as_item(call: str, tool: str, arguments: str) -> Item:
    return {"type": "function_call", "call_id": call, "name": tool, "arguments": arguments}


def _html(made: str) -> Markup:
    return Markup(made)  # noqa: S704 - a template or the Markdown has escaped it
