"""Texts and tool calls, put together of the pieces in which a stream brings them.

A piece says by its index, its ID or its name to which call it belongs, and servers leave out any of these, or give
all calls the same. A new ID or a new name begins a new call, and so does what cannot go on the one before.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flameagent.text import all_well_formed, well_formed

Json = dict[str, Any]


class NoCall(Exception):
    """A tool call cannot be read; the message says what came."""


class Growing:
    """A text that comes in pieces. What is passed on is well-formed: a surrogate waits for its other half."""

    def __init__(self) -> None:
        self.text = ""
        self._half = ""

    def add(self, piece: str) -> str:
        """Return what can be passed on now."""
        piece = self._half + piece
        self._half = piece[-1:] if "\ud800" <= piece[-1:] <= "\udbff" else ""
        return self._grow(piece[:-1] if self._half else piece)

    def end(self) -> str:
        """Return what waited for a piece that does not come."""
        half, self._half = self._half, ""
        return self._grow(half)

    def _grow(self, piece: str) -> str:
        piece = well_formed(piece)
        self.text += piece
        return piece


@dataclass(eq=False)
class _Call:
    """A tool call that is being put together.

    `index` and `id` are the server's, `call_id` is what we gave it; what is `waiting` is not passed on yet;
    `is_named_again`: its name came again without arguments; `equals`: how often without an ID; `is_empty`: its
    arguments came as `{}`, and may still follow (gateways in front of Anthropic).
    """

    index: int | None
    id: str
    name: str = ""
    arguments: Growing = field(default_factory=Growing)
    waiting: str = ""
    call_id: str = ""
    extra: Json = field(default_factory=dict)
    waiting_extra: Json = field(default_factory=dict)
    is_named_again: bool = False
    equals: int = 0
    is_empty: bool = False

    def is_complete(self) -> bool:
        return isinstance(_parsed(self.arguments.text), dict) or (self.is_empty and not self.arguments.text)

    def news(self, piece: str) -> str:
        """Return what a piece adds to the arguments; some servers say all that they have said again."""
        known = self.arguments.text
        if known.lstrip()[:1] != "{" or piece.lstrip()[:1] != "{":
            return piece
        if piece.startswith(known):
            return piece[len(known) :]
        whole = _parsed(known)
        return "" if whole is not None and _parsed(piece) == whole else piece


@dataclass(frozen=True)
class _Piece:
    index: int | None
    id: str
    name: str
    arguments: str
    extra: Json


class Calls:
    """The tool calls of a chat completion; `name_call` gives them their IDs."""

    def __init__(self, name_call: Callable[[str | None], str]) -> None:
        self._name_call = name_call
        self._all: list[_Call] = []

    def __bool__(self) -> bool:
        return bool(self._all)

    def add(self, deltas: list[Any]) -> list[Json]:
        """Take the pieces of one chunk, and return what they add as the SDK expects it. Raises `NoCall`."""
        touched: list[_Call] = []
        for piece in map(_piece, deltas):
            touched.append(self._call_of(piece, touched))
            self._put(touched[-1], piece)
        return self._added(touched)

    def add_whole(self, calls: list[Any]) -> list[Json]:
        """Take the calls of a whole message: each is one, and one that came in pieces is what those came to."""
        known, touched = [*self._all], []
        for at, piece in enumerate(map(_piece, calls)):
            came = known[at] if at < len(known) and known[at].name == piece.name else None
            touched.append(came or self._begin(piece))
            self._put(touched[-1], piece)
        return self._added(touched)

    def are_complete(self) -> bool:
        """Return whether the arguments of all of them are JSON, or none."""
        return all(call.is_complete() or not call.arguments.text.strip() for call in self._all)

    def end(self) -> list[Json]:
        """Return what is left to pass on. Raises `NoCall` for a call without a name."""
        for call in self._all:  # which may become more
            if not call.name:
                raise NoCall("a tool call without a name")
            call.waiting += call.arguments.end()
            if not call.arguments.text.strip():
                call.waiting += call.arguments.add("{}")
                self._all += [_Call(None, "", call.name) for _ in range(call.equals)]
        return self._added(self._all)

    def given(self) -> dict[str, str]:
        """The server's own IDs of the calls, by ours."""
        return {call.call_id: call.id for call in self._all}

    def extras(self) -> dict[str, Json]:
        """Return what else the server gave with each call, by our ID."""
        return {call.call_id: call.extra for call in self._all if call.extra}

    def whole(self) -> list[Json]:
        """All calls, as a whole message has them."""
        return [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments.text},
                **call.extra,
            }
            for call in self._all
        ]

    def _call_of(self, piece: _Piece, touched: list[_Call]) -> _Call:
        """The call that a piece belongs to."""
        here = [call for call in self._all if piece.index is None or call.index in {piece.index, None}]
        same = [call for call in (here if piece.name else self._all) if piece.id and call.id == piece.id]
        if not (same or here):
            return self._begin(piece)
        current = (same or here)[-1]
        another_id = bool(piece.id and current.id and not same)
        if piece.name and current.name:
            if piece.name != current.name or another_id or current in touched:
                return self._begin(piece)
            if not piece.arguments.strip():  # its own name again, or the beginning of the next: what follows tells
                current.is_named_again = True
                current.equals += not same
                return current
            is_new = current.is_complete() and bool(current.news(piece.arguments) or not same)
            return self._begin(piece) if is_new else current
        if another_id and piece.name:
            return self._begin(piece)
        # Arguments do not go on behind their end. An ID alone begins nothing: some servers give each piece another.
        begins = piece.arguments.lstrip()[:1] == "{" or (another_id and piece.arguments.strip())
        if current.is_empty and not (current.is_named_again or another_id):
            return current
        if begins and current.is_complete() and (current.equals or current.news(piece.arguments)):
            call = self._begin(piece)
            if current.is_named_again:
                call.name, call.id = current.name, piece.id or current.id
            return call
        return current

    def _begin(self, piece: _Piece) -> _Call:
        self._all.append(_Call(piece.index, piece.id))
        return self._all[-1]

    def _put(self, call: _Call, piece: _Piece) -> None:
        call.id = call.id or piece.id
        call.name = call.name or piece.name
        call.extra |= piece.extra
        call.waiting_extra |= piece.extra
        if not call.arguments.text and piece.arguments.strip() == "{}":
            call.is_empty = True  # `end` says so
        else:
            call.waiting += call.arguments.add(call.news(piece.arguments))

    def _added(self, touched: list[_Call]) -> list[Json]:
        added = []
        for call in dict.fromkeys(touched):
            if not call.name or (call.call_id and not call.waiting and not call.waiting_extra):
                continue
            function: Json = {"arguments": call.waiting}
            delta: Json = {"index": self._all.index(call), "type": "function", "function": function}
            delta |= call.waiting_extra
            call.waiting, call.waiting_extra = "", {}
            if not call.call_id:
                call.call_id = delta["id"] = self._name_call(call.id or None)
                function["name"] = call.name
            added.append(delta)
        return added


