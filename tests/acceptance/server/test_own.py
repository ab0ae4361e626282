"""Our own routes: sessions, turns with events, decisions, copies, rewinds, memory; and whose they are."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx2
import pytest

from tests.acceptance.program import Program, eventually
from tests.acceptance.server.conftest import Served, serving, token_of
from tests.support import schema
from tests.support.model_server import Call, ModelServer, Step, error


@pytest.fixture
def http(served: Served, ada: str) -> Any:
    with served.http(ada) as client:
        yield client


def begun(http: httpx2.Client, **body: Any) -> str:
    answer = http.post("/v1/sessions", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["session_id"])


def asked(http: httpx2.Client, session: str, question: str, key: str = "", **body: Any) -> dict[str, Any]:
    headers = {"idempotency-key": key} if key else {}
    answer = http.post(f"/v1/sessions/{session}/turns", json={"question": question, **body}, headers=headers)
    assert answer.status_code == 200, answer.text
    schema.check("question", answer.json())
    return dict(answer.json())


def events(answer: httpx2.Response) -> list[dict[str, Any]]:
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
    return [
        json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line.startswith("data: ")
    ]


def test_a_session_is_begun_asked_listed_named_and_deleted(http: httpx2.Client) -> None:
    session = begun(http, prompt="Be brief.", title="About rain")
    reply = asked(http, session, "Will it rain?")
    assert reply["status"] == "answered" and reply["turn"] == 1
    listed = http.get("/v1/sessions", params={"search": "about rain"}).json()
    assert [(each["session_id"], each["turns"], each["owner"]) for each in listed] == [(session, 1, "ada")]
    assert http.patch(f"/v1/sessions/{session}", json={"title": "Sun"}).json() == {
        "session_id": session,
        "title": "Sun",
    }
    assert http.get(f"/v1/sessions/{session}").json()["title"] == "Sun"
    history = http.get(f"/v1/sessions/{session}/history").json()
    assert history["prompt"] == "Be brief." and history["turns"][0]["question"] == "Will it rain?"
    assert "Will it rain?" in http.get(f"/v1/sessions/{session}/export", params={"format": "md"}).text
    assert http.get(f"/v1/sessions/{session}/export").json()["turns"][0]["answer"] == reply["answer"]
    assert http.post(f"/v1/sessions/{session}/close", json={}).json()["state"] == "closed"
    assert http.post(f"/v1/sessions/{session}/turns", json={"question": "And?"}).status_code == 409
    assert http.delete(f"/v1/sessions/{session}").json() == {"deleted": [session]}
    assert http.get(f"/v1/sessions/{session}").status_code == 404


def test_a_turn_that_failed_is_told_with_the_history_to_whose_it_is(
    http: httpx2.Client, served: Served, bob: str, model: ModelServer
) -> None:
    session = begun(http)
    asked(http, session, "Will it rain?")
    model.steps.append(error(400, "the model is ill"))
    refused = http.post(f"/v1/sessions/{session}/turns", json={"question": "And the wind?"})
    assert refused.status_code >= 400, refused.text
    history = http.get(f"/v1/sessions/{session}/history").json()
    (failed,) = history["failures"]
    assert (failed["question"], failed["code"], failed["user"]) == ("And the wind?", "model", "ada")
    assert "the model is ill" in failed["reason"]
    assert history["turns"][0]["timing"]["total"] >= history["turns"][0]["timing"]["ran"] > 0
    with served.http(bob) as other:
        assert other.get(f"/v1/sessions/{session}/history").status_code == 404


def test_events_are_the_same_for_whoever_comes_back_and_on_another_server(
    http: httpx2.Client, served: Served, embedded: Program, ada: str
) -> None:
    session = begun(http)
    told = events(http.post(f"/v1/sessions/{session}/turns", json={"question": "Tell me", "stream": True}))
    turn = told[0]["turn_id"]
    assert [each["type"] for each in told if each["type"] != "progress"][-1] == "done"
    numbered = [each for each in told if each.get("number") and each["type"] != "done"]
    with serving(embedded) as another, another.http(ada) as there:
        again = events(there.get(f"/v1/sessions/{session}/turns/{turn}/events"))
        assert [each for each in again if each.get("number") and each["type"] != "done"] == numbered
        last = numbered[-1]["number"]
        rest = events(there.get(f"/v1/sessions/{session}/turns/{turn}/events", params={"after": last}))
        assert [each["type"] for each in rest if each.get("number")] == ["done"]


def test_a_question_with_a_key_is_asked_once(http: httpx2.Client, model: ModelServer) -> None:
    session = begun(http)
    key = {"idempotency-key": "k1"}
    before = len(model.bodies)
    body = {"question": "Once?"}
    replies = [http.post(f"/v1/sessions/{session}/turns", json=body, headers=key).json() for _ in range(3)]
    assert len({reply["turn_id"] for reply in replies}) == 1 and [each["turn"] for each in replies] == [1, 1, 1]
    assert len(model.bodies) == before + 1
    other = http.post(f"/v1/sessions/{session}/turns", json={"question": "Other?"}, headers=key)
    assert other.status_code == 409
    twice = [http.post("/v1/sessions", json={}, headers=key).json()["session_id"] for _ in range(2)]
    assert twice[0] == twice[1]


def test_a_request_that_a_client_repeats_by_itself_comes_to_the_same_turn(
    http: httpx2.Client, served: Served, embedded: Program, ada: str, model: ModelServer
) -> None:
    session = begun(http)
    body = {"question": "Repeated?"}
    first = http.post(f"/v1/sessions/{session}/turns", json=body).json()
    with serving(embedded) as another, another.http(ada) as there:
        headers = {"x-stainless-retry-count": "1"}
        again = there.post(f"/v1/sessions/{session}/turns", json=body, headers=headers).json()
    assert (again["turn_id"], again["turn"]) == (first["turn_id"], 1)
    on_purpose = http.post(f"/v1/sessions/{session}/turns", json=body).json()
    assert on_purpose["turn"] == 2


def test_a_call_waits_for_a_decision_with_a_reason(http: httpx2.Client, model: ModelServer) -> None:
    session = begun(http)
    model.steps += [Step(calls=(Call("forget", '{"key": "tea"}'),))]
    waiting = asked(http, session, "Forget it", key="k")
    assert waiting["status"] == "awaiting_approval" and waiting["pending"][0]["tool"] == "forget"
    busy = http.post(f"/v1/sessions/{session}/turns", json={"question": "And now?"})
    assert busy.status_code == 409 and busy.json()["reply"]["status"] == "awaiting_approval"
    call = waiting["pending"][0]["id"]
    decided = http.post(f"/v1/sessions/{session}/decisions", json={"reject": [call], "reason": "Keep it."}).json()
    assert decided["status"] == "answered"
    again = asked(http, session, "Forget it", key="k")
    assert (again["status"], again["turn_id"]) == ("answered", waiting["turn_id"])
    history = http.get(f"/v1/sessions/{session}/history").json()
    assert (history["turns"][-1]["decisions"][0]["by"], history["turns"][-1]["decisions"][0]["reason"]) == (
        "ada",
        "Keep it.",
    )
    assert http.post(f"/v1/sessions/{session}/decisions", json={"approve": [call]}).status_code == 409


def test_copies_rewinds_and_retries(http: httpx2.Client, model: ModelServer) -> None:
    session = begun(http)
    for question in ("one", "two"):
        asked(http, session, question)
    copy = http.post(f"/v1/sessions/{session}/fork", json={"at": 1}).json()
    schema.check("fork", copy)
    assert http.get(f"/v1/sessions/{copy['session_id']}").json()["owner"] == "ada"
    key = {"idempotency-key": "again"}
    again = [http.post(f"/v1/sessions/{session}/retry", json={}, headers=key).json() for _ in range(2)]
    assert [each["turn"] for each in again] == [2, 2] and again[0]["turn_id"] == again[1]["turn_id"]
    rewound = http.post(f"/v1/sessions/{session}/rewind", json={"turns": 1}).json()
    schema.check("rewind", rewound)
    assert rewound["turns"] == 1
    assert http.post(f"/v1/sessions/{session}/rewind", json={"turns": 7}).status_code == 400


def test_a_turn_is_steered_and_cancelled_while_it_runs(http: httpx2.Client, model: ModelServer) -> None:
    session = begun(http)
    asked(http, session, "warm")
    path = f"/v1/sessions/{session}/turns"
    model.steps += [Step("late", delay=60)]
    with http.stream("POST", path, json={"question": "cancel me", "stream": True}) as running:
        lines = running.iter_lines()
        turn = json.loads(next(lines).removeprefix("data: "))["turn_id"]
        assert http.post(f"{path}/{turn}/cancel", json={}).json() == {"turn_id": turn, "cancelled": True}
        told = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert told[-1]["type"] == "failed" and told[-1]["error"]["code"] == "cancelled"
    assert http.get(f"{path}/nothing/events").status_code == 400
    assert http.get(f"/v1/sessions/{session}").json()["turns"] == 1


def test_images_go_with_a_question(http: httpx2.Client) -> None:
    session = begun(http)
    note = {"name": "note.txt", "data": base64.b64encode(b"The code is 4711.").decode()}
    reply = asked(http, session, "What is the code?", attachments=[note])
    assert len(reply["attachments"]) == 1
    wrong = http.post(
        f"/v1/sessions/{session}/turns", json={"question": "?", "attachments": [{"name": "a", "data": "%"}]}
    )
    assert wrong.status_code == 400 and wrong.json()["error"]["param"] == "attachments"


def test_what_is_anothers_does_not_exist(http: httpx2.Client, served: Served, bob: str) -> None:
    session = begun(http)
    turn = asked(http, session, "mine")["turn_id"]
    with served.http(bob) as other:
        assert session not in other.get("/v1/sessions").text
        base = f"/v1/sessions/{session}"
        answers = [
            other.get(base),
            other.get(f"{base}/history"),
            other.get(f"{base}/export"),
            other.patch(base, json={"title": "x"}),
            other.post(f"{base}/turns", json={"question": "x"}),
            other.post(f"{base}/retry", json={}),
            other.post(f"{base}/rewind", json={"turns": 0}),
            other.post(f"{base}/fork", json={}),
            other.post(f"{base}/decisions", json={}),
            other.post(f"{base}/close", json={}),
            other.get(f"{base}/turns/{turn}/events"),
            other.post(f"{base}/turns/{turn}/cancel", json={}),
            other.delete(base),
        ]
        missing = other.get("/v1/sessions/openai-agent-nowhere")
        for answer in answers:
            assert answer.status_code == 404
            assert answer.json()["error"]["message"] == f'There is no session "{session}".'
        assert missing.json()["error"]["message"] == 'There is no session "openai-agent-nowhere".'
    for part in (session[:-1], session.upper(), session[3:]):
        assert http.get(f"/v1/sessions/{part}").status_code == 404
    assert http.get(f"/v1/sessions/{session}").json()["turns"] == 1


def test_memory_is_of_who_asks(own: Program) -> None:
    with (
        serving(own.having(FLAME_AGENT_USER="owner")) as server,
        server.http(token_of(own, "ada")) as ada,
        server.http(token_of(own, "bob")) as bob,
    ):
        session = begun(ada)
        asked(ada, session, "I keep bees in Lisbon")
        found = eventually(lambda: ada.get("/v1/memory/search", params={"text": "bees"}).json())
        schema.check("memory search", found)
        assert found[0]["question"] == "I keep bees in Lisbon"
        assert bob.get("/v1/memory/search", params={"text": "bees"}).json() == []
        schema.check("memory list", ada.get("/v1/memory").json())
        schema.check("memory export", ada.get("/v1/memory/export").json())
        assert ada.delete("/v1/memory/facts/none").json() == {"key": "none", "forgotten": False, "sessions": []}
        erased = ada.delete("/v1/memory", params={"sessions": "true"}).json()
        schema.check("memory erase", erased)
        assert erased["sessions"] == [session] and ada.get("/v1/sessions").json() == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "question"),
        ({"question": ""}, "question"),
        ({"question": 7}, "question"),
        ({"question": "x", "user": "bob"}, "user"),
        ({"question": "x", "running": "never"}, "running"),
        ({"question": "x", "data": []}, "data"),
        ({"question": "x", "attachments": [{"name": "a"}]}, "data"),
        ({"question": " "}, None),
    ],
)
def test_what_does_not_fit_is_named(http: httpx2.Client, body: dict[str, Any], param: str | None) -> None:
    refused = http.post(f"/v1/sessions/{begun(http)}/turns", json=body)
    assert refused.status_code == 400
    assert param is None or param in str(refused.json()["error"])


@pytest.mark.parametrize(
    "content", [b"[]", b"{", b"\xff", b"null", b"[" * 100_000, b'{"a":' * 500 + b"1" + b"}" * 500]
)
def test_a_body_that_is_no_object_is_refused(http: httpx2.Client, content: bytes) -> None:
    refused = http.post("/v1/sessions", content=content)
    assert refused.status_code == 400 and refused.json()["error"]["code"] == "invalid_json"
