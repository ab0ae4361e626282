"""A conversation as Markdown, of which each turn is a part: what one says changes nothing of another."""

from __future__ import annotations

from flameagent.client.history import History
from flameagent.conversation import Conversation
from flameagent.transcript import wording
from flameagent.transcript.embed import code, embed, fenced, literal
from flameagent.transcript.sanitize import sanitize
from flameagent.transcript.steps import heading, steps


def markdown(found: History) -> str:
    """The conversation as Markdown."""
    conversation = found.conversation or Conversation()
    parts = [
        f"# {literal(heading(found))}",
        f"Session {literal(found.session_id)}, {wording.turns(conversation.turn_count)}.",
    ]
    if conversation.prompt:
        parts += ["Prompt:", embed(conversation.prompt, quoted=True)]
    for block in conversation.blocks:
        turn = block.turn
        if turn is not None:
            about = filter(None, (f"Turn {turn.number}", wording.moment(turn.at), turn.model))
            parts.append(f"## {literal(' · '.join(about))}")
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
            notes = [line for decided in turn.decisions for line in wording.decided_lines(decided, block.items)]
            notes += [wording.learned(key, text) for key, text in turn.facts.items()]
            parts += ["**notes**", "\n".join(f"- {literal(note)}" for note in notes)] if notes else []
    if conversation.facts:
        facts = [f"- {literal(f'{key}: {text}')}" for key, text in conversation.facts.items()]
        parts += ["## Facts", "\n".join(facts)]
    return sanitize("\n\n".join(parts).replace("\r\n", "\n")) + "\n"
