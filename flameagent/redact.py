"""Errors of servers, made safe to say: without API keys, in one line, without controls.

Keys are those of this process's environment, parts of them too, and what looks like anybody's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from flameagent.model_choice import Choice


def one_line(text: str, longest: int) -> str:
    """Return one line of at most so many characters, without controls, bidirectional overrides, lone surrogates."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 20 * longest]).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def first_line(text: str) -> str:
    """Return the first line of a text, which may be a page long."""
    return next(iter(text.strip().splitlines()), "")[:500]


# Keys of the usual shapes, what follows the word, and what a server shows of a key ("sk-ab****yz").
_KEY = re.compile(
    r"""(?ix)
      \bsk-[\w-]{6,}
    | \bbearer\s+[\w.~+/=-]+ | \bbasic\s+(?=\S*\d)[\w+/=]{12,}
    | \b(?:AIza|AKIA|eyJ)[\w.-]{12,}
    | \b(?:sk|pk|rk|gsk|hf|xai|pplx|nvapi|r8|csk|fw|tgp|gh[opsu]|github_pat|glpat|key)[-_](?=[\w-]*\d)[\w-]{12,}
    | (?<=[?&]key=)[^\s&"']+
    | [\w-]*\*{3,}[\w-]*
    """
)
_LABELLED = re.compile(
    r"""(?ix)
    (\b(?:api[ _-]?key|token|secret|password|authorization)\b (?:\s\w+){0,2} ["']? \s*[:=]\s* ["']?)
    (?=[^\s"',;]*\d) (?=[^\s"',;]*[a-z]) [^\s"',;]{8,}
    """
)
_ELIDED = r"(?:\.{2,}|…|\*+|•+)"


def redact(text: str, choice: Choice | None = None) -> str:
    """Return the text without this process's API keys or parts of them, and without what looks like a key."""
    return without_keys(text, keys_here(choice))


def keys_here(choice: Choice | None = None) -> list[str]:
    """Return this process's API keys, those that are shown to a collector of traces among them, and the choice's."""
    keys = set()
    for name, value in os.environ.items():
        if name.endswith("_API_KEY"):
            keys.add(value.strip())
        elif name.startswith("OTEL_EXPORTER_OTLP") and name.endswith("HEADERS"):
            keys |= {each.partition("=")[2].strip() for each in value.split(",")}
    if choice:
        keys |= {choice.api_key, urlsplit(choice.base_url or "").password or ""}
    # Longest first: a key may begin with another. Short ones are dummies such as "none" or "x".
    return sorted((key for key in keys if len(key) >= 6), key=len, reverse=True)


def without_keys(text: str, keys: Sequence[str]) -> str:
    """Return the text without these keys or parts of them, and without what looks like a key."""
    for key in keys:
        text = text.replace(key, "[key]")
    for key in keys:
        text = _without_parts(text, key)
    return _LABELLED.sub(r"\1[key]", _KEY.sub("[key]", text))


def _without_parts(text: str, key: str) -> str:
    """Return the text without eight characters or more of a key, and without the ends of it that servers show."""
    if len(key) < 12:
        return text
    begin, end = re.escape(key[:3]), re.escape(key[-3:])
    text = re.sub(rf"{begin}[\w-]*{_ELIDED}[\w-]*|[\w-]*{_ELIDED}[\w-]*{end}(?!\w)", "[key]", text)
    text = re.sub(rf"(?<![\w-]){re.escape(key[-4:])}(?!\w)", "[key]", text)
    pieces = {key[at : at + 8] for at in range(len(key) - 7)}
    shown, kept, at = [], 0, 0
    while at <= len(text) - 8:
        if text[at : at + 8] not in pieces:
            at += 1
            continue
        shown.append(text[kept:at])
        while text[at : at + 8] in pieces:
            at += 1
        kept = at = at + 7
    return "[key]".join([*shown, text[kept:]])


# In what a server says, a long word of letters and digits may be anybody's key.
_UNKNOWN_KEY = re.compile(r"\b(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{32,}\b")


def redact_unknown(text: str) -> str:
    """Return the text without what looks like a key of a shape that nobody knows, for what a server says."""
    return _UNKNOWN_KEY.sub("[key]", text)
