"""The Agents API when servers are killed, and when clients send anything at all."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.acceptance.program import Program, eventually
from tests.acceptance.server.conftest import Served, serving
from tests.acceptance.server.test_agents_api import NONE, begun, kinds, message, read
from tests.support.model_server import Call, ModelServer, Step


def test_a_server_is_killed_in_the_middle_of_a_stream(
    served: Served, ada: str, embedded: Program, model: ModelServer
) -> None:
    asked_before = len(model.bodies)
    with served.openai(ada) as client, serving(embedded.having(AGENT_MEMORY="off")) as killed:
        session = begun(client)
        model.steps += [Step("one two three four", chunk_delay=0.3)]
        with (
            killed.openai(ada, max_retries=0) as there,
            there.beta.agents.sessions.stream(session.id, input="count", idempotency_key="counted") as stream,
        ):
            first = next(stream)
            killed.process.kill()
            with pytest.raises((openai.OpenAIError, RuntimeError, httpx2.HTTPError)):
                list(stream)
        with client.beta.agents.sessions.events.stream(session.id) as again:
            # What the client cannot know: whether its message has come.
            create = client.beta.agents.sessions.events.create
            create(session.id, events=[message("count")], idempotency_key="counted")
            seen = []
            for event in again:
                seen.append(event)
                if event.type == "agent.session.idle":
                    break
        assert seen[0].event_id == first.event_id and kinds(seen)[-2:] == ["turn.completed", "idle"]
        (turn,) = client.beta.agents.sessions.turns.list(session.id)
        assert turn.id == first.turn_id
    assert len(model.bodies) - asked_before == 1, "the model was asked once"


def test_a_worker_is_killed_after_it_has_said_all(own: Program, model: ModelServer, tmp_path: Path) -> None:
    """What was told of the turn is told anew, under the same IDs, and its result is what the record has."""
    points = tmp_path / "points"
    points.mkdir()
    program = own.having(FAILPOINTS=str(points), FLAME_AGENT_USER="owner", AGENT_MEMORY="off")
    with serving(program) as server, server.openai() as client:
        session = begun(client)
        (points / "append: before").write_text("")
        with client.beta.agents.sessions.stream(session.id, input="once") as stream:
            stream.with_result_collection()
            events = list(stream)
            result = stream.get_final_result()
        assert not (points / "append: before").exists(), "nobody was killed"
    assert result.output_text == "answer 1: once" and kinds(events).count("turn.created") == 1
    added = [event.item for event in events if event.type == "agent.session.turn.item.added"]
    (said,) = {item.id for item in added if item.role == "assistant"}
    assert result.messages[0].id == said
    assert len({event.event_id for event in events}) == len(events)


def test_a_creation_is_repeated_through_another_server(
    served: Served, ada: str, embedded: Program, model: ModelServer
) -> None:
    """A client of OpenAI that had no answer sends the same again, and says so; this one has no key."""
    body = {"environment": NONE, "input": "once, please", "metadata": {"made": "twice"}}
    with (
        serving(embedded.having(AGENT_MEMORY="off")) as another,
        served.http(ada) as here,
        another.http(ada) as there,
    ):
        first = here.post("/v1/agents/sessions", json=body).json()
        again = there.post("/v1/agents/sessions", json=body, headers={"x-stainless-retry-count": "1"}).json()
        assert first["id"] == again["id"]
        path = f"/v1/agents/sessions/{first['id']}"
        eventually(lambda: here.get(path).json()["status"] == "idle")
        assert len(there.get(f"{path}/turns").json()["data"]) == 1


def test_a_session_that_is_closed_or_deleted_ends_its_streams(served: Served, ada: str, embedded: Program) -> None:
    with served.openai(ada) as client:
        session = begun(client)
        with client.beta.agents.sessions.events.stream(session.id) as stream:
            embedded.having(FLAME_AGENT_USER="ada")("close", session.id)
            assert kinds(list(stream)) == ["failed"]
        found = read(client, session.id)
        assert found.status == "failed" and found.error and "closed" in found.error
        with pytest.raises(openai.ConflictError):
            client.beta.agents.sessions.events.create(session.id, events=[message("hi")])
        session = begun(client)
        with client.beta.agents.sessions.events.stream(session.id) as stream:
            client.beta.agents.sessions.delete(session.id)
            assert list(stream) == []


def test_one_call_is_decided_by_one_of_two(served: Served, ada: str, embedded: Program, model: ModelServer) -> None:
    """Two servers get opposite decisions at once: one counts, and the turn ends once."""
    with (
        serving(embedded.having(AGENT_MEMORY="off")) as another,
        served.http(ada) as here,
        another.http(ada) as there,
    ):
        session = here.post("/v1/agents/sessions", json={"environment": NONE}).json()["id"]
        path = f"/v1/agents/sessions/{session}"
        model.steps += [Step(calls=(Call("forget", '{"key": "tea"}'),)), Step("Done.")]
        here.post(f"{path}/events", json={"events": [message("forget my tea")]})
        waits = eventually(lambda: (found := here.get(path).json())["status"] == "requires_action" and found)
        call = waits["required_actions"][0]["request_id"]

        def decide(which: tuple[Any, str]) -> int:
            client, decision = which
            response = {"type": "mcp_tool_call", "decision": decision}
            kind = "agent.session.input.mcp_approval_request_result"
            event = {"type": kind, "request_id": call, "response": response}
            return int(client.post(f"{path}/events", json={"events": [event]}).status_code)

        with ThreadPoolExecutor() as both:
            codes = sorted(both.map(decide, [(here, "approve"), (there, "deny")]))
        assert codes[0] == 202 and codes[1] in (400, 409), codes
        eventually(lambda: here.get(path).json()["status"] == "idle")
        assert [turn["status"] for turn in here.get(f"{path}/turns").json()["data"]] == ["completed"]


def test_a_limit_begins_no_session_and_lets_a_turn_be_steered(
    ada: str, embedded: Program, model: ModelServer
) -> None:
    limited = embedded.having(AGENT_MEMORY="off", FLAME_AGENT_TURNS_AT_ONCE="1")
    with serving(limited) as server, server.openai(ada, max_retries=0) as client:
        session = begun(client)
        model.steps += [Step(calls=(Call("recall", '{"key": "tea"}'),), delay=5), Step("I see.")]
        with client.beta.agents.sessions.stream(session.id, input="what tea?") as stream:
            client.beta.agents.sessions.events.create(session.id, events=[message("green")])
            with pytest.raises(openai.RateLimitError):
                begun(client, input="me, too", metadata={"limited": "yes"})
            assert list(client.beta.agents.sessions.list(metadata={"limited": "yes"})) == []
            stream.until_done()


def _anything(choose: random.Random, depth: int = 0) -> Any:
    plain = [None, True, -1, 1e308, "", "x" * 3000, "\ud800", "\u202e\x00", "a\nb", {}, []]
    kind = choose.randrange(4) if depth < 4 else 0
    if kind < 2:
        return choose.choice(plain)
    if kind == 2:
        return [_anything(choose, depth + 1) for _ in range(choose.randrange(3))]
    names = ["type", "input", "content", "text", "events", "agent", "tools", "metadata", "output", "call_id", "x"]
    return {choose.choice(names): _anything(choose, depth + 1) for _ in range(choose.randrange(4))}


def test_whatever_is_sent_is_answered_in_the_dialects_form(served: Served, ada: str) -> None:
    choose = random.Random(17)
    fields = {
        "": [
            "environment",
            "agent",
            "agent_id",
            "input",
            "metadata",
            "stream",
            "vault_ids",
            "review",
            "spend_control",
        ],
        "/SESSION": ["agent", "metadata", "review", "spend_control"],
        "/SESSION/events": ["events"],
    }
    event = {"type": "agent.session.input.message"}
    results = [event["type"], "agent.session.input.tool_result", "agent.session.input.mcp_approval_request_result"]
    with served.http(ada) as http:
        session = http.post("/v1/agents/sessions", json={"environment": NONE}).json()["id"]
        for number in range(240):
            path = choose.choice(list(fields))
            body: Any = {name: _anything(choose) for name in choose.sample(fields[path], 1)}
            if path.endswith("events") and number % 2:
                names = ["input", "request_id", "response", "call_id", "turn_id", "success", "output", "error"]
                made = {name: _anything(choose) for name in choose.sample(names, 3)}
                body = {"events": [{"type": choose.choice(results), **made}]}
            sent = json.dumps(body).encode()
            url = f"/v1/agents/sessions{path.replace('SESSION', session)}"
            answer = http.post(url, content=sent, headers={"content-type": "application/json"})
            assert answer.status_code < 500, (url, body, answer.text)
            if answer.status_code >= 400:
                assert set(answer.json()["error"]) == {"message", "type", "code", "param"}
                assert "\x00" not in answer.json()["error"]["message"]
