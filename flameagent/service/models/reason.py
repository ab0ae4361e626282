"""The reason that a server gives in the body of an error, whatever the shape of that is.

The shapes that were met, and where: docs/providers.md.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any

from flameagent.redact import one_line, redact, redact_unknown

# Where servers say what went wrong, the general before the particular. docs/providers.md names who.
_SAYS = (
    *("error", "errors", "error_msg", "error_message", "error_description", "fault", "base_resp", "title"),
    *("message", "msg", "status_msg", "detail", "faultstring", "reasons", "metadata", "raw"),
)
NAMES_IT = ("code", "type", "status", "error_code")
_DEPTH = 8


def find_reason(body: Any) -> str:
    """Return what a server says in the body of an error, parsed as far as it is JSON; "" where it says nothing.

    One line of at most 300 characters, in which nothing looks like a key.
    """
    return one_line(redact_unknown(redact(one_line(_said(body, _DEPTH), 5000))), 300)


def find_reason_or_all(body: Any) -> str:
    """Return the same of what is known to be an error; all of it where nobody knows how it says why."""
    has_text = any(value not in (None, "", [], {}) for value in body.values()) if isinstance(body, dict) else body
    return find_reason(body) or (find_reason(json.dumps(body)) if has_text else "")


def _said(body: Any, depth: int) -> str:
    if not depth:
        return ""
    if isinstance(body, str):
        return _text(body, depth)
    if isinstance(body, list):
        return "; ".join(filter(None, (_said(part, depth - 1) for part in body[:3])))
    if not isinstance(body, dict):
        return ""
    fields = {str(name).casefold(): value for name, value in body.items()}
    parts: list[str] = []
    for name in _SAYS:
        said = _said(fields.get(name), depth - 1)
        if said and not any(said in part for part in parts):
            parts = [part for part in parts if part not in said] + [said]
    if not parts:
        parts = [value for name in NAMES_IT if isinstance(value := fields.get(name), str) and value][:1]
    if parts and isinstance(fields.get("loc"), list):  # what pydantic complains about: FastAPI, vLLM
        parts[0] = f"{'.'.join(map(str, fields['loc']))}: {parts[0]}"
    return ": ".join(parts)


_TITLE = re.compile(r"<(title|message|h1)\b[^>]*>(.*?)</\1", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<(style|script)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)


def _text(text: str, depth: int) -> str:
    """Return what a text says: a page its title, JSON in a string what it says itself."""
    text = text.strip()
    if text[:1] == "<":
        title = _TITLE.search(text[:100_000])
        return html.unescape(_TAG.sub(" ", title[2] if title else text[:10_000])).strip()
    if text[:1] in {"{", "["}:
        try:
            return _said(json.loads(text), depth - 1) or text
        except (ValueError, RecursionError):
            return text
    return text


def find_code(body: Any) -> str | None:
    """Return the code of the error, such as `insufficient_quota`; None where there is none."""
    if isinstance(body, list):
        body = body[0] if body else None
    inner = body.get("error", body) if isinstance(body, dict) else None
    code = inner.get("code") if isinstance(inner, dict) else None
    return code if isinstance(code, str) else None
