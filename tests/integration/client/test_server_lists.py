"""What a server lists for its users: their own sessions alone, however it came to know these."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from flameagent.client.application import Application
from flameagent.client.engine import Cluster
from flameagent.client.environment import Environment
from flameagent.client.errors import NoEngine
from flameagent.server.agents import Agents
from tests.integration.client.conftest import WAYS, Sessions
from tests.integration.client.test_lists import turn

pytestmark = pytest.mark.parametrize("sessions", [WAYS[0], WAYS[3]], ids=[WAYS[0][0], WAYS[3][0]], indirect=True)


class Server:
    """A server of that agent; a new one has read no owner."""

    def __init__(self, sessions: Sessions, *, cache: str = "") -> None:
        engine = sessions.client.engine
        if cache:
            engine = Cluster(replace(sessions.endpoints, cache=cache))
        self._name = sessions.name
        self.agents = Agents(engine, [Application(sessions.name)], Environment({}))

    def listed(self, user: str, limit: int = 100, state: str = "", search: str = "") -> list[str]:
        """The titles of what a user is shown."""

        async def listed() -> list[str]:
            found = await self.agents.listed(user, limit, state=state, search=search)
            assert all(each.session_id == info.session_id == info.short for each, info in found)
            assert all(info.owner == user for _, info in found)
            return [info.title for _, info in found]

        return asyncio.run(listed())


@contextmanager
def server(sessions: Sessions, cache: str = "") -> Iterator[Server]:
    made = Server(sessions, cache=cache)
    yield made
    asyncio.run(made.agents.close())


def test_users_are_shown_their_own_and_what_was_read_once_is_known(sessions: Sessions) -> None:
    for name, owner in (("a1", "ada"), ("b1", "bob"), ("a2", "ada"), ("all", "")):
        sessions.make(name, owner=owner).append(turn(1, f"{name} of {owner}"))
    for reads in (4, 0):  # what it reads to know whose they are, and the next server knows
        with server(sessions) as first:
            sessions.read.clear()
            assert sorted(first.listed("ada")) == ["a1 of ada", "a2 of ada"]
            assert first.listed("bob") == ["b1 of bob"] and first.listed("eve") == first.listed("") == []
            assert len(sessions.read) == reads
            assert len(first.listed("ada", limit=1)) == 1
            assert first.listed("ada", search="a1 OF") == ["a1 of ada"]
            assert first.listed("ada", state="closed") == []


def test_a_session_that_is_another_s_now_is_not_shown(sessions: Sessions) -> None:
    with server(sessions) as first:
        sessions.make("again", owner="ada").append(turn(1, "hers"))
        assert first.listed("ada") == ["hers"]
        sessions.delete("again")
        sessions.make("again", owner="bob").append(turn(1, "his!"))
        for each in (first, Server(sessions)):
            assert (each.listed("ada"), each.listed("bob")) == ([], ["his!"])


def test_an_outage_of_the_cache_is_no_empty_list(sessions: Sessions) -> None:
    sessions.make("one", owner="ada").append(turn(1))
    with server(sessions, cache="grpc://127.0.0.1:1") as away:
        for _ in range(2):
            with pytest.raises(NoEngine):
                away.listed("ada")


def test_a_deleted_session_that_was_known_is_gone(sessions: Sessions) -> None:
    with server(sessions) as first:
        for name in ("stays", "goes"):
            sessions.make(name, owner="ada").append(turn(1, f"the secret of what {name}"))
        assert len(first.listed("ada")) == 2
        sessions.delete("goes")
        assert first.listed("ada") == ["the secret of what stays"]
        assert b"the secret of what goes" not in sessions.bytes_kept()
