"""The IDs of tool calls: each names one call of a conversation, for as long as that lasts."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from flameagent.service.turn import running

if TYPE_CHECKING:
    from agents.items import TResponseInputItem

_LONGEST = 40  # what OpenAI's chat completions take
_ALPHABET = string.ascii_letters + string.digits


def naming(items: str | list[TResponseInputItem]) -> Callable[[str | None], str]:
    """Return a function that gives a call its ID: the server's, where that is certain to be new.

    Some servers give every call the same ID, or none, or begin anew with each request. An ID is known to be new
    while `items` are all that the conversation has; once its beginning is out of the model's sight, and where the
    server's ID is used, missing or too long for others, the call gets one of our own. That is random: a turn that
    runs twice is in the conversation once, so nothing compares the two.
    """
    known = [] if isinstance(items, str) else [cast("dict[str, Any]", item) for item in items]
    used = {item["call_id"] for item in known if item.get("call_id")}
    turn = running.get()
    all_in_sight = turn is None or turn.session.shows_all

    def name(given: str | None) -> str:
        is_new = isinstance(given, str) and 0 < len(given) <= _LONGEST and given not in used
        call_id = cast("str", given) if is_new and all_in_sight else _own()
        used.add(call_id)
        return call_id

    return name


def _own() -> str:
    # Nine letters and digits, the one form that Mistral takes; more than 10^16 of them.
    return "".join(secrets.choice(_ALPHABET) for _ in range(9))
