"""What a user may have: requests, turns at once, tokens and money of a day; and who has used what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.acceptance.program import Program, eventually
from tests.acceptance.server.conftest import Served, serving, token_of
from tests.support.model_server import Call, ModelServer, Step, echo, said
from tests.support.schema import check

AGENT = "openai-agent"


@pytest.fixture
def limited(embedded: Program, served: Served) -> Iterator[Program]:
    yield embedded.having(AGENT_MEMORY="off", AGENT_SUMMARY="off")


def ask(client: openai.OpenAI, text: str, chat: str, **more: Any) -> str:
    asked = client.chat.completions.create(
        model=AGENT, messages=[{"role": "user", "content": text}], extra_headers={"x-chat-id": chat}, **more
    )
    return asked.choices[0].message.content or ""


def slowly(request: dict[str, Any]) -> Step:
    return Step(text="It took a while.", delay=5) if said(request)[-1][1] == "Slowly." else echo(request)


def used(program: Program, user: str) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = program("usage", "--days", "2", "--json").json
    check("usage", lines)
    return [line for line in lines if line["user"] == user]


def test_requests_of_a_minute(limited: Program) -> None:
    token = token_of(limited, "hasty")
    with serving(limited.having(FLAME_AGENT_REQUESTS_A_MINUTE="3")) as server, server.http(token) as http:
        assert [http.get("/v1/models").status_code for _ in range(4)] == [200, 200, 200, 429]
        refused = http.get("/v1/models")
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert 0 < int(refused.headers["retry-after"]) <= 20 and refused.headers["x-should-retry"] == "true"
        assert http.get("/healthz").status_code == 200


def test_turns_at_once_of_a_user_and_of_all(limited: Program, model: ModelServer) -> None:
    model.script = slowly
    busy, other = token_of(limited, "busy"), token_of(limited, "other")
    program = limited.having(FLAME_AGENT_TURNS_AT_ONCE="1")
    with serving(program) as server, server.http(busy) as http, server.openai(busy, max_retries=0) as client:
        body = {"model": AGENT, "messages": [{"role": "user", "content": "Slowly."}], "stream": True}
        with http.stream("POST", "/v1/chat/completions", json=body, headers={"x-chat-id": "slow"}) as response:
            assert response.status_code == 200
        with pytest.raises(openai.RateLimitError, match="1 turn of yours run") as refused:
            ask(client, "And me?", "another")
        assert refused.value.response.headers["retry-after"] == "5"
        with server.openai(other) as theirs:
            assert ask(theirs, "And me?", "theirs") == "answer 1: And me?"
        # The same request again is no other turn.
        assert "It took a while." in http.post("/v1/chat/completions", json=body, headers={"x-chat-id": "slow"}).text
        eventually(lambda: not _is_refused(http, "another"))
    with serving(limited.having(FLAME_AGENT_ALL_TURNS_AT_ONCE="1")) as server, server.http(busy) as http:
        with http.stream("POST", "/v1/chat/completions", json=body, headers={"x-chat-id": "slow too"}) as response:
            assert response.status_code == 200
        with (
            server.openai(other, max_retries=0) as theirs,
            pytest.raises(openai.RateLimitError, match="of all users"),
        ):
            ask(theirs, "And me?", "theirs too")


def _is_refused(http: httpx2.Client, chat: str) -> bool:
    body = {"model": AGENT, "messages": [{"role": "user", "content": "And me?"}]}
    return http.post("/v1/chat/completions", json=body, headers={"x-chat-id": chat}).status_code == 429


def test_tokens_and_money_of_a_day(limited: Program, tmp_path: Path) -> None:
    token = token_of(limited, "thrifty")
    home = tmp_path / "home"
    home.mkdir()
    program = limited.having(HOME=str(home), AGENT_MODEL="priced")
    settings = program.settings
    settings.parent.mkdir(parents=True)
    settings.write_text("[prices.priced]\ninput = 1_000_000\noutput = 0\n")
    with serving(limited.having(FLAME_AGENT_TOKENS_A_DAY="1")) as server, server.openai(token) as client:
        first = ask(client, "How much is it?", "a")
        (line,) = used(limited, "thrifty")
        assert (line["turns"], line["application"]) == (1, AGENT) and line["input_tokens"] > 0
        with pytest.raises(openai.RateLimitError, match="your 1 tokens of today") as refused:
            ask(client, "And now?", "b")
        assert refused.value.code == "budget_reached"
        assert refused.value.response.headers["x-should-retry"] == "false"
        assert ask(client, "How much is it?", "a") == first  # it is there
    with serving(program.having(FLAME_AGENT_MONEY_A_DAY="1e9")) as server, server.openai(token) as client:
        ask(client, "How much is it?", "c")
    (priced,) = [line for line in used(program, "thrifty") if line["model"] == "priced"]
    assert priced["cost"] == priced["input_tokens"]
    shown = program("usage", "--days", "1").out
    head = shown.splitlines()[0].split()
    assert head[4:6] == ["turns", "failed"] and head[-1] == "cost" and "thrifty" in shown
    with (
        serving(program.having(FLAME_AGENT_MONEY_A_DAY="1")) as server,
        server.openai(token) as client,
        pytest.raises(openai.RateLimitError, match="your money of today"),
    ):
        ask(client, "And now?", "d")
    assert "the settings have no `prices`" in limited.having(FLAME_AGENT_MONEY_A_DAY="1")("serve", code=2).err


def test_a_budget_that_is_used_up_within_a_turn_ends_it(limited: Program, model: ModelServer) -> None:
    token, *others = (token_of(limited, name) for name in ("eager", "keen", "avid", "ardent"))
    looks = Step(calls=(Call("recall", '{"key": "tea"}'),))

    def asked() -> int:
        return sum(request.path.endswith(("/chat/completions", "/responses")) for request in model.requests)

    with (
        serving(limited.having(FLAME_AGENT_TOKENS_A_DAY="1")) as server,
        server.http(token) as http,
        server.openai(others[0], max_retries=0) as chatting,
        server.openai(others[1], max_retries=0) as responding,
        server.openai(others[2], max_retries=0) as of_agents,
    ):
        session = http.post("/v1/sessions", json={}).json()["session_id"]
        turns, body, before = f"/v1/sessions/{session}/turns", {"question": "Which tea?"}, asked()
        model.steps += [looks]
        refused = http.post(turns, json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "budget_reached")
        assert refused.json()["error"]["message"].startswith("You have used your 1 tokens of today (UTC).")
        assert refused.headers["x-should-retry"] == "false" and int(refused.headers["retry-after"]) > 0
        assert asked() == before + 1
        model.steps += [looks]
        with pytest.raises(openai.RateLimitError, match="your 1 tokens of today") as limit:
            ask(chatting, "Which tea?", "tea")
        assert limit.value.code == "budget_reached"
        model.steps += [looks]
        response = responding.responses.create(model=AGENT, input="Which tea?")
        assert response.status == "failed" and response.error is not None
        assert response.error.code == "rate_limit_exceeded" and "your 1 tokens" in response.error.message
        model.steps += [looks]
        agents: Any = of_agents.beta.agents.sessions
        events = agents.create(agent_id=AGENT, environment={"type": "none"}, input="Which tea?", stream=True)
        told = [event for event in events if event.type.endswith(("failed", "idle", "budget_reached"))]
        assert [event.type for event in told] == ["agent.session.turn.failed", "agent.session.budget_reached"]
        assert told[0].turn.error.code == "session_budget_exceeded"
        assert told[1].session.status == "budget_reached"
        assert asked() == before + 4 and not model.steps
        assert http.get(f"/v1/sessions/{session}/history").json()["turns"] == []
        # What a failed turn has used is used.
        (line,) = used(limited, "eager")
        assert (line["turns"], line["failed"], line["requests"]) == (0, 1, 1) and line["input_tokens"] > 0
        assert http.post(turns, json=body).status_code == 429
        assert asked() == before + 4
    with serving(limited.having(FLAME_AGENT_TOKENS_A_DAY="1000000")) as server, server.http(token) as http:
        model.steps += [looks, Step("Green.")]
        assert http.post(turns, json=body).json()["answer"] == "Green."
        found = used(limited, "eager")
        assert (sum(each["turns"] for each in found), sum(each["requests"] for each in found)) == (1, 3)
        model.steps += [looks, Step("Black.")]
        assert http.post(f"/v1/sessions/{session}/retry", json={}).json()["answer"] == "Black."


def test_a_decision_that_nothing_is_left_for_is_not_carried_out(limited: Program, model: ModelServer) -> None:
    token = token_of(limited, "decisive")
    with serving(limited) as server, server.http(token) as http:
        model.steps += [Step(calls=(Call("forget", '{"key": "tea"}'),))]
        session = http.post("/v1/sessions", json={}).json()["session_id"]
        (call,) = http.post(f"/v1/sessions/{session}/turns", json={"question": "Forget."}).json()["pending"]
    decisions, body = f"/v1/sessions/{session}/decisions", {"approve": [call["id"]]}
    with serving(limited.having(FLAME_AGENT_TOKENS_A_DAY="1")) as server, server.http(token) as http:
        refused = http.post(decisions, json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "budget_reached")
        waiting = http.get(f"/v1/sessions/{session}/history").json()["waiting"]
        assert waiting is not None and waiting["decision"] is None
    with serving(limited) as server, server.http(token) as http:
        model.steps += [Step("Forgotten.")]
        assert http.post(decisions, json=body).json()["answer"] == "Forgotten."


def test_turns_that_were_taken_back_count_and_copies_do_not(limited: Program) -> None:
    program = limited.having(FLAME_AGENT_USER="copier")
    asked = program("-m", "once", "--json").json
    program("-s", asked["session_id"], "-m", "twice", "-q")
    program("fork", asked["session_id"])
    program("rewind", asked["session_id"], "--to", "1")
    assert sum(line["turns"] for line in used(program, "copier")) == 2
    program("delete", asked["session_id"], "--yes")
    assert used(program, "copier") == []
