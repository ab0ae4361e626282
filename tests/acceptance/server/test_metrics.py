"""What a server tells Prometheus: of known turns, of refusals, and of the embedded engine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.program import Program, eventually
from tests.acceptance.server.conftest import Served, serving, token_of
from tests.support.model_server import Call, ModelServer, Step, error

AGENT = "openai-agent"
FORGETS = Step(calls=(Call("forget", '{"key": "tea"}'),))


@pytest.fixture
def plain(embedded: Program, served: Served) -> Iterator[Program]:
    prices = '{"priced": {"input": 1000000, "output": 2000000}}'
    yield embedded.having(AGENT_MEMORY="off", AGENT_SUMMARY="off", AGENT_MODEL="priced", FLAME_AGENT_PRICES=prices)


class Metrics:
    """The metrics of a server, as its admin `prometheus` reads them."""

    def __init__(self, server: Served, token: str) -> None:
        self._server = server
        self._token = token

    def text(self) -> str:
        with self._server.http(self._token) as http:
            return str(http.get("/metrics").text)

    def value(self, name: str, **labels: str) -> float:
        """The value of a sample with these labels, among others; all of them together, 0 where there is none."""
        families = text_string_to_metric_families(self.text())
        samples = [each for family in families for each in family.samples if each.name == name]
        return sum(each.value for each in samples if labels.items() <= each.labels.items())

    def outcomes(self) -> dict[str, float]:
        families = text_string_to_metric_families(self.text())
        samples = [
            each for family in families for each in family.samples if each.name == "flame_agent_turns_ended_total"
        ]
        return {each.labels["outcome"]: each.value for each in samples if each.value}


@pytest.fixture(scope="session")
def prometheus(served: Served, embedded: Program) -> str:
    token: str = embedded("users", "add", "scraper", "--admin", "--json").json["token"]
    return token


def ask(http: httpx2.Client, session: str, question: str, status: int = 200) -> httpx2.Response:
    answered = http.post(f"/v1/sessions/{session}/turns", json={"question": question})
    assert answered.status_code == status, answered.text
    return answered


def test_turns_are_counted_by_what_became_of_them(plain: Program, prometheus: str, model: ModelServer) -> None:
    with serving(plain) as server, server.http(token_of(plain, "counted")) as http:
        metrics = Metrics(server, prometheus)
        session = http.post("/v1/sessions", json={}).json()["session_id"]
        usage = ask(http, session, "one").json()["usage"]
        assert metrics.outcomes() == {"answered": 1}
        model.steps += [error(400)]
        ask(http, session, "two", 500)
        model.steps += [FORGETS]
        (call,) = ask(http, session, "forget").json()["pending"]
        assert metrics.outcomes() == {"answered": 1, "model": 1, "awaiting_approval": 1}
        model.steps += [Step("Forgotten.")]
        decided = http.post(f"/v1/sessions/{session}/decisions", json={"approve": [call["id"]]}).json()
        assert metrics.outcomes() == {"answered": 2, "model": 1, "awaiting_approval": 1}
        for kind in ("input", "output"):
            used = usage[f"{kind}_tokens"] + decided["usage"][f"{kind}_tokens"]
            assert metrics.value("flame_agent_tokens_total", agent=AGENT, model="priced", kind=kind) == used
        tokens = [usage[f"{kind}_tokens"] + decided["usage"][f"{kind}_tokens"] for kind in ("input", "output")]
        assert metrics.value("flame_agent_cost_total", agent=AGENT, model="priced") == tokens[0] + 2 * tokens[1]
        assert metrics.value("flame_agent_turn_seconds_count", agent=AGENT) == 4
        assert metrics.value("flame_agent_turn_first_event_seconds_count", agent=AGENT) >= 3
        # The same turn again, by whoever asks for it, is no other one.
        turn = f"/v1/sessions/{session}/turns/{decided['turn_id']}/events"
        assert http.get(turn).status_code == 200
        assert metrics.outcomes() == {"answered": 2, "model": 1, "awaiting_approval": 1}


def test_a_turn_that_nobody_follows_is_looked_up(plain: Program, prometheus: str, model: ModelServer) -> None:
    with serving(plain) as server, server.openai(token_of(plain, "absent")) as client:
        metrics = Metrics(server, prometheus)
        client.responses.create(model=AGENT, input="Do it.", background=True)
        eventually(lambda: metrics.outcomes() == {"answered": 1}, seen=metrics.text)
        model.steps += [error(400)]
        client.responses.create(model=AGENT, input="And that.", background=True)
        eventually(lambda: metrics.outcomes() == {"answered": 1, "model": 1}, seen=metrics.text)


def test_streams_are_counted_while_they_are_open(plain: Program, prometheus: str, model: ModelServer) -> None:
    token = token_of(plain, "listening")
    with serving(plain) as server, server.http(token) as http:
        metrics, route = Metrics(server, prometheus), "/v1/chat/completions"
        model.steps += [Step("It takes a while.", chunk_delay=1)]
        body = {"model": AGENT, "messages": [{"role": "user", "content": "Tell me."}], "stream": True}
        with http.stream("POST", route, json=body) as response:
            assert response.status_code == 200
            assert metrics.value("flame_agent_http_open_streams", route=route) == 1
            response.read()
        eventually(lambda: metrics.value("flame_agent_http_open_streams", route=route) == 0)
        assert metrics.value("flame_agent_http_request_seconds_count", route=route) == 1
        assert metrics.value("flame_agent_http_request_seconds_sum", route=route) > 1


def test_refusals_by_limits_are_counted(plain: Program, prometheus: str) -> None:
    greedy = plain.having(FLAME_AGENT_TOKENS_A_DAY="1", FLAME_AGENT_REQUESTS_A_MINUTE="20")
    token = token_of(plain, "greedy")
    with serving(greedy) as server, server.http(token) as http:
        metrics = Metrics(server, prometheus)
        session = http.post("/v1/sessions", json={}).json()["session_id"]
        ask(http, session, "one")
        ask(http, session, "two", 429)
        assert metrics.value("flame_agent_limit_refusals_total", limit="budget_reached") == 1
        while http.get("/v1/models").status_code == 200:
            pass
        assert metrics.value("flame_agent_limit_refusals_total", limit="rate_limit") == 1


def test_the_embedded_engine_is_in_it_and_promtool_finds_nothing_wrong(served: Served, prometheus: str) -> None:
    metrics = Metrics(served, prometheus)
    assert metrics.value("localflame_start_time_seconds") > 0
    assert metrics.value("localflame_sessions", application=AGENT) > 0
    if shutil.which("promtool"):
        told = metrics.text()
        checked = subprocess.run(["promtool", "check", "metrics"], input=told, capture_output=True, text=True)
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
