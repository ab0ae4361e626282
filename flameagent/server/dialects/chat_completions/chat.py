"""A chat of a program as a session: what of the history that comes is new, and where it is asked.

Only the user's texts are compared, since answers may come back changed. A chat's session has an ID made of agent,
user and the program's ID of the chat. Where a turn runs or waits that a program would take back, the chat goes on in
a copy: a session with the next number behind its ID, which is the chat's from then on. Promises that who sends the
same again, also to another server, asks nothing twice.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from flameagent.client.approvals import Pending
from flameagent.client.async_client import AsyncTurn
from flameagent.client.errors import ConflictError, UsageError
from flameagent.client.history import History
from flameagent.conversation import Turn
from flameagent.conversation.item_text import describe_item
from flameagent.server.agents import Agents, Found, tag_of
from flameagent.server.asking import ask
from flameagent.server.dialects.chat_completions.request import TASK, Asked
from flameagent.server.errors import NotFoundError
from flameagent.server.identity import Identity
from flameagent.server.once import Once

_ROUNDS = 5  # of looking at what is there, while others change it


@dataclass(frozen=True)
class Said:
    """A text of the user that a session has; without a `turn` it came with the session's beginning."""

    text: str
    turn: Turn | None = None


@dataclass(frozen=True)
class Held:
    """A session in which calls wait for a decision: nothing is asked in it before."""

    found: Found
    pending: Pending


