"""A conversation as a file: JSON, which `import` reads on any engine, Markdown, and a web page of one file.

Promises that JSON brings everything back that a conversation consists of: items as they were, turn IDs, facts, usage,
the title and who decided; and that what is no such file is refused in a sentence, before anything is made of it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from flameagent import files
from flameagent.client import items, listing, render
from flameagent.client.errors import UsageError
from flameagent.client.harmless import harmless, harmless_json
from flameagent.client.listing import History
from flameagent.conversation import Block, Conversation, Decided, EditBody, Facts, Item, Kept, Turn, Usage, copied
from flameagent.conversation.records import decode
from flameagent.text import all_well_formed

FORMAT = "flame-agent conversation"
VERSION = 1
FORMS = ("md", "json", "html")

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]  # what every reader of JSON can hold
Moment = Annotated[int, msgspec.Meta(ge=0, le=253_370_764_800_000)]  # to the year 9999


class Counts(msgspec.Struct, frozen=True):
    """Usage in a file."""

    requests: Count = 0
    input_tokens: Count = 0
    cached_tokens: Count = 0
    output_tokens: Count = 0

    def used(self) -> Usage:
        """The same as records have it."""
        return Usage(*msgspec.structs.astuple(self))


class ExportedDecision(Decided, frozen=True):
    """A decision in a file; `at` is epoch milliseconds."""

    at: Moment


class ExportedTurn(msgspec.Struct, frozen=True):
    """A turn in a file; `at` is epoch milliseconds."""

    turn_id: str
    question: str
    answer: str
    items: list[Item]
    turn: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)] = 1
    facts: Facts = {}
    usage: Counts = Counts()
    model: str = ""
    at: Moment = 0
    decisions: list[ExportedDecision] = []
    unseen: Count = 0


class Outside(msgspec.Struct, frozen=True):
    """Items in a file that no turn added: those between the first `after` turns of the file and the others."""

    after: Count
    items: list[Item]


class Exported(msgspec.Struct, frozen=True):
    """A conversation in a file."""

    format: Literal["flame-agent conversation"]
    version: Annotated[int, msgspec.Meta(ge=1)]
    session_id: str
    turns: list[ExportedTurn]
    title: str = ""
    prompt: str = ""
    model: str = ""
    usage: Counts = Counts()
    facts: dict[str, str] = {}
    outside: list[Outside] = []

    def edit(self) -> EditBody:
        """The edit that a conversation with all of it begins with.

        What was approved for good is not in it: a file does not give permissions.
        """
        first = self.turns[0].turn if self.turns else 1
        blocks = []
        for number in range(len(self.turns) + 1):
            blocks += [Block(each.items) for each in self.outside if min(each.after, len(self.turns)) == number]
            if number < len(self.turns):
                blocks.append(_block(self.turns[number], first + number))
        kept = Kept(turns=first - 1 + len(self.turns), model=self.model, usage=self.usage.used(), facts=self.facts)
        return copied(kept, blocks, origin=self.session_id, title=self.title)


def as_json(found: History) -> dict[str, Any]:
    """What `export --format json` prints."""
    conversation = found.conversation or Conversation()
    turns: list[dict[str, Any]] = []
    outside: list[dict[str, Any]] = []
    for block in conversation.blocks:
        if block.turn is not None:
            turns.append(listing.turn_as_json(block.turn, block.items))
        elif block.items:
            outside.append({"after": len(turns), "items": block.items})
    return {
        "format": FORMAT,
        "version": VERSION,
        "session_id": found.session_id,
        "title": conversation.title,
        "prompt": conversation.prompt,
        "model": conversation.model,
        "usage": listing.usage(conversation.usage),
        "facts": conversation.facts,
        "outside": outside,
        "turns": turns,
    }


def form(given: str | None, output: Path | None) -> str:
    """The form that was asked for, or that a file's name ends with; Markdown without any. Raises `UsageError`."""
    if given is None:
        ending = output.suffix.lstrip(".").lower() if output else ""
        form = {"": "md", "markdown": "md", "htm": "html"}.get(ending, ending)
        if form not in FORMS:
            forms = f"{', '.join(FORMS[:-1])} or {FORMS[-1]}"
            raise UsageError(f"{output} ends with .{ending}, which is no form of an export: say --format {forms}.")
        return form
    if given not in FORMS:
        raise UsageError(f"--format is {', '.join(FORMS[:-1])} or {FORMS[-1]}, not {given!r}.")
    return given


def written(found: History, form: str) -> str:
    """The conversation in that form."""
    if form == "json":
        value = as_json(found)
        text = json.dumps(value, ensure_ascii=False, indent=1)
        # JSON may have lone surrogates, which no encoding of a file has.
        return harmless_json(text if _encodable(text) else json.dumps(value, indent=1)) + "\n"
    if form == "html":
        from flameagent.client import page

        return page.page(found)
    return markdown(found)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def save(text: str, output: Path) -> None:
    """Write it to a file, or whatever has that name. Raises `UsageError` where it cannot be written."""
    try:
        files.write(output, text)
    except (OSError, ValueError) as error:
        raise UsageError(f"{output} cannot be written: {files.why(error)}.") from error


