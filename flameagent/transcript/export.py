"""A conversation as a file: JSON, which `import` reads on any engine, Markdown, and a web page of one file."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from flameagent import files
from flameagent.client.errors import UsageError
from flameagent.client.history import History
from flameagent.conversation import attachments
from flameagent.transcript import document
from flameagent.transcript.sanitize import sanitize_json

_UNSAFE = re.compile(r"[^\w.-]")

FORMS = ("md", "json", "html")


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


def written(
    found: History, form: str, data: Mapping[str, bytes] = MappingProxyType({}), beside: Path | None = None
) -> str:
    """The conversation in that form, with the data of its attachments by their hash.

    Markdown cannot have them in it: they are files in a folder, to be named from `beside`, a file beside that folder.
    """
    if form == "json":
        value = document.as_json(found, data)
        text = json.dumps(value, ensure_ascii=False, indent=1)
        # JSON may have lone surrogates, which no encoding of a file has.
        return sanitize_json(text if _encodable(text) else json.dumps(value, indent=1)) + "\n"
    if form == "html":
        from flameagent.transcript.html import page

        return page(found, data)
    from flameagent.transcript.markdown import markdown

    return markdown(found, {} if beside is None else _files(found, data, beside))


def folder(output: Path) -> Path:
    """The folder of the attachments of a conversation in a Markdown file."""
    return output.with_name(f"{output.stem}_files")


def save_attachments(found: History, data: Mapping[str, bytes], output: Path) -> None:
    """Write them to files in the folder beside the output. Raises `UsageError` where that cannot be done."""
    for name, path in _files(found, data, output).items():
        file = output.parent / path
        try:
            file.parent.mkdir(exist_ok=True)
            if not (file.is_file() and file.read_bytes() == data[name]):
                file.write_bytes(data[name])
        except (OSError, ValueError) as error:
            raise UsageError(f"{file} cannot be written: {files.why(error)}.") from error


def _files(found: History, data: Mapping[str, bytes], output: Path) -> dict[str, str]:
    """The path of each attachment from beside the output, by its hash: others have chosen the names."""
    named = attachments.named(found.blocks)
    return {
        each.sha256: f"{folder(output).name}/{each.sha256[:8]}-{_UNSAFE.sub('_', each.name)[-80:]}"
        for each in named.values()
        if each.sha256 in data
    }


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


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
