"""A worker on the embedded engine reads its file, and writes by frames; without either it takes Flight."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import pytest

from flameagent.apis import Question
from flameagent.conversation.stream_key import stream_key
from flameagent.flame.cache import ObjectCache
from localflame import Engine
from localflame.offline import FILE
from localflame.peers import count_connections
from tests.integration.service.talk import AGENT, Talk, fresh
from tests.support.model_server import Call, ModelServer, Step

STEPS = Step(calls=(Call("double", '{"number": 4}', "a-1"),)), Step(text="8.")


@pytest.fixture
def talk(cache: ObjectCache) -> Talk:
    return Talk(cache)


def ways(engine: Engine) -> dict[str, str]:
    return {"LOCALFLAME_WRITES_SOCKET": str(engine.writes_socket), "LOCALFLAME_FILE": str(engine.home / FILE)}


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the connections")
def test_a_worker_does_not_come_by_flight(tmp_path: Path, talk: Talk, engine: Engine, model: ModelServer) -> None:
    def connections(name: str) -> int:
        assert engine.cache_socket is not None
        return count_connections(engine.cache_socket.parent, (name,))

    with fresh(tmp_path, AGENT, engine, model, **ways(engine)) as instance:
        instance.enter(talk.id, talk.ref.encode())
        by_flight, by_frames = connections(".cache-"), connections(".writes-")
        model.steps.extend(STEPS * 2)
        for turn in "12":
            asked = Question("4?", id=turn, stream=stream_key("app", talk.id, turn))
            assert instance.invoke(asked, turn).answer == "8."
        assert connections(".cache-") == by_flight
        assert connections(".writes-") > by_frames
    assert talk.kinds() == ["user", "double(4)", "= 8", "assistant"] * 2


@pytest.mark.parametrize("point", ["append: before", "append: after"])
def test_a_worker_that_is_killed_in_its_write_adds_the_turn_once(
    tmp_path: Path, talk: Talk, engine: Engine, model: ModelServer, point: str
) -> None:
    points, agent = tmp_path / "points", tmp_path / "agent"
    points.mkdir()
    agent.mkdir()
    with fresh(agent, AGENT, engine, model, FAILPOINTS=str(points), **ways(engine)) as instance:
        instance.enter(talk.id, talk.ref.encode())
        (points / point).touch()
        model.steps.extend(STEPS * 2)
        assert instance.invoke(Question("4?", id="1"), "1").answer == "8."
        assert not (points / point).exists()
    model.steps.clear()
    assert talk.turns() == [("4?", "8.")]


@pytest.mark.parametrize("missing", ["the socket", "the file", "its tables", "both"])
def test_without_them_flight_is_the_way(
    tmp_path: Path, talk: Talk, engine: Engine, model: ModelServer, missing: str
) -> None:
    given = ways(engine)
    if missing in ("the socket", "both"):
        given["LOCALFLAME_WRITES_SOCKET"] = str(tmp_path / "nobody")
    if missing in ("the file", "both"):
        given["LOCALFLAME_FILE"] = str(tmp_path / "nothing")
    if missing == "its tables":
        given["LOCALFLAME_FILE"] = str(tmp_path / "newer.db")
        with sqlite3.connect(tmp_path / "newer.db") as newer:
            newer.execute("PRAGMA user_version=99")
    with fresh(tmp_path, AGENT, engine, model, **given) as instance:
        instance.enter(talk.id, talk.ref.encode())
        model.steps.extend(STEPS * 2)
        for number in "12":
            assert instance.invoke(Question("4?", id=number), number).answer == "8."
    assert talk.turns() == [("4?", "8.")] * 2