def content(file: Path) -> bytes:
    """The bytes of a file; `-` is standard input. Raises `UsageError`."""
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except (OSError, ValueError) as error:
        name = "Standard input" if str(file) == "-" else file
        raise UsageError(f"{name} cannot be read: {files.why(error)}.") from error


def read(data: bytes, name: str) -> Exported:
    """The conversation in a file of that name. Raises `UsageError` for one that is none."""
    name = "Standard input" if name == "-" else name
    try:
        written = files.decoded(data).encode()
        exported: Exported = decode(written, Exported)
        if b"\\ud" in written.lower():  # JSON may have halves of characters
            exported = msgspec.convert(all_well_formed(msgspec.to_builtins(exported)), Exported)
    except ValueError as error:
        raise UsageError(f"{name} is not what `export --format json` writes: {error}.") from error
    if exported.version > VERSION:
        raise UsageError(f"{name} was written by a newer version of this program (version {exported.version}).")
    return exported


def _block(turn: ExportedTurn, number: int) -> Block:
    answer = {"answer": turn.answer, "turn": number, "turn_id": turn.turn_id}
    if turn.model:
        answer["model"] = turn.model
    usage = turn.usage.used()
    if usage != Usage():
        answer["usage"] = listing.usage(usage)
    decisions = [Decided(**{**msgspec.structs.asdict(decided), "always": []}) for decided in turn.decisions]
    said = turn.turn_id, turn.question, answer, usage, turn.model, turn.at, turn.facts, decisions, turn.unseen
    return Block(turn.items, Turn(number, *said))


@dataclass(frozen=True)
class Step:
    """What a reader sees of an item: a message or something else under a `label`, or a call with its `output`."""

    label: str
    text: str
    output: str | None = None
    call_id: str = ""

    @property
    def is_call(self) -> bool:
        """Whether it is a tool call; its label is then the tool, its text the arguments."""
        return bool(self.call_id)


def steps(added: list[Item]) -> Iterator[Step]:
    """Items as a reader sees them, each call together with its output."""
    outputs = {
        item.get("call_id"): items.described(item)[1] for item in added if item.get("type") == "function_call_output"
    }
    called = {item.get("call_id") for item in added if item.get("type") == "function_call"}
    for item in added:
        call_id = item.get("call_id")
        if item.get("type") == "function_call" and isinstance(call_id, str):
            arguments = _indented(str(item.get("arguments") or ""))
            yield Step(str(item.get("name", "?")), arguments, outputs.get(call_id), call_id)
        elif not (item.get("type") == "function_call_output" and call_id in called):
            yield Step(*items.described(item))


def _indented(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return arguments


def heading(found: History) -> str:
    """The title of a conversation: the one it was given, or its first question."""
    conversation = found.conversation or Conversation()
    first = next((turn.question for turn, _ in conversation.turns()), "")
    return conversation.title or render.title(first) or found.session_id


def markdown(found: History) -> str:
    """The conversation as Markdown, of which each turn is a part: what one says changes nothing of another."""
    from flameagent.client.enclosed import code, enclosed, fenced, literal

    conversation = found.conversation or Conversation()
    parts = [
        f"# {literal(heading(found))}",
        f"Session {literal(found.session_id)}, {render.turns(conversation.turn_count)}.",
    ]
    if conversation.prompt:
        parts += ["Prompt:", enclosed(conversation.prompt, quoted=True)]
    for block in conversation.blocks:
        turn = block.turn
        if turn is not None:
            about = filter(None, (f"Turn {turn.number}", render.moment(turn.at), turn.model))
            parts.append(f"## {literal(' · '.join(about))}")
        for step in steps(block.items):
            if step.is_call:
                parts += [f"**call** {code(step.label)}", fenced(step.text, "json")]
                if step.output is not None:
                    parts += ["**result**", fenced(step.output)]
            elif step.label == "user":
                parts += ["**user**", enclosed(step.text, quoted=True)]
            elif step.label in ("assistant", "system", "developer"):
                parts += [f"**{step.label}**", enclosed(step.text)]
            else:
                parts += [f"**{literal(step.label)}**", fenced(step.text)]
        if turn is not None:
            notes = [line for decided in turn.decisions for line in render.decided_lines(decided, block.items)]
            notes += [render.learned(key, text) for key, text in turn.facts.items()]
            parts += ["**notes**", "\n".join(f"- {literal(note)}" for note in notes)] if notes else []
    if conversation.facts:
        facts = [f"- {literal(f'{key}: {text}')}" for key, text in conversation.facts.items()]
        parts += ["## Facts", "\n".join(facts)]
    return harmless("\n\n".join(parts).replace("\r\n", "\n")) + "\n"