def _piece(delta: Any) -> _Piece:
    function = delta.get("function") or delta if isinstance(delta, dict) else None
    name = function.get("name") or "" if isinstance(function, dict) else None
    if not isinstance(name, str) or not isinstance(function, dict):
        raise NoCall("a tool call of another shape")
    given = delta.get("id")
    return _Piece(
        index=index_of(delta),
        id=well_formed(str(given)) if isinstance(given, str | int) else "",
        name=well_formed(name),
        arguments=arguments_of(function.get("arguments") or function.get("parameters")),
        extra=_extra(delta),
    )


def index_of(delta: Json) -> int | None:
    """Return the index that a piece or a choice has, some servers' as a text; None where it has none."""
    index = delta.get("index")
    if isinstance(index, str) and len(index) < 10 and index.strip().isdecimal():
        return int(index)
    return index if isinstance(index, int) and not isinstance(index, bool) else None


def _extra(delta: Json) -> Json:
    """Return what a server sends with a call for itself, such as a signature."""
    own = ("id", "index", "type", "function", "name", "arguments")
    return {name: all_well_formed(value) for name, value in delta.items() if name not in own and value is not None}


def arguments_of(arguments: Any) -> str:
    """The arguments of a call as text: servers send JSON in a string, or as it is. Raises `NoCall`."""
    if isinstance(arguments, str):
        return arguments
    if arguments is None or arguments == []:  # PHP's empty object is a list
        return ""
    if isinstance(arguments, dict | list):
        return json.dumps(arguments, ensure_ascii=False)
    raise NoCall("a tool call of another shape")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
