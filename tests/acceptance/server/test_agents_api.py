"""The Agents API, driven by the official client: sessions, their events, and turns with approvals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.acceptance.program import Program, eventually
from tests.acceptance.server.conftest import Served, serving
from tests.support.model_server import Call, ModelServer, Step, error

NONE: Any = {"type": "none"}
FORGETS = Step(calls=(Call("forget", '{"key": "tea"}'),))


@pytest.fixture
def client(served: Served, ada: str) -> Iterator[openai.OpenAI]:
    with served.openai(ada) as client:
        yield client


def begun(client: openai.OpenAI, **more: Any) -> Any:
    return client.beta.agents.sessions.create(environment=NONE, agent_id="openai-agent", **more)


def asked(client: openai.OpenAI, session: str, text: str) -> Any:
    with client.beta.agents.sessions.stream(session, input=text) as stream:
        return stream.get_final_result()


def read(client: openai.OpenAI, session: str) -> Any:
    return client.beta.agents.sessions.retrieve(session)


def message(text: str) -> Any:
    content = [{"type": "input_text", "text": text}]
    return {"type": "agent.session.input.message", "input": [{"role": "user", "content": content}]}


def approval(call: str, decision: str = "approve") -> Any:
    response = {"type": "mcp_tool_call", "decision": decision}
    return {"type": "agent.session.input.mcp_approval_request_result", "request_id": call, "response": response}


def kinds(events: list[Any]) -> list[str]:
    return [str(event.type).removeprefix("agent.session.") for event in events]


def test_a_session_is_begun_and_asked(client: openai.OpenAI) -> None:
    session = begun(client, metadata={"customer": "7"}, agent={"instructions": "Be brief."})
    assert (session.status, session.metadata, session.agent.id) == ("idle", {"customer": "7"}, "openai-agent")
    assert session.agent.instructions == "Be brief." and session.environment.type == "none"
    first = asked(client, session.id, "one")
    assert first.output_text == "answer 1: one"
    assert (first.turn.status, first.turn.session_id) == ("completed", session.id)
    assert first.turn.usage and first.turn.usage.total_tokens > 0
    assert asked(client, session.id, "two").output_text == "answer 2: two"
    sessions = client.beta.agents.sessions
    assert [turn.status for turn in sessions.turns.list(session.id)] == ["completed"] * 2
    assert sessions.turns.retrieve(first.turn_id, session_id=session.id).id == first.turn_id
    items = list(sessions.items.list(session.id, order="asc"))
    assert [(item.role, item.content[0].text) for item in items] == [
        ("user", "one"),
        ("assistant", "answer 1: one"),
        ("user", "two"),
        ("assistant", "answer 2: two"),
    ]
    assert first.messages[0].id == items[1].id, "as in the stream"
    of_one = list(sessions.turns.items.list(first.turn_id, session_id=session.id, order="asc", limit=1))
    assert [item.id for item in of_one] == [item.id for item in items[:2]], "page after page"
    assert sessions.delete(session.id).deleted
    with pytest.raises(openai.NotFoundError):
        read(client, session.id)


def test_a_session_that_begins_with_a_question_streams_its_turn(client: openai.OpenAI) -> None:
    with begun(client, input="hello", stream=True) as stream:
        events = list(stream)
    assert kinds(events)[:5] == ["created", "turn.created", "turn.item.added", "in_progress", "turn.in_progress"]
    assert kinds(events)[-3:] == ["turn.item.done", "turn.completed", "idle"]
    assert "turn.output_text.delta" in kinds(events)
    assert len({event.event_id for event in events}) == len(events)
    with begun(client, input="hello", stream=True) as stream:
        assert stream.get_final_result().output_text == "answer 1: hello"
    session = begun(client, input=[{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}])
    eventually(lambda: read(client, session.id).status == "idle")
    assert asked(client, session.id, "there").output_text == "answer 2: there"


def test_the_same_request_begins_one_session(client: openai.OpenAI) -> None:
    key = {"Idempotency-Key": "begun once"}
    first, again = (begun(client, input="hello", extra_headers=key) for _ in range(2))
    assert first.id == again.id
    eventually(lambda: read(client, first.id).status == "idle")
    assert len(list(client.beta.agents.sessions.turns.list(first.id))) == 1
    for _ in range(2):
        client.beta.agents.sessions.events.create(first.id, events=[message("more")], idempotency_key="k")
    eventually(lambda: read(client, first.id).status == "idle")
    assert len(list(client.beta.agents.sessions.turns.list(first.id))) == 2


def test_sessions_are_listed_by_agent_and_metadata(client: openai.OpenAI, served: Served, bob: str) -> None:
    made = [begun(client, metadata={"list": "mine", "number": str(number)}).id for number in range(3)]
    sessions = client.beta.agents.sessions
    assert [each.id for each in sessions.list(metadata={"list": "mine"})] == made[::-1]
    page = sessions.list(metadata={"list": "mine"}, order="asc", limit=2)
    assert ([each.id for each in page.data], page.has_more) == (made[:2], True)
    assert [each.id for each in sessions.list(metadata={"list": "mine"}, order="asc", limit=2)] == made
    assert [each.id for each in sessions.list(metadata={"list": "mine", "number": "1"})] == [made[1]]
    assert made[2] in {each.id for each in sessions.list(agent_id="openai-agent")}
    assert list(sessions.list(agent_id="nobody")) == []
    changed = sessions.update(made[0], metadata={"list": "theirs"})
    assert changed.metadata == {"list": "theirs"} == read(client, made[0]).metadata
    assert sessions.update(made[0], metadata=None).metadata == {}
    with served.openai(bob) as other:
        assert list(other.beta.agents.sessions.list(metadata={"list": "mine"})) == []
        for refused in (other.beta.agents.sessions.retrieve, other.beta.agents.sessions.delete):
            with pytest.raises(openai.NotFoundError):
                refused(made[0])
        with pytest.raises(openai.NotFoundError):
            other.beta.agents.sessions.events.create(made[0], events=[message("hi")])
        with pytest.raises(openai.NotFoundError):
            other.beta.agents.sessions.events.stream(made[0])


def test_a_call_of_a_tool_of_the_agent_is_shown_as_one_of_a_server(client: openai.OpenAI, model: ModelServer) -> None:
    session = begun(client)
    model.steps += [Step("Wait.", calls=(Call("recall", '{"key": "tea"}'),)), Step("Nothing.")]
    with client.beta.agents.sessions.stream(session.id, input="what tea?") as stream:
        stream.with_result_collection()
        events = list(stream)
        result = stream.get_final_result()
    assert result.output_text == "Nothing.", "what is said before a call is commentary"
    done = [event.item for event in events if event.type == "agent.session.turn.item.done"]
    assert [item.type for item in done] == ["message", "mcp_call", "message"]
    assert (done[1].server_label, done[1].name, done[1].arguments) == ("openai-agent", "recall", {"key": "tea"})
    listed = list(client.beta.agents.sessions.items.list(session.id, order="asc"))
    assert [item.id for item in listed[1:]] == [item.id for item in done]
    assert listed[2].output == done[1].output


@pytest.mark.parametrize("decision", ["approve", "deny"])
def test_an_approval_is_given_later_through_another_server(
    client: openai.OpenAI, ada: str, embedded: Program, model: ModelServer, decision: str
) -> None:
    session = begun(client)
    model.steps += [FORGETS]
    waiting = client.beta.agents.sessions.stream(session.id, input="forget my tea")
    with waiting as stream, pytest.raises(openai.OpenAIError, match="requires_action"):
        stream.get_final_result()
    waits = eventually(lambda: (found := read(client, session.id)).status == "requires_action" and found)
    (action,) = waits.required_actions
    assert (action.type, action.request.name, action.request.server_label) == (
        "mcp_approval_request",
        "forget",
        "openai-agent",
    )
    with pytest.raises(openai.ConflictError):
        client.beta.agents.sessions.events.create(session.id, events=[message("hello?")])
    with pytest.raises(openai.BadRequestError, match="Unknown pending"):
        client.beta.agents.sessions.events.create(session.id, events=[approval("nothing")])
    model.steps += [Step("Done.")]
    with (
        serving(embedded.having(AGENT_MEMORY="off")) as another,
        another.openai(ada) as elsewhere,
        client.beta.agents.sessions.events.stream(session.id) as stream,
    ):
        for _ in range(2):  # sent again it counts once
            elsewhere.beta.agents.sessions.events.create(session.id, events=[approval(action.request_id, decision)])
        seen = []
        for event in stream:
            seen.append(event)
            if event.type == "agent.session.idle":
                break
    assert kinds(seen)[0] == "turn.created" and "requires_action" in kinds(seen)
    assert kinds(seen)[-2:] == ["turn.completed", "idle"]
    (turn,) = client.beta.agents.sessions.turns.list(session.id)
    assert (turn.status, turn.id) == ("completed", action.turn_id)
    call = next(
        item for item in client.beta.agents.sessions.items.list(session.id, order="asc") if item.type == "mcp_call"
    )
    assert ("rejected" in call.output) == (decision == "deny")


def test_an_approval_is_given_while_its_events_are_read(client: openai.OpenAI, model: ModelServer) -> None:
    session = begun(client)
    model.steps += [FORGETS, Step("Done.")]
    with client.beta.agents.sessions.stream(session.id, input="forget my tea") as stream:
        seen = []
        for event in stream:
            seen.append(event)
            if event.type == "agent.session.requires_action":
                action = event.session.required_actions[0]
                client.beta.agents.sessions.events.create(session.id, events=[approval(action.request_id)])
    assert kinds(seen)[-2:] == ["turn.completed", "idle"]


def test_every_server_tells_the_same_events(
    client: openai.OpenAI, ada: str, embedded: Program, model: ModelServer
) -> None:
    session = begun(client)
    with serving(embedded.having(AGENT_MEMORY="off")) as another, another.openai(ada) as elsewhere:
        model.steps += [Step("one two three", chunk_delay=0.2)]
        with elsewhere.beta.agents.sessions.events.stream(session.id) as there:
            with client.beta.agents.sessions.stream(session.id, input="count") as stream:
                first = next(stream)  # and then the connection breaks
            seen = []
            with client.beta.agents.sessions.events.stream(session.id) as here:
                for stream in (here, there):
                    events = []
                    for event in stream:
                        events.append(event)
                        if event.type == "agent.session.idle":
                            break
                    seen.append(events)
    assert first.type == "agent.session.turn.created" and first.event_id == seen[0][0].event_id

    def told(events: list[Any]) -> list[tuple[str, Any]]:
        return [
            (event.event_id, getattr(event, "delta", getattr(event, "text", None)))
            for event in events
            if ".turn." in event.type
        ]

    assert told(seen[0]) == told(seen[1])


def test_a_message_steers_the_turn_that_runs(client: openai.OpenAI, model: ModelServer) -> None:
    session = begun(client)
    model.steps += [Step(calls=(Call("recall", '{"key": "tea"}'),), delay=3), Step("I see.")]
    with client.beta.agents.sessions.stream(session.id, input="what tea?") as stream:
        stream.with_result_collection()
        client.beta.agents.sessions.events.create(session.id, events=[message("green, I think")])
        events = list(stream)
    assert kinds(events)[-1] == "idle"
    eventually(lambda: read(client, session.id).status == "idle")
    items = list(client.beta.agents.sessions.items.list(session.id, order="asc"))
    said = [item.content[0].text for item in items if item.type == "message" and item.role == "user"]
    assert said == ["what tea?", "green, I think"]


def test_a_turn_is_cancelled_while_it_runs_and_while_it_waits(client: openai.OpenAI, model: ModelServer) -> None:
    session = begun(client)
    asked(client, session.id, "warm")
    cancel: Any = {"type": "agent.session.input.cancel"}
    model.steps += [Step("late", delay=30)]
    with client.beta.agents.sessions.stream(session.id, input="slow") as stream:
        client.beta.agents.sessions.events.create(session.id, events=[cancel])
        assert kinds(list(stream))[-2:] == ["turn.cancelled", "idle"]
    model.steps.clear()
    model.steps += [FORGETS]
    seen = []
    with client.beta.agents.sessions.stream(session.id, input="forget my tea") as stream:
        for event in stream:
            seen.append(event)
            if event.type == "agent.session.requires_action":
                eventually(lambda: read(client, session.id).status == "requires_action")
                client.beta.agents.sessions.events.create(session.id, events=[cancel])
    assert kinds(seen)[-2:] == ["turn.cancelled", "idle"]
    client.beta.agents.sessions.events.create(session.id, events=[cancel])  # nothing runs
    assert [turn.status for turn in client.beta.agents.sessions.turns.list(session.id)] == [
        "cancelled",
        "cancelled",
        "completed",
    ]
    assert asked(client, session.id, "still here?").output_text.endswith("still here?")


def test_a_turn_that_fails_says_why(client: openai.OpenAI, model: ModelServer) -> None:
    session = begun(client)
    model.steps += [error(400, "no such thing")] * 3
    with client.beta.agents.sessions.stream(session.id, input="fail") as stream:
        events = list(stream)
    assert kinds(events)[-2:] == ["turn.failed", "idle"]
    model.steps.clear()
    (turn,) = client.beta.agents.sessions.turns.list(session.id)
    assert turn.status == "failed" and turn.error and "no such thing" in turn.error.message
    assert asked(client, session.id, "again").output_text == "answer 1: again"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"environment": {"type": "openai_hosted"}}, "environment"),
        ({"vault_ids": ["v"]}, "vault_ids"),
        ({"review": "auto_review"}, "review"),
        ({"spend_control": {"limit": 5}}, "spend_control"),
        ({"agent": {"tools": [{"type": "web_search"}]}}, "agent.tools[0]"),
        ({"agent": {"text": {"format": {"type": "json_schema", "schema": {}}}}}, "agent.text.format"),
        ({"agent": {"multi_agent": {"enabled": True}}}, "agent.multi_agent"),
        ({"agent": {"instructions": 7}}, "agent.instructions"),
        ({"agent": []}, "agent"),
        ({"metadata": {"a": "b" * 513}}, "metadata"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"input": {"a": 1}}, "input"),
        ({"input": [{"role": "system", "content": "x"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x/y"}]}]}, "input"),
        ({"stream": True}, "input"),
    ],
)
def test_what_has_no_counterpart_is_refused_with_its_field(
    served: Served, ada: str, more: dict[str, Any], param: str
) -> None:
    with served.http(ada) as http:
        refused = http.post("/v1/agents/sessions", json={"environment": NONE, **more})
        assert refused.status_code == 400, refused.text
        assert refused.json()["error"]["param"] == param and refused.headers["x-should-retry"] == "false"


def test_what_is_not_here_says_so(client: openai.OpenAI, served: Served, ada: str) -> None:
    session = begun(client)
    assert list(client.beta.agents.sessions.artifacts.list(session.id)) == []
    assert [agent.id for agent in client.beta.agents.list()] == ["openai-agent"]
    assert client.beta.agents.retrieve("openai-agent").model == "openai-agent"
    with pytest.raises(openai.NotFoundError, match="no vaults"):
        client.beta.agents.vaults.list()
    with pytest.raises(openai.NotFoundError, match="no environments"):
        client.beta.agents.environments.list()
    with pytest.raises(openai.NotFoundError):
        client.beta.agents.sessions.create(environment=NONE, agent_id="nobody")
    events: list[Any] = [
        [],
        [{"type": "agent.session.input.computer_use_approval_request_result"}],
        [{"type": 7}],
        ["x"],
        [approval("a", "maybe")],
        [approval("a"), approval("a")],
    ]
    with served.http(ada) as http:
        for each in events:
            refused = http.post(f"/v1/agents/sessions/{session.id}/events", json={"events": each})
            assert refused.status_code == 400, refused.text
        for query in ("limit=0", "limit=x", "order=up", "after=nothing", "limit=" + "9" * 5000):
            assert http.get(f"/v1/agents/sessions/{session.id}/items?{query}").status_code == 400


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def test_an_image_comes_with_its_data(client: openai.OpenAI, model: ModelServer) -> None:
    picture = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"}
    content: Any = [{"type": "input_text", "text": "What is this?"}, picture]
    session = begun(client)
    with client.beta.agents.sessions.stream(session.id, input=[{"role": "user", "content": content}]) as stream:
        assert stream.get_final_result().output_text.endswith("What is this?")
    assert PIXEL in str(model.bodies[-1])


def test_the_command_line_shows_what_a_client_has_noted(client: openai.OpenAI, embedded: Program) -> None:
    session = begun(client, metadata={"customer": "7"}, agent={"model": "other"})
    assert asked(client, session.id, "hi").output_text == "answer 1: hi"
    told = embedded.having(FLAME_AGENT_USER="ada")("history", session.id, "--json").json
    assert (told["metadata"], told["model"]) == ({"customer": "7"}, "other")
    assert read(client, session.id).agent.model == "other"


async def test_the_client_for_event_loops_does_the_same(served: Served, ada: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key=ada) as client:
        sessions = client.beta.agents.sessions
        session = await sessions.create(environment=NONE)
        async with sessions.stream(session.id, input="hello") as stream:
            assert (await stream.get_final_result()).output_text == "answer 1: hello"
        assert session.id in [each.id async for each in sessions.list()]
