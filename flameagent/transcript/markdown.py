"""A conversation as Markdown, of which each turn is a part: what one says changes nothing of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from urllib.parse import quote

from flameagent.client.history import History
from flameagent.conversation import Attached, Conversation, Summarized
from flameagent.conversation.attachments import IMAGES
from flameagent.transcript import wording
from flameagent.transcript.embed import code, embed, fenced, literal
from flameagent.transcript.sanitize import sanitize
from flameagent.transcript.steps import heading, steps


def markdown(found: History, files: Mapping[str, str] = MappingProxyType({})) -> str:
    """The conversation as Markdown; `files` are where attachments are, by the hash of their data."""
    conversation = found.conversation or Conversation()
    parts = [
        f"# {literal(heading(found))}",
        f"Session {literal(found.session_id)}, {wording.turns(conversation.turn_count)}.",
    ]
    if conversation.prompt:
        parts += ["Prompt:", embed(conversation.prompt, quoted=True)]
    for block in found.parts:
        if isinstance(block, Summarized):
            parts += [f"## {literal(wording.summarized(block.summary))}", embed(block.summary.text, quoted=True)]
            continue
        turn = block.turn
        if turn is not None:
            about = filter(None, (f"Turn {turn.number}", wording.moment(turn.at), turn.model))
            parts.append(f"## {literal(' · '.join(about))}")
            if asked := [each for each in turn.attachments if not each.call]:
                parts += ["**attached**", _attached(asked, files)]
        for step in steps(block.items):
            if step.is_call:
                parts += [f"**call** {code(step.label)}", fenced(step.text, "json")]
                if step.output is not None:
                    parts += ["**result**", fenced(step.output)]
            elif step.label == "user":
                parts += ["**user**", embed(step.text, quoted=True)]
            elif step.label in ("assistant", "system", "developer"):
                parts += [f"**{step.label}**", embed(step.text)]
            else:
                parts += [f"**{literal(step.label)}**", fenced(step.text)]
        if turn is not None:
            if returned := [each for each in turn.attachments if each.call]:
                parts += ["**returned**", _attached(returned, files)]
            notes = [line for decided in turn.decisions for line in wording.decided_lines(decided, block.items)]
            notes += [wording.learned(key, text) for key, text in turn.facts.items()]
            parts += ["**notes**", "\n".join(f"- {literal(note)}" for note in notes)] if notes else []
    if conversation.facts:
        facts = [f"- {literal(f'{key}: {text}')}" for key, text in conversation.facts.items()]
        parts += ["## Facts", "\n".join(facts)]
    return sanitize("\n\n".join(parts).replace("\r\n", "\n")) + "\n"


def _attached(found: Sequence[Attached], files: Mapping[str, str]) -> str:
    lines = []
    for each in found:
        line = literal(wording.attached(each))
        if file := files.get(each.sha256):
            shows = "!" if each.media_type in IMAGES else ""
            line = f"{shows}[{line}]({quote(file)})"
        lines.append(f"- {line}")
    return "\n".join(lines)
