"""What is remembered of a person on the screen, for people and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from flameagent.client.memory import fact_as_json
from flameagent.conversation import item_text
from flameagent.transcript import wording

if TYPE_CHECKING:
    from flameagent.cli.terminal.screen import Screen
    from flameagent.client.memory import Erased, Found, Memory


def facts(screen: Screen, memory: Memory) -> None:
    """The facts, one a line, and how many turns there are."""
    known, turns = memory.facts(), len(memory.turns())
    if screen.as_json:
        screen.data({"user": memory.user, "facts": [fact_as_json(fact) for fact in known], "turns": turns})
        return
    if not turns:
        screen.notice(f"Nothing is remembered of {memory.user} yet.")
        return
    width = max((len(fact.key) for fact in known), default=0)
    for fact in known:
        screen.text(f"{fact.key:<{width}}  {fact.value}", folded=True)
        before = dict.fromkeys(each.value for each in fact.superseded if each.value != fact.value)
        earlier = f"; before: {', '.join(before)}" if before else ""
        screen.aside(f"{'':<{width}}  {_where(fact.session, fact.turn, fact.at)}{earlier}", folded=True)
    screen.notice(f"{wording.turns(turns)} of {memory.user} can be searched.")


def found(screen: Screen, turns: list[Found], note: str = "") -> None:
    """The turns that a search has found, the best first; `note` says why not by meaning."""
    if screen.as_json:
        screen.data([asdict(turn) for turn in turns])
        return
    if note:
        screen.warning(note)
    if not turns:
        screen.notice("Nothing that is remembered is like that.")
    for number, turn in enumerate(turns):
        if number:
            screen.text("")
        screen.heading(_where(turn.session_id, turn.turn, turn.at))
        screen.item({"role": "user", "content": item_text.shorten(turn.question)})
        screen.item({"role": "assistant", "content": item_text.shorten(turn.answer)})


def forgot(screen: Screen, key: str, sessions: list[str] | None) -> None:
    """What came of a wish to forget."""
    if screen.as_json:
        screen.data({"key": key, "forgotten": sessions is not None, "sessions": sessions or []})
    else:
        screen.text(f"Nothing is remembered about {key}." if sessions is None else f"Forgot {key}.")


def erased(screen: Screen, what: Erased) -> None:
    """What was erased."""
    if screen.as_json:
        screen.data({"user": what.user, "sessions": what.sessions, "deleted": what.deleted})
        return
    also = ""
    if what.sessions:
        count = "1 session" if len(what.sessions) == 1 else f"{len(what.sessions)} sessions"
        also = f", and {count}" if what.deleted else f", and the facts in {count}"
    screen.text(f"Erased what was remembered of {what.user}{also}.")


def _where(session_id: str, turn: int, at: int) -> str:
    return f"{wording.moment(at)} · {session_id}, turn {turn}"
