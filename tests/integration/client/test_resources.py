"""What a session asks a cluster for."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from flameagent.client import fork
from flameagent.client.client import Client
from flameagent.client.engine import Cluster
from flameagent.client.environment import Environment
from flameagent.client.errors import UsageError
from flameagent.flame import FlameError
from flameagent.flame.resources import Resources
from flamewire.stubs import frontend, frontend_grpc
from tests.integration.client.conftest import Sessions


def client(sessions: Sessions, **environment: str) -> Client:
    return Client(Cluster(sessions.endpoints), sessions.client.application, Environment(environment))


def asked_for(sessions: Sessions, session_id: str) -> tuple[int, int, int]:
    with grpc.insecure_channel(sessions.endpoints.frontend.removeprefix("http://")) as channel:
        stub: Any = frontend_grpc.FrontendStub(channel)
        need = stub.GetSession(frontend.GetSessionRequest(session_id=session_id)).spec.resreq
    return need.cpu, need.memory, need.gpu


def test_it_asks_for_what_the_setting_says_and_otherwise_for_nothing(sessions: Sessions) -> None:
    plain, set_to = f"{sessions.name}-plain", f"{sessions.name}-set"
    client(sessions).begin_session(plain)
    client(sessions, FLAME_AGENT_RESREQ="cpu=2,mem=128m").begin_session(set_to)
    assert asked_for(sessions, plain) == (1, 1024**3, 0)  # Flame's own, where nobody says
    assert asked_for(sessions, set_to) == (2, 128 * 1024**2, 0)


def test_a_session_that_was_begun_by_who_asks_for_another_is_the_same_one(sessions: Sessions) -> None:
    one = f"{sessions.name}-one"
    client(sessions, FLAME_AGENT_RESREQ="mem=64m").begin_session(one)
    client(sessions, FLAME_AGENT_RESREQ="mem=65m").begin_session(one)
    assert asked_for(sessions, one) == (0, 64 * 1024**2, 0)


def test_what_makes_no_sense_is_named_before_anything_is_begun(sessions: Sessions) -> None:
    with pytest.raises(UsageError, match=r"^FLAME_AGENT_RESREQ is resources such as cpu=0,mem=64m, not 'much'"):
        client(sessions, FLAME_AGENT_RESREQ="much").begin_session(f"{sessions.name}-none")
    assert sessions.client.sessions() == []


def test_who_begins_it_at_the_same_time_and_asks_for_another_finds_it(sessions: Sessions) -> None:
    one = f"{sessions.name}-both"
    made = sessions.frontend.create_session(one, sessions.name, b"first", Resources(0, 1, 0))
    assert fork._created(sessions.frontend, one, sessions.name, b"second", Resources(0, 2, 0)) == made
    with pytest.raises(FlameError):  # refused, and there is none
        fork._created(sessions.frontend, f"{one}-2", "no-such-application", b"", None)