class Chat:
    """A chat of a user with an agent."""

    def __init__(self, agents: Agents, agent: str, identity: Identity, chat: str) -> None:
        self._agents = agents
        self._agent = agent
        self._identity = identity
        name = "".join(f"{len(part)}:{part}" for part in (agent, identity.user, chat))
        self._base = f"{agent}-{tag_of(identity.user)}-{hashlib.blake2b(name.encode(), digest_size=16).hexdigest()}"

    async def newest(self) -> tuple[Found | None, int]:
        """The session that the chat is in now, if there is one, and the number of the next one."""
        found, number = None, 0
        while True:
            try:
                found = await self._agents.find(self._session_id(number), self._identity.user)
            except NotFoundError:
                return found, number
            number += 1

    async def is_about(self, asked: Asked) -> bool:
        """Whether a request is about this chat and no part of it, as one for a title is."""
        if asked.task:
            return True
        if asked.stream or len(asked.exchanges) > 1 or asked.before:
            return False
        text = asked.texts[0]
        if text.startswith(TASK):
            return True
        found, _ = await self.newest()
        if found is None:
            return False
        history = await found.client.history(found.session_id)
        running = await _running(found)
        first = [each.text for each in said_in(history)[:1]]
        first += [history.waiting.question] if history.waiting else []
        first += [running.question] if running else []
        return bool(first) and text not in first

    async def ask(self, asked: Asked, once: Once) -> tuple[Found, AsyncTurn] | Held:
        """The turn that the request asks for, asked if it was not. To be called while the chat's lock is held.

        Raises `ClientError`.
        """
        for _ in range(_ROUNDS):
            found, number = await self.newest()
            if found is None:
                await self._begin(asked, number)
                continue
            history = await found.client.history(found.session_id)
            if history.damage:
                raise history.damage
            if (placed := await self._placed(asked, once, found, history, number)) is not None:
                return placed
        raise ConflictError("This chat is changed by others all the time; look at it, and ask again.")

    async def _placed(
        self, asked: Asked, once: Once, found: Found, history: History, number: int
    ) -> tuple[Found, AsyncTurn] | Held | None:
        """What the request comes to in that session; None where the chat had to be made ready for it first."""
        said, texts = said_in(history), asked.texts
        count, same = len(said), common([each.text for each in said], texts)
        once = self._named(asked, once, history)
        mine = await once.turn_id(self._agents.connection, found.session_id)
        waiting, running = history.waiting, await _running(found)
        goes_on = same == count < len(texts)
        if waiting and not running and goes_on and _equal(waiting.question, texts[count]):
            return Held(found, waiting)
        if running and goes_on and _equal(running.question, texts[count]):
            if len(texts) == count + 1 and (waiting or running.turn_id == mine):
                return found, running
            if len(texts) == count + 2:  # the program believes that it has ended
                return found, await self._ask(asked, once, found)
        if goes_on and len(texts) == count + 1 and not (running or waiting):
            return found, await self._ask(asked, once, found)
        if same == len(texts) and (turn := said[same - 1].turn) is not None:
            again = turn.id == mine or (same == count and (not asked.message or bool(turn.decisions)))
            if again or once.repeated:
                return found, await found.client.attach(found.session_id, turn.id)
        if same >= len(texts) - 1:
            await self._go_back(found, said, len(texts) - 1, number, asked, apart=bool(running or waiting))
        else:
            await self._begin(asked, number)
        return None

    async def _ask(self, asked: Asked, once: Once, found: Found) -> AsyncTurn:
        last = asked.exchanges[-1]
        return await ask(self._agents, once, found, last.text, self._identity, attachments=last.attachments)

    async def _begin(self, asked: Asked, number: int) -> None:
        """A session of the chat with what was said before the last text."""
        client = await self._agents.client(self._agent)
        session_id = self._session_id(number)
        await client.begin_session(session_id, asked.prompt, asked.history, user=self._identity.user)

    async def _go_back(
        self, found: Found, said: list[Said], keep: int, number: int, asked: Asked, *, apart: bool
    ) -> None:
        """Have the chat be as it was after that many texts: `apart` in a copy, otherwise by a rewind."""
        turn = said[keep].turn if keep < len(said) else None
        if keep < len(said) and turn is None:  # before the first turn there is nothing to go back to
            await self._begin(asked, number)
            return
        turns = turn.number - 1 if turn else max((each.turn.number for each in said if each.turn), default=0)
        if not apart:
            try:
                await found.client.rewind(found.session_id, turns)
                return
            except ConflictError:
                pass  # a turn runs now
            except UsageError:
                return  # somebody has gone back already
        user = self._identity.user
        await found.client.fork(found.session_id, turns, user=user, session_id=self._session_id(number))

    def _named(self, asked: Asked, once: Once, history: History) -> Once:
        """The request under a key: of the program's, else made of its message ID, else of where the chat stands."""
        place = once.key or asked.message
        if not place:
            conversation = history.conversation
            place = f"{conversation.seq} {conversation.last}" if conversation else ""
        digest = hashlib.blake2b(digest_size=16)
        for part in (once.key or (asked.message and "message"), place, asked.texts[-1]):
            digest.update(f"{len(part)}:{part}".encode())
        return replace(once, key=f"chat {digest.hexdigest()}")

    def _session_id(self, number: int) -> str:
        return f"{self._base}-{number + 1}" if number else self._base


def said_in(history: History) -> list[Said]:
    """What the user has said in a session, oldest first: the questions of its turns, and what it began with."""
    found = []
    for block in history.blocks:
        if block.turn is not None:
            found.append(Said(block.turn.question, block.turn))
        else:
            found += [Said(describe_item(item)[1]) for item in block.items if item.get("role") == "user"]
    return found


async def _running(found: Found) -> AsyncTurn | None:
    try:
        return await found.client.attach(found.session_id)
    except UsageError:
        return None


def common(said: list[str], texts: list[str]) -> int:
    """How many texts are the same from the first on."""
    count = 0
    for one, other in zip(said, texts, strict=False):
        if not _equal(one, other):
            break
        count += 1
    return count


def _equal(said: str, text: str) -> bool:
    """Open WebUI puts documents before a question and sends it without them later, as part of the history."""
    said, text = said.strip(), text.strip()
    return said == text or (said.startswith(TASK) and said.endswith(f"\n{text}"))
