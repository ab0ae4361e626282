"""Tool calls in the form that servers take: which kinds there are, where their outputs are, and their fields."""

from __future__ import annotations

import json
import re
import string
from functools import lru_cache
from hashlib import sha256
from typing import Any

import msgspec

from flameagent.text import all_well_formed

Item = dict[str, Any]

CALLS = {  # each with the kind of its output
    "function_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
    "computer_call": "computer_call_output",
    "local_shell_call": "local_shell_call_output",
    "shell_call": "shell_call_output",
    "apply_patch_call": "apply_patch_call_output",
}
OUTPUTS = {output: call for call, output in CALLS.items()}

_PORTABLE = re.compile(r"[A-Za-z0-9]{9}")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_ALPHABET = string.ascii_letters + string.digits


def call_key(item: Item) -> str:
    """Return by what a call and its output find each other."""
    call_id = item.get("call_id")
    if isinstance(call_id, str):
        return call_id
    return str(item.get("id")) if item.get("type") == "local_shell_call_output" else f"{call_id!r}, which is no text"


def places_of_outputs(items: list[Item]) -> dict[tuple[str, str], list[int]]:
    """Return where the outputs are, by the kind and the key of their calls."""
    places: dict[tuple[str, str], list[int]] = {}
    for place, item in enumerate(items):
        kind = item.get("type")
        if isinstance(kind, str) and kind in OUTPUTS:
            places.setdefault((OUTPUTS[kind], call_key(item)), []).append(place)
    return places


def is_portable(call_id: str) -> bool:
    """Return whether every server takes this ID."""
    return bool(_PORTABLE.fullmatch(call_id))


@lru_cache(maxsize=4096)
def portable_id(call_id: str) -> str:
    """Return nine letters and digits made of an ID: the one form that Mistral takes, and all others too."""
    number = int.from_bytes(sha256(call_id.encode(errors="surrogatepass")).digest()[:8], "big")
    return "".join(_ALPHABET[number // len(_ALPHABET) ** place % len(_ALPHABET)] for place in range(9))


def tool_name(name: Any, made_here: bool | None) -> str:
    """Return the name of a call's tool; where its server did not give it, one that every server takes."""
    name = name if isinstance(name, str) and name else "unknown"
    return name if made_here else _NOT_IN_NAMES.sub("_", name)[:64]


def arguments_object(arguments: Any) -> str:
    """Return the arguments of a call as the JSON object that servers take, whatever they are."""
    return _as_object(arguments if isinstance(arguments, str) else "" if arguments is None else json.dumps(arguments))


@lru_cache(maxsize=4096)
def _as_object(text: str) -> str:
    """Return the text if the strictest readers (llama.cpp's) take it for an object; otherwise an object with it."""
    if not text.strip():
        return "{}"
    try:
        if isinstance(msgspec.json.decode(text), dict):  # noqa: TID251 - no type is looked at
            return text
    except (ValueError, RecursionError):
        pass
    try:
        value = json.loads(text)
        if isinstance(value, dict):  # halves of characters in its escapes
            return json.dumps(all_well_formed(value), ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        pass
    return json.dumps({"raw_arguments": all_well_formed(text)}, ensure_ascii=False)


def json_text(value: Any) -> str:
    """Return anything as JSON, as far as it can be said in it."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        return str(type(value).__name__)
