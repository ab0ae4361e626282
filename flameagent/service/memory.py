"""Facts that the agent remembers of a conversation beyond its window, and the tools to keep them.

Facts belong to the conversation and change with its turns, all or nothing. The model is told their keys in
its instructions, and reads them with `recall`.
"""

from __future__ import annotations

from agents import Tool, function_tool

from flameagent.conversation import FlameSession
from flameagent.service.turn import running

_KEY, _VALUE, _FACTS = 80, 2000, 200  # characters, characters, how many
_BUDGET = 1500  # characters of the instructions that list the keys


async def remember(key: str, value: str) -> str:
    """Remember a fact about the user or the conversation, for this conversation's later turns.

    Use it whenever the user tells something that will matter later, such as a name, a place or a wish.

    Args:
        key: A short name for the fact, such as "name" or "city".
        value: The fact itself.
    """
    session, key = _session(), _name(key)
    if session is None:
        return "Nothing can be remembered: this session has no memory."
    if not key or not value.strip():
        return "A fact needs a key and a value."
    if len(key) > _KEY or len(value) > _VALUE:
        return f"That is too long to remember: a key has at most {_KEY} characters, a fact {_VALUE}."
    if len(session.facts) >= _FACTS and key not in session.facts:
        return f"There are {_FACTS} facts already: forget one first."
    session.learn(key, value.strip())
    return f"Remembered {key}: {value.strip()}"


async def recall(key: str = "") -> str:
    """Look up what was remembered earlier in this conversation.

    Args:
        key: The fact's key, or a word in it; empty for everything that is known about the user.
    """
    session, key = _session(), _name(key)
    facts = session.facts if session else {}
    if not facts:
        return "Nothing is remembered."
    if key in facts:
        return f"{key}: {facts[key]}"
    found = {name: text for name, text in facts.items() if key in name or key in text.casefold()}
    if not found:
        return f"Nothing is remembered about {key}. There are: {', '.join(facts)}."
    return "\n".join(f"{name}: {text}" for name, text in found.items())


async def forget(key: str) -> str:
    """Forget a fact that was remembered earlier.

    Args:
        key: The fact's key.
    """
    session, key = _session(), _name(key)
    if session is None or key not in session.facts:
        return f"Nothing is remembered about {key}."
    session.learn(key, None)
    return f"Forgot {key}."


def tools() -> list[Tool]:
    """`remember`, `recall` and `forget` as tools of the Agents SDK; a human approves what is forgotten."""
    return [function_tool(remember), function_tool(recall), function_tool(forget, needs_approval=True)]


def instructions(facts: dict[str, str]) -> str:
    """The sentence that tells the model about the facts; the newest keys first, as far as they go into the budget."""
    keys: list[str] = []
    for key in reversed(facts):
        if sum(len(name) + 2 for name in keys) + len(key) > _BUDGET:
            break
        keys.append(key)
    if not keys:
        return ""
    more = f", and {len(facts) - len(keys)} more" if len(keys) < len(facts) else ""
    known = ", ".join(keys)
    return f"You remember facts from earlier in this conversation; read them with the recall tool: {known}{more}."


def _session() -> FlameSession | None:
    turn = running.get()
    return turn.session if turn else None


def _name(key: str) -> str:
    return " ".join(key.casefold().split())
