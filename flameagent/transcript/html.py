"""A conversation as a web page of one file, which loads nothing and runs nothing.

Promises that what users, models and tools wrote is shown and never obeyed: all of it is escaped, of Markdown only
what cannot load or run anything becomes HTML, and the page forbids the browser everything but its own style.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from markdown_it import MarkdownIt

from flameagent.client.history import History
from flameagent.conversation import Block, Conversation, Turn
from flameagent.transcript import wording
from flameagent.transcript.harmless import harmless
from flameagent.transcript.steps import Step, heading, steps

_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")

_STYLE = """
:root { color-scheme: light dark; --text: #1d2129; --soft: #646d7a; --line: #e2e5ea; --paper: #ffffff;
  --ground: #f5f6f8; --user: #e7f0ff; --code: #f0f2f5; --mark: #2563c9; --note: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e7ec; --soft: #98a2b0; --line: #333a45; --paper: #1b1f26;
  --ground: #14171c; --user: #1f3350; --code: #262b34; --mark: #7fb0ff; --note: #e0b050; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text); line-height: 1.55;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; font-size: 16px; }
main { max-width: 46rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .4rem; overflow-wrap: anywhere; }
.about { color: var(--soft); font-size: .875rem; margin: 0; overflow-wrap: anywhere; }
.panel { background: var(--paper); border: 1px solid var(--line); border-radius: .75rem; padding: .75rem 1rem;
  margin-top: 1rem; overflow-wrap: anywhere; white-space: pre-wrap; }
.panel > h2 { font-size: .75rem; letter-spacing: .06em; text-transform: uppercase; color: var(--soft);
  margin: 0 0 .3rem; }
.turn { margin-top: 2.25rem; }
.turn > h2 { font-size: .8125rem; font-weight: 500; color: var(--soft); margin: 0 0 .75rem; display: flex;
  gap: .75rem; align-items: center; }
.turn > h2::after { content: ""; flex: 1; border-top: 1px solid var(--line); }
.said { margin: .75rem 0; overflow-wrap: anywhere; }
.user { background: var(--user); border-radius: 1rem 1rem .25rem 1rem; padding: .6rem 1rem; white-space: pre-wrap;
  width: fit-content; max-width: 85%; margin-left: auto; }
.assistant { background: var(--paper); border: 1px solid var(--line); border-radius: 1rem 1rem 1rem .25rem;
  padding: .2rem 1.1rem; max-width: 95%; width: fit-content; }
.other { color: var(--soft); font-size: .9rem; white-space: pre-wrap; padding-left: .9rem;
  border-left: 3px solid var(--line); }
.assistant > :first-child { margin-top: .5rem; } .assistant > :last-child { margin-bottom: .5rem; }
details { margin: .6rem 0; border: 1px solid var(--line); border-radius: .6rem; background: var(--paper);
  font-size: .9rem; }
summary { cursor: pointer; padding: .45rem .9rem; color: var(--soft); overflow-wrap: anywhere; }
summary b { color: var(--text); font-family: ui-monospace, monospace; font-weight: 600; }
details > div { padding: 0 .9rem .6rem; } details h3 { font-size: .75rem; color: var(--soft); margin: .4rem 0 .2rem;
  font-weight: 500; }
pre, code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: .875em; }
pre { background: var(--code); padding: .6rem .8rem; border-radius: .5rem; overflow-x: auto; margin: .4rem 0; }
code { background: var(--code); padding: .1em .3em; border-radius: .25rem; }
pre code { padding: 0; background: none; }
details pre { white-space: pre-wrap; }
table { border-collapse: collapse; display: block; overflow-x: auto; overflow-wrap: normal; }
th, td { border: 1px solid var(--line); padding: .3rem .6rem; }
blockquote { margin: .5rem 0; padding-left: .9rem; border-left: 3px solid var(--line); color: var(--soft); }
a { color: var(--mark); }
.note { font-size: .875rem; color: var(--soft); margin: .35rem 0; overflow-wrap: anywhere; }
.decision { color: var(--note); }
@media print { body { background: none; } details > div { display: block; } .turn { break-inside: avoid-page; } }
"""


def page(found: History) -> str:
    """The conversation as HTML."""
    conversation = found.conversation or Conversation()
    title = escape(heading(found))
    about = [found.session_id, wording.turns(conversation.turn_count)]
    if conversation.turns():
        about.append(wording.moment(conversation.turns()[-1][0].at))
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="referrer" content="no-referrer">',
        f"<title>{title}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
        "<main>",
        f"<h1>{title}</h1>",
        f'<p class="about">{escape(" · ".join(about))}</p>',
        *_panel("Prompt", [conversation.prompt] if conversation.prompt else []),
        *_panel("Facts", [f"{key}: {text}" for key, text in conversation.facts.items()]),
    ]
    for block in conversation.blocks:
        parts += _block(block)
    page = "\n".join([*parts, "</main>", "</body>", "</html>", ""])
    return harmless(page.replace("\r\n", "\n"))  # the page's own text has none of what that changes


def _panel(name: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield f'<section class="panel"><h2>{name}</h2>{escape(chr(10).join(lines))}</section>'


def _block(block: Block) -> Iterator[str]:
    yield '<section class="turn">'
    if block.turn is not None:
        parts = filter(None, (f"Turn {block.turn.number}", wording.moment(block.turn.at), block.turn.model))
        yield f"<h2>{escape(' · '.join(parts))}</h2>"
    for step in steps(block.items):
        yield _step(step)
    if block.turn is not None:
        yield from _notes(block, block.turn)
    yield "</section>"


def _step(step: Step) -> str:
    if step.is_call:
        output = "" if step.output is None else f"<h3>result</h3><pre>{escape(step.output)}</pre>"
        first = escape(" ".join(step.text.split())[:80])
        return (
            f"<details><summary>called <b>{escape(step.label)}</b> {first}</summary>"
            f"<div><h3>arguments</h3><pre>{escape(step.text)}</pre>{output}</div></details>"
        )
    if step.label == "assistant":
        return f'<div class="said assistant">{_MARKDOWN.render(step.text)}</div>'
    if step.label == "user":
        return f'<div class="said user">{escape(step.text)}</div>'
    return f'<div class="said other"><b>{escape(step.label)}</b> {escape(step.text)}</div>'


def _notes(block: Block, turn: Turn) -> Iterator[str]:
    for decided in turn.decisions:
        for line in wording.decided_lines(decided, block.items):
            yield f'<p class="note decision">{escape(f"{line} · {wording.moment(decided.at)}")}</p>'
    for key, text in turn.facts.items():
        yield f'<p class="note">{escape(wording.learned(key, text))}</p>'
