"""The agents that are served, and whose sessions are whose.

Promises that a session which is another's, or nobody's, is as one that does not exist, in every dialect.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flameagent.client.application import Application
from flameagent.client.async_client import AsyncClient, in_thread
from flameagent.client.client import Client
from flameagent.client.connection import Connection, translate_errors
from flameagent.client.engine import Engine
from flameagent.client.environment import Environment
from flameagent.client.errors import ClientError, NoEngine, NoSuchSession
from flameagent.client.registered import list_applications
from flameagent.client.sessions import SessionInfo
from flameagent.client.turn_watch import TurnWatch
from flameagent.flame.frontend import Session
from flameagent.server.errors import NotFoundError
from flameagent.server.limits import Limiter

_READERS = 16
_LONGEST_ID = 1000
_TAG = re.compile(r"(u[0-9a-f]{8})-")
_TOGETHER = 500  # sessions that are read together where not all of them fit
_KNOWN = 10_000  # sessions whose owners are not read again: a session has one for good


@dataclass(frozen=True)
class Found:
    """A session of the user who asks for it, and the agent that it is with. `created` is in epoch milliseconds."""

    session_id: str
    agent: str
    client: AsyncClient
    created: int


class Agents:
    """The applications of one engine that are served; without any, all that are registered there.

    For any number of tasks of one event loop.
    """

    def __init__(self, engine: Engine, applications: Sequence[Application], environ: Environment) -> None:
        """Raises `UsageError` for limits in `environ` that make no sense."""
        self.engine = engine
        self.connection = Connection(engine)
        self.environ = environ
        self._own = {each.name: each for each in applications}
        self._clients: dict[str, AsyncClient] = {}
        self.watch: Callable[[str], TurnWatch] | None = None
        """Makes who is told of all turns of an agent."""
        self._reading = asyncio.Semaphore(_READERS)
        self._owners: OrderedDict[tuple[str, bytes], str] = OrderedDict()
        self.limiter = Limiter(self, environ)

    async def names(self) -> list[str]:
        """The names of the agents. Raises `ClientError`."""
        if self._own:
            return list(self._own)
        found = await in_thread(lambda: list_applications(self.connection))
        return [each.application for each in found if each.agent]

    async def first(self) -> str:
        """The agent of who names none. Raises `NotFoundError` where there is none, `ClientError`."""
        if not (names := await self.names()):
            raise NotFoundError("agent", "")
        return names[0]

    async def client(self, name: str) -> AsyncClient:
        """The client of an agent. Raises `NotFoundError`, `ClientError`."""
        if name not in self._clients:
            if name not in self._own and name not in await self.names():
                raise NotFoundError("agent", name)
            application = self._own.get(name) or Application(name)
            watch = self.watch(name) if self.watch else None
            client = Client(self.engine, application, self.environ, for_many=True, watch=watch)
            self._clients[name] = AsyncClient(client)
        return self._clients[name]

    async def find(self, session_id: str, user: str) -> Found:
        """A session of that user by its ID. Raises `NotFoundError`, also for one that is another's."""
        if len(session_id) > _LONGEST_ID:  # Flame would not take it
            raise NotFoundError("session", session_id)
        try:
            session = await in_thread(lambda: self._session(session_id))
        except NoSuchSession:
            raise NotFoundError("session", session_id) from None
        found = await self._of(session, user)
        if found is None:
            raise NotFoundError("session", session_id)
        return found

    async def sessions(self, user: str, agent: str = "") -> list[Found]:
        """The sessions of a user, newest first; of one agent, or of all that are served. Raises `ClientError`."""
        return [each for each, _ in await self._owned(user, await self.all_sessions(), agent)]

    async def sessions_of(self, user: str) -> list[Session]:
        """The same with what Flame says of them. Raises `ClientError`."""
        return [session for _, session in await self._owned(user, await self.all_sessions())]

    async def listed(
        self, user: str, limit: int, *, agent: str = "", state: str = "", search: str = ""
    ) -> list[tuple[Found, SessionInfo]]:
        """The newest sessions of a user in that state, with that text, and what a list says of them.

        Raises `ClientError`.
        """
        everything = await self.all_sessions()
        owned = await self._owned(user, everything, agent)
        together = _TOGETHER if state or search else limit
        listed: list[tuple[Found, SessionInfo]] = []
        while owned and len(listed) < limit:
            some, owned = owned[:together], owned[together:]
            infos = await self._describe([session for _, session in some], everything, search)
            told = [(found, infos[found.session_id]) for found, _ in some]
            listed += [
                (found, info) for found, info in told if state in ("", info.state) and (not search or info.match)
            ]
        return listed[:limit]

    async def all_sessions(self) -> list[Session]:
        """Those of all users with the agents that are served, as Flame tells them. Raises `ClientError`."""
        served = set(await self.names())

        def read() -> list[Session]:
            with translate_errors():
                self.connection.greet()
                return self.connection.frontend.sessions()

        return [each for each in await in_thread(read) if each.application in served]

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.close()
        self.connection.close()

    async def _owned(self, user: str, everything: Sequence[Session], agent: str = "") -> list[tuple[Found, Session]]:
        tag = tag_of(user)
        own = [
            each
            for each in everything
            if each.application == (agent or each.application) and _tagged(each) in ("", tag)
        ]
        own.sort(key=lambda each: (each.created, each.id), reverse=True)
        await self._read_owners(user, own, everything)
        found = await asyncio.gather(*(self._of(each, user) for each in own))
        return [(each, session) for each, session in zip(found, own, strict=True) if each is not None]

    async def _read_owners(self, user: str, own: Sequence[Session], everything: Sequence[Session]) -> None:
        """Know whose sessions these are, as far as that can be read."""
        unknown = [each for each in own if each.common_data is not None and _key(each) not in self._owners]
        if not (user and unknown):
            return
        infos = await self._describe(unknown, everything)
        for each in unknown:
            if (info := infos.get(each.id)) is not None and (info.owner or not info.problem):
                self._owners[_key(each)] = info.owner
        self._forget_oldest()

    async def _describe(
        self, sessions: Sequence[Session], everything: Sequence[Session], search: str = ""
    ) -> dict[str, SessionInfo]:
        """What a list says of sessions, by ID; nothing of those whose agent is not served."""

        async def of(name: str) -> list[SessionInfo]:
            try:
                client = await self.client(name)
            except NotFoundError:
                return []
            wanted = [each for each in sessions if each.application == name]
            return await client.describe(wanted, [each for each in everything if each.application == name], search)

        names = dict.fromkeys(each.application for each in sessions)
        return {info.session_id: info for infos in await asyncio.gather(*map(of, names)) for info in infos}

    def _forget_oldest(self) -> None:
        while len(self._owners) > _KNOWN:
            self._owners.popitem(last=False)

    async def _of(self, session: Session, user: str) -> Found | None:
        """The session, where it is that user's, and with an agent that is served."""
        if not user or session.common_data is None:
            return None
        try:
            client = await self.client(session.application)
        except NotFoundError:
            return None
        known = _key(session)
        if known not in self._owners:
            try:
                async with self._reading:
                    self._owners[known] = await client.owner(session.id)
            except NoEngine:
                raise
            except ClientError:  # deleted meanwhile, or damaged: nobody knows whose it is
                return None
            self._forget_oldest()
        if self._owners.get(known) != user:
            return None
        return Found(session.id, session.application, client, session.created)

    def _session(self, session_id: str) -> Session:
        with translate_errors():
            self.connection.greet()
            return self.connection.frontend.session(session_id)


def _key(session: Session) -> tuple[str, bytes]:
    return session.id, session.common_data or b""


def tag_of(user: str) -> str:
    """What the IDs of a user's sessions have that begin here: so that those of others are not read for a list."""
    return f"u{hashlib.blake2b(user.encode(), digest_size=4).hexdigest()}"


def _tagged(session: Session) -> str:
    """The tag of a session's ID; "" for one that was begun elsewhere."""
    found = _TAG.match(session.id.removeprefix(f"{session.application}-"))
    return found[1] if found else ""


def new_session_id(agent: str, mark: str = "") -> str:
    """The ID of a new session, which nobody can guess; it ends with `mark`."""
    random = base64.b32encode(secrets.token_bytes(15)).decode().lower()
    return f"{agent}-{random}{mark}"
